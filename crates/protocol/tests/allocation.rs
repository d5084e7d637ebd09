//! Decoding allocates at most 16 times the frame plus 1 MiB, whatever the frame claims. A test binary of its own, since
//! it counts every allocation of the process.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic anywhere and print its counts"
)]

#[path = "codec/filler.rs"]
mod filler;

use bytes::Bytes;
use cap::Cap;
use filler::{fill, fill_without_foreign_tags};
use ottla_protocol::schema::{self, Schema};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Decodes and gives the bytes that were allocated meanwhile, freed ones too.
fn allocated_by(schema: &Schema, version: i16, frame: Bytes) -> usize {
    let before = ALLOCATOR.total_allocated();
    let result = (schema.decode)(frame, version);
    let after = ALLOCATOR.total_allocated();
    drop(result);
    after - before
}

/// Copies of `message` with huge lengths at each of its first places, in the forms that a length can have.
fn hostile(message: &[u8]) -> Vec<Vec<u8>> {
    let left = message.len() as i32;
    let mut lengths: Vec<Vec<u8>> = vec![
        vec![0xff, 0xff, 0xff, 0xff, 0x07],
        vec![0xff, 0xff, 0xff, 0xff, 0x0f],
        vec![0xff, 0xff, 0xff, 0x7f],
        vec![0x7f, 0xff, 0xff, 0xff],
        vec![0x00, 0x7f, 0xff, 0xff],
        vec![0x80, 0x00, 0x00, 0x00],
    ];
    lengths.push(left.to_be_bytes().to_vec());
    let mut out = Vec::new();
    for at in 0..message.len().min(60) {
        for length in &lengths {
            let mut frame = message.to_vec();
            let end = (at + length.len()).min(frame.len());
            frame[at..end].copy_from_slice(&length[..end - at]);
            out.push(frame);
        }
    }
    out
}

/// Long frames of one byte or a short pattern: arrays of as many of the smallest elements as the frame can hold, at
/// each nesting, and as many unknown tags.
fn monotonous() -> Vec<Vec<u8>> {
    const BYTES: usize = 300_000;
    let mut out = Vec::new();
    for pattern in [&[0u8][..], &[1], &[2], &[0x7f], &[0xff], &[0, 1], &[0, 0, 0, 1], &[1, 0], &[0, 2, 1]] {
        out.push(pattern.iter().copied().cycle().take(BYTES).collect());
        for lead in
            [&[0u8, 3, 0, 0][..], &[0xd0, 0xa5, 0x0f], &[0, 0xd0, 0xa5, 0x0f], &[0, 0, 0, 0, 0, 3, 0, 0]]
        {
            let body = pattern.iter().copied().cycle();
            out.push(lead.iter().copied().chain(body).take(BYTES).collect());
        }
    }
    out
}

#[test]
fn no_frame_makes_the_decoder_allocate_more_than_its_budget() {
    let long = monotonous();
    let (mut frames, mut most) = (0, 0.0_f64);
    let mut check = |schema: &'static Schema, version: i16, frame: Vec<u8>| {
        let size = frame.len();
        let allocated = allocated_by(schema, version, Bytes::from(frame));
        let budget = 16 * size + 1024 * 1024;
        assert!(allocated <= budget, "{} {version}: {allocated} bytes for a frame of {size}", schema.name);
        frames += 1;
        most = most.max(allocated as f64 / budget as f64);
    };
    for schema in schema::ALL {
        for version in schema.versions.min..=schema.versions.max {
            for tape in [&[][..], &[1; 3000], &[2; 3000], &[7, 9, 4, 11, 2, 3, 1, 77, 130, 201].repeat(60)] {
                for frame in hostile(&fill(schema, version, tape)) {
                    check(schema, version, frame);
                }
            }
            for frame in &long {
                check(schema, version, frame.clone());
            }
            check(schema, version, fill_without_foreign_tags(schema, version, &[5; 100]));
        }
    }
    println!("{frames} frames, at most {:.0} % of the budget allocated", most * 100.0);
    // The budget is reached: else nothing was tested.
    assert!(most > 0.5, "no frame came near its budget");
}
