//! The fuzz target's corpus, replayed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../../../../fuzz/bodies/record_batch.rs"]
mod body;

#[test]
fn every_input_of_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/record_batch");
    let mut inputs = BTreeSet::new();
    for entry in fs::read_dir(corpus).expect("the corpus is checked in") {
        let input = fs::read(entry.expect("readable").path()).expect("readable");
        body::record_batch(&input);
        inputs.insert(input);
    }
    println!("{} distinct inputs", inputs.len());
    assert!(inputs.len() >= 20, "{} inputs", inputs.len());
}
