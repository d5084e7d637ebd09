//! What people see, word for word. After a wanted change: `OTTLA_GOLDEN=write cargo test -p ottla-dump golden`, and read the difference.

use std::path::Path;

use bytes::Bytes;
use ottla_dump::file::{FileOptions, show};
use ottla_dump::filter::Filter;
use ottla_dump::frame::Direction;
use ottla_dump::printer::Format;
use ottla_dump::session::Sessions;

use crate::support::{Kept, kafka_directory, printer, recorded, request, seen};

fn check(name: &str, kept: &Kept) {
    check_text(name, &kept.text());
}

fn check_text(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    // Blanks at the ends of lines are no difference that anyone sees.
    let lines: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    let text = lines.join("\n") + "\n";
    if std::env::var_os("OTTLA_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap();
    assert!(want == text, "{} differs:\n{text}", path.display());
}

/// The first exchange of each API in a recorded session.
fn exchanges(format: Format, apis: &[i16]) -> Kept {
    let (mut printer, kept) = printer(format);
    let mut sessions = Sessions::new(Filter::default(), false);
    let mut shown = std::collections::BTreeSet::new();
    for seen in recorded("aiokafka") {
        let frame = sessions.see(seen).unwrap();
        let key = frame.api.unwrap().key;
        let direction = frame.direction.name();
        if apis.contains(&key) && shown.insert((key, direction)) {
            printer.frame(&frame).unwrap();
        }
    }
    assert_eq!(shown.len(), 2 * apis.len());
    kept
}

const METADATA: i16 = 3;
const PRODUCE: i16 = 0;
const JOIN_GROUP: i16 = 11;

#[test]
fn frames_as_text() {
    check("frames.txt", &exchanges(Format::Text { hex: false }, &[PRODUCE, METADATA, JOIN_GROUP]));
}

#[test]
fn frames_with_hex() {
    check("frames-hex.txt", &exchanges(Format::Text { hex: true }, &[METADATA]));
}

#[test]
fn frames_as_json() {
    check("frames.jsonl", &exchanges(Format::Json, &[PRODUCE, METADATA, JOIN_GROUP]));
}

#[test]
fn a_frame_that_does_not_decode() {
    let (mut printer, kept) = printer(Format::Text { hex: false });
    let mut sessions = Sessions::new(Filter::default(), false);
    let broken = request(3, 4, 7, false, &[0, 0, 0, 2, 0, 1, b'a', 0, 50, b'b', b'c', 1]);
    printer.frame(&sessions.see(seen(Direction::Request, broken)).unwrap()).unwrap();
    printer
        .frame(&sessions.see(seen(Direction::Response, Bytes::from_static(b"\0\0\0\x09??"))).unwrap())
        .unwrap();
    check("broken.txt", &kept);
}

/// Parts of Kafka's data directory.
fn file(names: &[&str], golden: &str, format: Format) {
    let directory = kafka_directory("log-dir");
    let data = directory.path().join("data");
    let (mut printer, kept) = printer(format);
    for name in names {
        assert!(show(&data.join(name), &FileOptions::default(), &mut printer).unwrap());
    }
    // The temporary directory's name is not the same twice.
    check_text(golden, &kept.text().replace(data.to_str().unwrap(), "data"));
}

#[test]
fn a_segment() {
    file(&["transactions-0/00000000000000000000.log"], "segment.txt", Format::Text { hex: false });
    file(&["transactions-0/00000000000000000000.log"], "segment.jsonl", Format::Json);
}

#[test]
fn an_offsets_topic() {
    file(&["__consumer_offsets-10/00000000000000000000.log"], "offsets.txt", Format::Text { hex: false });
}

const SMALL: [&str; 8] = [
    "transactions-0/00000000000000000010.index",
    "transactions-0/00000000000000000010.timeindex",
    "transactions-0/00000000000000000010.txnindex",
    "transactions-0/00000000000000000073.snapshot",
    "epochs-0/leader-epoch-checkpoint",
    "log-start-offset-checkpoint",
    "epochs-0/partition.metadata",
    "__cluster_metadata-0/quorum-state",
];

#[test]
fn small_files() {
    file(&SMALL, "small.txt", Format::Text { hex: false });
    file(&SMALL, "small.jsonl", Format::Json);
}

#[test]
fn a_metadata_snapshot() {
    let name = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint";
    file(&[name], "snapshot.txt", Format::Text { hex: false });
}
