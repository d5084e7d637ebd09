//! Swaps of cleaned segments that a crash has interrupted: finished where `.log.swap` is there, else undone by removing what
//! was written. See [`crate::log::clean`] for the order in which names change.

use std::io;

use ottla_protocol::ids::Offset;

use super::{base_offset_of, list, remove, sync_dir};
use crate::files::{Entry, Open};
use crate::log::{Log, LogError, SIDE_EXTENSIONS, SWAPPED_EXTENSIONS};
use crate::segment::{SegmentError, Walk, segment_path};

/// Finishes what is to be finished. Gives the directory's entries after that.
pub(super) fn finish(log: &Log, entries: Vec<Entry>) -> Result<Vec<Entry>, LogError> {
    let decided: Vec<(Offset, u64)> = entries
        .iter()
        .filter_map(|entry| Some((base_offset_of(&entry.name, "log.swap")?, entry.size_bytes)))
        .collect();
    if decided.is_empty() {
        return Ok(entries);
    }
    for (base_offset, size_bytes) in decided {
        let end = end_of(log, base_offset, size_bytes)?;
        let bases = entries.iter().filter_map(|entry| base_offset_of(&entry.name, "log"));
        let mut replaced: Vec<Offset> = bases.filter(|base| *base > base_offset && *base < end).collect();
        // From the end, as the swap does it.
        replaced.reverse();
        for base in replaced {
            for extension in std::iter::once("log").chain(SIDE_EXTENSIONS) {
                remove(log, &segment_path(&log.dir, base, extension))?;
            }
        }
        for extension in SWAPPED_EXTENSIONS {
            let path = |extension: &str| segment_path(&log.dir, base_offset, extension);
            match log.files().rename(&path(&format!("{extension}.swap")), &path(extension)) {
                // It has its place already; an index that is not right is made anew.
                Err(error) if error.kind() == io::ErrorKind::NotFound && extension != "log" => {}
                other => other.map_err(|error| LogError::io("cannot finish the swap of a segment", error))?,
            }
        }
    }
    sync_dir(log)?;
    list(log)
}

/// Where the segments end that the cleaned one replaces: where its last batch does.
fn end_of(log: &Log, base_offset: Offset, size_bytes: u64) -> Result<Offset, LogError> {
    let path = segment_path(&log.dir, base_offset, "log.swap");
    let read = || -> Result<Offset, SegmentError> {
        let file = log.files().open(&path, Open::Read)?;
        let mut walk = Walk::new(&*file, 0, size_bytes);
        let mut end = base_offset;
        while let Some(header) = walk.next_header()? {
            end = header.next_offset();
        }
        Ok(end)
    };
    read().map_err(|error| match error {
        SegmentError::Io(error) => LogError::io(format!("cannot read {}", path.display()), error),
        SegmentError::Bad { position, why } => LogError::Damaged(Box::new(crate::log::DamagedRange {
            file: path.display().to_string(),
            position,
            from: base_offset,
            until: None,
            why: why.to_string(),
        })),
    })
}
