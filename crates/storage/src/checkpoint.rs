//! Kafka's small text checkpoints, and the one way in which small files are replaced: a temporary file, fdatasync, rename,
//! directory sync. After a crash the file is the old one or the new one, whole.
//!
//! Format: line 1 the version (0), line 2 the number of entries, then one entry a line, fields separated by blanks.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use ottla_protocol::ids::Offset;

use crate::files::{Files, Open};
use crate::names::TopicPartition;

/// File that holds, per partition, the offset up to which the log was on disk.
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
/// File that holds, per partition whose log starts inside a segment, where it starts.
pub const LOG_START_OFFSET_FILE: &str = "log-start-offset-checkpoint";
/// File that holds, per partition, what compaction has to look at next.
pub const CLEANER_OFFSET_FILE: &str = "cleaner-offset-checkpoint";
/// File that holds, per partition, the high watermark.
pub const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";

/// Largest small file that is read whole. 10,000 partitions with the longest names are 3 MB.
pub const SMALL_FILE_BYTES_MAX: u64 = 256 << 20;

const VERSION: &str = "0";

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The checkpoint.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The contents are not what was written.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong, with the line.
        why: String,
    },
}

/// Replaces the file `path` by one with `contents`; durable when this returns. The directory must exist. After an error
/// the old file is still there, or the new one if only the last step (the directory sync) failed.
pub fn write_atomically(files: &dyn Files, path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = write_synced(files, &temporary, contents).and_then(|()| files.rename(&temporary, path));
    if let Err(error) = written {
        // Only tidiness: an orphaned temporary file is overwritten by the next attempt.
        drop(files.remove_file(&temporary));
        return Err(error);
    }
    files.sync_dir(dir)
}

fn write_synced(files: &dyn Files, path: &Path, contents: &[u8]) -> io::Result<()> {
    let file = files.open(path, Open::Create)?;
    file.set_len(0)?;
    file.write_all_at(&mut [IoSlice::new(contents)], 0)?;
    file.sync_data()
}

