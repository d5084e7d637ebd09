//! What frames of somebody who means ill cost: memory stays bounded, and something is said. One test, so that nothing else allocates
//! meanwhile; an allocation beyond the bound ends it.

#![allow(clippy::print_stdout, reason = "the figures belong to the test")]

use std::alloc::System;

use bytes::Bytes;
use cap::Cap;
use ottla_dump::filter::Filter;
use ottla_dump::frame::Direction;
use ottla_dump::printer::{Format, Printer};
use ottla_dump::session::{Seen, Sessions};
use ottla_protocol::records::{Builder, Compression};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const MIB: usize = 1 << 20;

/// Takes a request apart and prints it in both forms to nowhere, in no more memory than `most`; gives why it failed.
fn within(most: usize, bytes: Bytes) -> Option<String> {
    let mut sessions = Sessions::new(Filter::default(), false);
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + most).expect("less is in use");
    let seen = Seen { direction: Direction::Request, connection: 1, time_us: None, bytes };
    let shown = sessions.see(seen).expect("nothing is filtered");
    for format in [Format::Json, Format::Text { hex: false }] {
        let mut printer = Printer::new(format, Box::new(std::io::sink()));
        printer.frame(&shown).expect("a sink takes everything");
    }
    let why = shown.failure.as_ref().map(ToString::to_string);
    drop(shown);
    ALLOCATOR.set_limit(usize::MAX).expect("there is no limit");
    why
}

fn request(key: i16, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0, 1, b't']].concat();
    head.into_iter().chain(flexible.then_some(0)).chain(body.iter().copied()).collect()
}

fn uvarint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[test]
fn hostile_frames_cost_no_more_than_they_may() {
    a_count_that_lies();
    many_tiny_elements();
    bombs();
    envelopes_in_envelopes();
}

/// Metadata 1: an array of topics.
fn a_count_that_lies() {
    for count in [i32::MAX, i32::MIN, -2, 1 << 20] {
        let why = within(MIB, request(3, 1, false, &count.to_be_bytes()));
        assert!(why.expect("it fails").contains("does not fit"));
    }
}

/// Metadata 9 with 2 million topics of no name: 4 MB that would be 400 MB of fields.
fn many_tiny_elements() {
    let count = 2 << 20;
    let mut body = uvarint(count + 1);
    body.extend(std::iter::repeat_n([1, 0], count).flatten());
    let why = within(400 * MIB, request(3, 9, true, &body)).expect("it fails");
    assert!(why.contains("more than 1048576 fields"), "{why}");
}

/// Produce 3 with six batches of 32 MiB each.
fn bombs() {
    for compression in [Compression::Gzip(1), Compression::Zstd(1)] {
        let mut builder = Builder::new(compression);
        let value = vec![b'a'; 8 * MIB];
        for _ in 0..4 {
            builder.append(0, None, Some(&value), &[]).expect("it fits");
        }
        let records = builder.finish().expect("it fits").repeat(6);
        let mut body = vec![0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
        body.extend((records.len() as i32).to_be_bytes());
        body.extend(records);
        println!("{compression:?}: a frame of {} bytes", body.len());
        // 128 MiB of records, and what a vector has beside it while it grows.
        let why = within(420 * MIB, request(0, 3, false, &body)).expect("it fails");
        assert!(why.contains("decompress to more than"), "{why}");
    }
}

/// Envelope 0: the request, no principal, no address.
fn envelopes_in_envelopes() {
    let mut inner = request(18, 0, false, &[]);
    for _ in 0..40 {
        let body = [&uvarint(inner.len() + 1)[..], &inner, &[0, 1, 0]].concat();
        inner = request(58, 0, true, &body);
    }
    assert_eq!(within(MIB, inner), None);
}
