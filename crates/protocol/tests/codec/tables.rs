//! Messages made by the schema tables go through the generated code unchanged, in every version.

use crate::filler::fill;
use bytes::Bytes;
use ottla_protocol::schema::{self, Schema};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Tapes: mostly random bytes, some of one value only, so that every choice is also met everywhere at once.
pub fn tapes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..600),
        1 => any::<u8>().prop_map(|byte| vec![byte; 2000]),
    ]
}

/// Runs `check` on `cases` tapes for every message in every version that `versions` picks; gives how many there were.
pub fn every(cases: u32, check: impl Fn(&'static Schema, i16, &[u8]) -> Result<(), TestCaseError>) -> usize {
    let mut count = 0;
    for schema in schema::ALL {
        for version in schema.versions.min..=schema.versions.max {
            count += 1;
            let mut runner =
                TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
            let result = runner.run(&tapes(), |tape| check(schema, version, &tape));
            if let Err(error) = result {
                panic!("{} {version}: {error}", schema.name);
            }
        }
    }
    count
}

#[test]
fn what_the_tables_encode_is_read_and_written_back() {
    let count = every(64, |schema, version, tape| {
        let message = Bytes::from(fill(schema, version, tape));
        let again = (schema.recode)(message.clone(), version);
        prop_assert_eq!(again.as_ref(), Ok(&message));
        Ok(())
    });
    println!("{count} messages and versions");
    assert!(count > 400, "{count} messages and versions are fewer than the specification has");
}

#[test]
fn a_message_cut_short_or_followed_by_a_byte_is_refused() {
    every(8, |schema, version, tape| {
        let message = Bytes::from(fill(schema, version, tape));
        let cut = tape.iter().map(|b| usize::from(*b)).sum::<usize>() % message.len().max(1);
        if !message.is_empty() {
            prop_assert!((schema.decode)(message.slice(..cut), version).is_err());
        }
        let longer = Bytes::from([&message[..], &[0]].concat());
        prop_assert!((schema.decode)(longer, version).is_err());
        Ok(())
    });
}
