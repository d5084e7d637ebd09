//! Responses and records from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/message_decoder.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::message_decoder(data));