/// Reads a small file whole; `None` when it does not exist.
pub fn read_whole(files: &dyn Files, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match files.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size_bytes = file.size_bytes()?;
    if size_bytes > SMALL_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{size_bytes} bytes")));
    }
    let mut contents = vec![0; usize::try_from(size_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let mut filled = 0;
    while filled < contents.len() {
        match file.read_at(&mut contents[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    contents.truncate(filled);
    Ok(Some(contents))
}

/// Puts entries (one line each, without line end) under the two head lines.
pub(crate) fn encode_lines(entries: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = format!("{VERSION}\n{}\n", entries.len());
    for entry in entries {
        text.push_str(&entry);
        text.push('\n');
    }
    text
}

/// Checks the head lines and the count, and gives each entry's fields to `entry`; the error says what is wrong where.
pub(crate) fn decode_lines(
    contents: &[u8],
    mut entry: impl FnMut(&[&str]) -> Result<(), &'static str>,
) -> Result<(), String> {
    let text = std::str::from_utf8(contents).map_err(|_| "not text".to_owned())?;
    let mut lines = text.lines();
    match lines.next() {
        Some(VERSION) => {}
        Some(other) => return Err(format!("line 1: version {other:?}, known is {VERSION}")),
        None => return Err("empty".to_owned()),
    }
    let count: usize = lines
        .next()
        .and_then(|line| line.parse().ok())
        .ok_or_else(|| "line 2: no number of entries".to_owned())?;
    let mut seen = 0;
    for line in lines {
        let mut fields = [""; 4];
        let mut field_count = 0;
        for field in line.split_whitespace() {
            *fields.get_mut(field_count).ok_or_else(|| format!("line {}: too many fields", seen + 3))? =
                field;
            field_count += 1;
        }
        entry(&fields[..field_count]).map_err(|why| format!("line {}: {why}", seen + 3))?;
        seen += 1;
    }
    if seen != count { Err(format!("{seen} entries, {count} announced")) } else { Ok(()) }
}

/// An offset per partition of a log directory, as it stands in one of Kafka's `*-offset-checkpoint` files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetCheckpoint {
    /// The offsets, by partition.
    pub offsets: BTreeMap<TopicPartition, Offset>,
}

impl OffsetCheckpoint {
    /// Reads the file at `path`; an absent one is empty.
    pub fn read(files: &dyn Files, path: &Path) -> Result<Self, CheckpointError> {
        match read_whole(files, path) {
            Ok(None) => Ok(Self::default()),
            Ok(Some(contents)) => {
                Self::decode(&contents).map_err(|why| CheckpointError::Damaged { path: path.to_owned(), why })
            }
            Err(source) => Err(CheckpointError::Io { path: path.to_owned(), source }),
        }
    }

    /// Replaces the file at `path`, durably.
    pub fn write(&self, files: &dyn Files, path: &Path) -> io::Result<()> {
        write_atomically(files, path, self.encode().as_bytes())
    }

    /// The offset of one partition.
    #[must_use]
    pub fn get(&self, partition: &TopicPartition) -> Option<Offset> {
        self.offsets.get(partition).copied()
    }

    /// The file's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{VERSION}\n{}\n", self.offsets.len());
        for (TopicPartition { topic, partition }, offset) in &self.offsets {
            writeln!(text, "{topic} {partition} {offset}").expect("writing to a String cannot fail");
        }
        text
    }

    /// Reads the file's text; the error says what is wrong where.
    pub fn decode(contents: &[u8]) -> Result<Self, String> {
        let mut offsets = BTreeMap::new();
        decode_lines(contents, |fields| {
            let &[topic, partition, offset] = fields else { return Err("not topic, partition and offset") };
            let partition: i32 = partition.parse().map_err(|_| "the partition is not a number")?;
            let offset: i64 = offset.parse().map_err(|_| "the offset is not a number")?;
            if partition < 0 || offset < 0 {
                return Err("negative");
            }
            match offsets.insert(TopicPartition::new(topic, partition), Offset(offset)) {
                None => Ok(()),
                Some(_) => Err("the partition is there twice"),
            }
        })?;
        Ok(Self { offsets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::faulty::{Fault, FaultyFiles, Operation, Survival};

    const PATH: &str = "/d/some-checkpoint";

    fn disk() -> FaultyFiles {
        let files = FaultyFiles::new();
        files.create_dir_all(Path::new("/d")).unwrap();
        files.sync_dir(Path::new("/")).unwrap();
        files
    }

    #[test]
    fn offsets_round_trip_and_read_kafkas() {
        let kafkas = b"0\n3\n__transaction_state 42 0\ncompacted 0 202\ntrimmed 0 37\n";
        let checkpoint = OffsetCheckpoint::decode(kafkas).expect("Kafka's own");
        assert_eq!(checkpoint.get(&TopicPartition::new("compacted", 0)), Some(Offset(202)));
        assert_eq!(checkpoint.get(&TopicPartition::new("compacted", 1)), None);
        assert_eq!(checkpoint.encode().as_bytes(), kafkas);
        assert_eq!(OffsetCheckpoint::decode(b"0\n0\n"), Ok(OffsetCheckpoint::default()));
    }

    #[test]
    fn damage_is_found_and_said() {
        let cases: [(&[u8], &str); 13] = [
            (b"", "empty"),
            (b"\0\0\0\0", "line 1: version \"\\0\\0\\0\\0\", known is 0"),
            (b"1\n0\n", "line 1: version \"1\", known is 0"),
            (b"0\n", "line 2: no number of entries"),
            (b"0\nmany\n", "line 2: no number of entries"),
            (b"0\n-1\n", "line 2: no number of entries"),
            (b"0\n2\nt 0 1\n", "1 entries, 2 announced"),
            (b"0\n1\nt 0 1\nt 1 1\n", "2 entries, 1 announced"),
            (b"0\n1\nt 0\n", "line 3: not topic, partition and offset"),
            (b"0\n1\nt 0 1 2 3\n", "line 3: too many fields"),
            (b"0\n1\nt 0 99999999999999999999\n", "line 3: the offset is not a number"),
            (b"0\n1\nt 0 -2\n", "line 3: negative"),
            (b"0\n2\nt 0 1\nt 0 2\n", "line 4: the partition is there twice"),
        ];
        for (contents, why) in cases {
            assert_eq!(OffsetCheckpoint::decode(contents), Err(why.to_owned()));
        }
        assert_eq!(OffsetCheckpoint::decode(b"0\n1\nt\xff 0 1\n"), Err("not text".to_owned()));
    }

    #[test]
    fn an_absent_file_is_empty_and_a_damaged_one_an_error_with_its_path() {
        let files = disk();
        let path = Path::new(PATH);
        assert_eq!(OffsetCheckpoint::read(&files, path).unwrap(), OffsetCheckpoint::default());
        write_atomically(&files, path, b"0\n1\nt 0 17\n").unwrap();
        files.flip(path, 2, 0x40).unwrap();
        let error = OffsetCheckpoint::read(&files, path).unwrap_err();
        assert_eq!(error.to_string(), "/d/some-checkpoint is damaged: line 2: no number of entries");
    }

    #[test]
    fn after_a_crash_anywhere_the_file_is_the_old_or_the_new_one() {
        let files = disk();
        let path = Path::new(PATH);
        write_atomically(&files, path, b"old").unwrap();
        let begin = files.operation_count();
        write_atomically(&files, path, b"new and longer").unwrap();
        let end = files.operation_count();
        let mut seen = std::collections::BTreeSet::new();
        for at in begin..=end {
            use Survival::*;
            for survival in [All, SyncedOnly, Prefix, TornPrefix, AnyPages] {
                for seed in 0..8 {
                    let image = files.crash_image(at, survival, seed);
                    let contents = read_whole(&image, path).unwrap().expect("never gone");
                    let is_new = contents == b"new and longer";
                    assert!(is_new || contents == b"old", "{at} {survival:?} {seed}: {contents:?}");
                    assert!(is_new || at < end, "durable once it returned");
                    seen.insert(contents);
                }
            }
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file_and_no_other() {
        for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename] {
            let files = disk();
            let path = Path::new(PATH);
            write_atomically(&files, path, b"old").unwrap();
            let error = io::ErrorKind::StorageFull;
            files.fail(Fault { operation, path_suffix: ".tmp".into(), after: 0, error, written_bytes: 2 });
            assert_eq!(write_atomically(&files, path, b"new").unwrap_err().kind(), error, "{operation:?}");
            assert_eq!(read_whole(&files, path).unwrap().unwrap(), b"old");
            assert_eq!(files.list(Path::new("/d")).unwrap().len(), 1, "{operation:?}");
            files.heal();
            write_atomically(&files, path, b"new").unwrap();
            assert_eq!(read_whole(&files, path).unwrap().unwrap(), b"new");
        }
    }
}
