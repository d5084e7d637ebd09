//! Requests of every API and version from arbitrary bytes, header first.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/request_decoder.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::request_decoder(data));
