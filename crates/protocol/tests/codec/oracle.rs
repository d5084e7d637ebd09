//! The same messages through an independent implementation, in the versions that it knows: the third witness. Never on
//! hostile input, since it allocates what a count claims.

use crate::filler::fill_without_foreign_tags;
use crate::tables::every;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use ottla_protocol::schema::{Kind, Schema};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// The bytes it wrote and how many it left unread, or what it said.
type Outcome = Result<(Bytes, usize), String>;

/// What the other implementation makes of the message; `None` where it does not know the version.
fn recode(schema: &Schema, version: i16, message: &Bytes) -> Option<Outcome> {
    let api = ApiKey::try_from(schema.key?).ok()?;
    let known = api.valid_versions();
    // Its list of versions is ahead of some of its messages.
    let missing = match schema.name {
        "InitProducerIdRequest" | "InitProducerIdResponse" => 6,
        "OffsetCommitRequest" | "OffsetCommitResponse" | "OffsetFetchRequest" | "OffsetFetchResponse" => 10,
        _ => i16::MAX,
    };
    if version < known.min || version > known.max || version >= missing {
        return None;
    }
    let mut from = message.clone();
    let mut to = BytesMut::new();
    let result = match schema.kind {
        Kind::Request => {
            RequestKind::decode(api, &mut from, version).and_then(|m| m.encode(&mut to, version))
        }
        Kind::Response => {
            ResponseKind::decode(api, &mut from, version).and_then(|m| m.encode(&mut to, version))
        }
        _ => return None,
    };
    Some(result.map(|()| (to.freeze(), from.len())).map_err(|e| format!("{e:#}")))
}

#[test]
fn an_independent_implementation_reads_and_writes_the_same() {
    let seen = RefCell::new(BTreeSet::new());
    every(32, |schema, version, tape| {
        let message = Bytes::from(fill_without_foreign_tags(schema, version, tape));
        if let Some(again) = recode(schema, version, &message) {
            prop_assert_eq!(again, Ok((message, 0)));
            seen.borrow_mut().insert((schema.name, version));
        }
        Ok(())
    });
    let count = seen.borrow().len();
    println!("{count} messages and versions compared");
    assert!(count > 450, "only {count} messages and versions were compared");
}
