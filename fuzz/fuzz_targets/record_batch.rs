//! Record batches from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../bodies/record_batch.rs"]
mod body;

fuzz_target!(|data: &[u8]| body::record_batch(data));
