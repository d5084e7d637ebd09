//! Streams of frames from arbitrary bytes, cut arbitrarily.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/frame_decoder.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::frame_decoder(data));
