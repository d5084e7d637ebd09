//! The corpora of the fuzz targets, replayed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../../../../fuzz/bodies/frame_decoder.rs"]
mod frame_decoder;
#[path = "../../../../fuzz/bodies/message_decoder.rs"]
mod message_decoder;
#[path = "../../../../fuzz/bodies/request_decoder.rs"]
mod request_decoder;

/// Runs every input of a corpus, and every beginning of it, and it with every byte changed.
fn replay(target: &str, inputs_min: usize, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = BTreeSet::new();
    for entry in fs::read_dir(corpus).unwrap() {
        let input = fs::read(entry.unwrap().path()).unwrap();
        body(&input);
        for at in 0..input.len().min(200) {
            body(&input[..at]);
            let mut changed = input.clone();
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                changed[at] = byte;
                body(&changed);
            }
        }
        inputs.insert(input);
    }
    println!("{target}: {} distinct inputs", inputs.len());
    assert!(inputs.len() >= inputs_min, "{} inputs", inputs.len());
}

#[test]
fn frame_decoder() {
    replay("frame_decoder", 10, frame_decoder::frame_decoder);
}

#[test]
fn message_decoder() {
    replay("message_decoder", 50, message_decoder::message_decoder);
}

#[test]
fn request_decoder() {
    replay("request_decoder", 50, request_decoder::request_decoder);
}
