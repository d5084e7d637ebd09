//! Output in memory, fixtures, frames, and a wait for a condition.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_dump::file::{FileOptions, Recording, show};
use ottla_dump::frame::Direction;
use ottla_dump::printer::{Format, Printer};
use ottla_dump::session::Seen;
use serde_json::Value;

/// Output that is kept.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub fn rows(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A printer and what it prints.
pub fn printer(format: Format) -> (Printer, Kept) {
    let kept = Kept::default();
    (Printer::new(format, Box::new(kept.clone())), kept)
}

/// A file as JSON; it has to decode whole.
pub fn file_rows(path: &Path) -> Vec<Value> {
    let (mut printer, kept) = printer(Format::Json);
    let is_whole = show(path, &FileOptions::default(), &mut printer).unwrap();
    assert!(is_whole, "{}: {}", path.display(), kept.text());
    kept.rows()
}

/// A fixture of another crate.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The frames of a recorded session.
pub fn recorded(name: &str) -> Vec<Seen> {
    let path = fixture(&format!("protocol/tests/fixtures/sessions/{name}.frames"));
    let mut recording = Recording::new(io::BufReader::new(std::fs::File::open(path).unwrap()));
    std::iter::from_fn(|| recording.next_frame().unwrap()).collect()
}

pub const SESSIONS: [(&str, usize); 5] =
    [("aiokafka", 166), ("java-client", 294), ("kafka-python", 102), ("kcat", 116), ("librdkafka", 576)];

/// Kafka's data directory, unpacked.
pub fn kafka_directory(archive: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let archive = fixture(&format!("storage/tests/fixtures/{archive}.tar.gz"));
    let status = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(directory.path()).status();
    assert!(status.unwrap().success());
    directory
}

/// A frame that was seen.
pub fn seen(direction: Direction, bytes: impl Into<Bytes>) -> Seen {
    Seen { direction, connection: 1, time_us: None, bytes: bytes.into() }
}

/// A request: header version 2 where `flexible`, with client id `t`.
pub fn request(key: i16, version: i16, correlation_id: i32, flexible: bool, body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    out.extend(key.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(correlation_id.to_be_bytes());
    out.extend([0, 1, b't']);
    out.extend(flexible.then_some(0));
    out.extend(body);
    Bytes::from(out)
}
