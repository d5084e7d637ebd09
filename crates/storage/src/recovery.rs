//! Opening a log: what its directory holds, what of it is whole, and the state that follows from it. After an unclean stop
//! everything from the recovery point on is read and its checksums compared. A bad batch that no whole one follows is a
//! torn end and is cut; anything else is damage, and is never cut without being asked. A read error is neither.

mod chunks;
mod swaps;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use ottla_protocol::ids::Offset;
use ottla_protocol::records::BatchHeader;

use crate::checkpoint::CheckpointError;
use crate::epochs::LeaderEpochs;
use crate::files::Entry;
use crate::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::log::{
    CLEANED_SUFFIX, DELETED_SUFFIX, DamagedRange, GAPS_FILE, Log, LogError, OpenFrom, RecoveryReport,
    SIDE_EXTENSIONS, SWAP_SUFFIX, UNSYNCED_MARK, read_gaps_below,
};
use crate::planted::{Bug, planted};
use crate::producers::{ProducerStates, SnapshotError, snapshot_file_name, snapshot_offset};
use crate::segment::{RELATIVE_MAX, Segment, SegmentError, Walk, segment_path};

use chunks::Chunks;

/// What happens to damage that is not a torn end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// The log is not opened.
    Refuse,
    /// The log ends there.
    Cut,
}

/// Opens the segments of `log`, which has none yet.
pub(crate) fn recover(
    mut log: Log,
    from: OpenFrom,
    on_damage: OnDamage,
    now_ms: i64,
) -> Result<(Log, RecoveryReport), LogError> {
    let mut report = RecoveryReport::default();
    let entries = match log.files().list(&log.dir) {
        Ok(entries) => swaps::finish(&log, entries)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log.cleaned_to = log.start_offset;
            return Ok((log, report));
        }
        Err(error) => return Err(LogError::io(format!("cannot list {}", log.dir.display()), error)),
    };
    if entries.iter().any(|entry| entry.name == GAPS_FILE) {
        let read = read_gaps_below(&log);
        log.gaps_below = read.map_err(|error| LogError::io(format!("cannot read {GAPS_FILE}"), error))?;
    }
    let (epochs_known, epochs) = read_epochs(&log)?;
    log.epochs = epochs.clone();
    add_segments(&mut log, &entries);
    let marked = marked_segments(&entries);
    remove_leftovers(&log, &entries)?;
    if log.segments.is_empty() {
        // What is left of a log that was emptied says nothing about the next one.
        log.epochs = LeaderEpochs::default();
        log.cleaned_to = log.start_offset;
        remove_snapshots_above(&log, &snapshot_offsets(&entries), Offset(-1))?;
        return Ok((log, report));
    }
    if from.clean && load_end(&mut log) {
        log.durable_offset = log.end_offset;
    } else {
        scan(&mut log, &marked, from.recovery_point, on_damage, &mut report)?;
    }
    remove_marks(&log, &marked)?;
    check_indexes(&mut log, &entries, from.clean, &mut report)?;
    check_bounds(&mut log, from, now_ms)?;
    if epochs_known || log.segments.iter().all(Segment::was_scanned) {
        log.epochs.truncate_from_start(log.start_offset);
        log.epochs.truncate_from_end(log.end_offset);
    } else {
        log.epochs = collect_epochs(&log)?;
    }
    log.epochs_changed = log.epochs != epochs;
    // What was read from the batches is written with the next sync; until then the recovery point stays.
    log.unsynced.epochs |= log.epochs_changed && !from.clean;
    log.epochs_on_disk = epochs;
    // Cutting removes files; a clean opening does not list twice.
    let entries = if from.clean && report.cut_at.is_none() { entries } else { list(&log)? };
    report.producers_from_snapshot = rebuild(&mut log, &entries, now_ms)?;
    if planted(Bug::RecoveryCuts) && log.end_offset > log.start_offset {
        log.truncate_to(log.end_offset.plus(-1), now_ms)?;
    }
    log.durable_offset = log.end_offset;
    Ok((log, report))
}

/// The epochs file; a damaged one counts as absent, the batches know it too.
fn read_epochs(log: &Log) -> Result<(bool, LeaderEpochs), LogError> {
    match LeaderEpochs::read(log.files(), &log.dir) {
        Ok(epochs) => Ok((!epochs.entries().is_empty(), epochs)),
        Err(CheckpointError::Damaged { .. }) => Ok((false, LeaderEpochs::default())),
        Err(CheckpointError::Io { path, source }) => {
            Err(LogError::io(format!("cannot read {}", path.display()), source))
        }
    }
}

fn base_offset_of(name: &str, extension: &str) -> Option<Offset> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let is_plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| digits.parse().ok().map(Offset)).flatten()
}

/// The segments that began before all before them was on disk.
fn marked_segments(entries: &[Entry]) -> BTreeSet<Offset> {
    entries.iter().filter_map(|entry| base_offset_of(&entry.name, UNSYNCED_MARK)).collect()
}

/// Everything is on disk now. Before anything new is: a mark that stays would make a later loss look harmless.
fn remove_marks(log: &Log, marked: &BTreeSet<Offset>) -> Result<(), LogError> {
    for &base_offset in marked {
        remove(log, &segment_path(&log.dir, base_offset, UNSYNCED_MARK))?;
    }
    if marked.is_empty() { Ok(()) } else { sync_dir(log) }
}

fn sync_dir(log: &Log) -> Result<(), LogError> {
    let synced = log.files().sync_dir(&log.dir);
    synced.map_err(|error| LogError::io(format!("cannot sync {}", log.dir.display()), error))
}

fn add_segments(log: &mut Log, entries: &[Entry]) {
    let sizes: BTreeMap<Offset, u64> = entries
        .iter()
        .filter(|entry| !entry.is_dir)
        .filter_map(|entry| Some((base_offset_of(&entry.name, "log")?, entry.size_bytes)))
        .collect();
    let nexts = sizes.keys().skip(1).copied().map(Some).chain([None]);
    let filled: BTreeSet<Offset> = entries
        .iter()
        .filter(|entry| entry.size_bytes > 0)
        .filter_map(|entry| {
            base_offset_of(&entry.name, "index").or_else(|| base_offset_of(&entry.name, "timeindex"))
        })
        .collect();
    for ((&base_offset, &size_bytes), next) in sizes.iter().zip(nexts) {
        // Most logs are small: without an index there is no file to open.
        let is_new = !filled.contains(&base_offset);
        let segment = Segment::new(&log.descriptors, &log.dir, base_offset, is_new);
        log.segments.push_back(segment.existing(size_bytes, next.unwrap_or(base_offset)));
    }
}

/// Removes files of segments that were deleted, unfinished ones, and side files without a segment.
fn remove_leftovers(log: &Log, entries: &[Entry]) -> Result<(), LogError> {
    let has_segment = |offset| log.segments.iter().any(|segment| segment.base_offset == offset);
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let is_gone = [DELETED_SUFFIX, ".tmp", CLEANED_SUFFIX, SWAP_SUFFIX]
            .iter()
            .any(|suffix| entry.name.ends_with(suffix));
        let side = SIDE_EXTENSIONS.iter().filter(|&&extension| extension != "snapshot");
        let is_orphan = side
            .filter_map(|extension| base_offset_of(&entry.name, extension))
            .any(|offset| !has_segment(offset));
        if is_gone || is_orphan {
            remove(log, &log.dir.join(&entry.name))?;
        }
    }
    Ok(())
}

/// Removes a file that may be gone already.
fn remove(log: &Log, path: &Path) -> Result<(), LogError> {
    match log.files().remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogError::io(format!("cannot remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// After a clean stop only the end is looked at. False when it is not what a clean stop leaves.
fn load_end(log: &mut Log) -> bool {
    let Some(active) = log.segments.back_mut() else { return true };
    let is_loaded = active.load_end(active.size_bytes).is_ok();
    log.end_offset = active.next_offset;
    is_loaded
}

fn scan(
    log: &mut Log,
    marked: &BTreeSet<Offset>,
    recovery_point: Offset,
    on_damage: OnDamage,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    // From the segment that holds the recovery point on, and always the last.
    // One that ends right there is read too: what its closing left for the next sync may be missing.
    let below = log.segments.iter().skip(1).take_while(|next| next.base_offset < recovery_point).count();
    let first = below.min(log.segments.len() - 1);
    log.is_changed = true;
    let scan_start = log.segments[first].base_offset;
    log.epochs.truncate_from_end(scan_start);
    let mut expected = scan_start;
    for index in first..log.segments.len() {
        let base_offset = log.segments[index].base_offset;
        if index > first && is_out_of_line(log, marked, index, expected) {
            let why = format!("offset {expected} should come next, not {base_offset}");
            let torn = Torn { position: log.segments[index - 1].size_bytes, offset: expected, why };
            if base_offset < expected && on_damage == OnDamage::Refuse {
                return Err(damaged(log, index - 1, &torn, Some(base_offset)));
            }
            end_at(log, marked, index - 1, torn, recovery_point, on_damage, report)?;
            return sync_scanned(log, first);
        }
        if let Some(torn) = scan_segment(log, index, report)? {
            end_at(log, marked, index, torn, recovery_point, on_damage, report)?;
            return sync_scanned(log, first);
        }
        expected = log.segments[index].next_offset;
    }
    log.end_offset = expected;
    if expected < recovery_point && on_damage == OnDamage::Refuse {
        let last = log.segments.len() - 1;
        let position = log.segments[last].size_bytes;
        let why = format!("the log ends, but was on disk up to offset {recovery_point}");
        return Err(damaged(log, last, &Torn { position, offset: expected, why }, None));
    }
    if expected > recovery_point || !marked.is_empty() { sync_scanned(log, first) } else { Ok(()) }
}

/// Whether the segment at `index` does not go on where the one before ends.
fn is_out_of_line(log: &Log, marked: &BTreeSet<Offset>, index: usize, expected: Offset) -> bool {
    let base_offset = log.segments[index].base_offset;
    base_offset < expected || {
        let may_have_gap = log.may_have_gap_before(base_offset) && !marked.contains(&base_offset);
        base_offset > expected && !may_have_gap
    }
}

/// What was found above the recovery point may be in the page cache only: a killed process leaves it there.
fn sync_scanned(log: &Log, first: usize) -> Result<(), LogError> {
    let sync = || {
        for segment in log.segments.iter().skip(first) {
            segment.log.get()?.sync_data()?;
        }
        log.files().sync_dir(&log.dir)?;
        log.dir.parent().map_or(Ok(()), |parent| log.files().sync_dir(parent))
    };
    sync().map_err(|error| LogError::io(format!("cannot sync {}", log.dir.display()), error))
}

/// Where whole batches end before the file does.
struct Torn {
    position: u64,
    /// The offset of the batch that should be there.
    offset: Offset,
    why: String,
}

/// Reads a whole segment: checksums, order. Rebuilds its indexes and adds to the epochs.
fn scan_segment(log: &mut Log, index: usize, report: &mut RecoveryReport) -> Result<Option<Torn>, LogError> {
    let interval_bytes = log.config.index_interval_bytes;
    let dir = log.dir.clone();
    let gaps_below = if log.config.compact_enabled { Offset(i64::MAX) } else { log.gaps_below };
    let segment = &mut log.segments[index];
    let path = segment_path(&dir, segment.base_offset, "log");
    let read_error = |error| LogError::io(format!("cannot read {}", path.display()), error);
    let file = segment.log.get().map_err(read_error)?;
    let size_bytes = file.size_bytes().map_err(read_error)?;
    segment.begin_scan();
    report.indexes_rebuilt += 2;
    let mut source = Chunks::new(&*file, size_bytes);
    while segment.size_bytes < size_bytes {
        let batch = match source.batch_at(segment.size_bytes).map_err(read_error)? {
            Ok(header) if !continues(segment, &header, gaps_below) => {
                Err(format!("offset {} where {} should be", header.base_offset, segment.next_offset))
            }
            other => other,
        };
        match batch {
            Ok(header) => {
                segment.note(&header, interval_bytes);
                report.scanned_bytes += header.size_bytes() as u64;
                log.epochs.assign(header.partition_leader_epoch, header.base_offset);
            }
            Err(why) => {
                return Ok(Some(Torn { position: segment.size_bytes, offset: segment.next_offset, why }));
            }
        }
    }
    Ok(None)
}

/// Whether the batch may follow what `segment` holds. Its base offset is outside the checksum; only its neighbours tell.
fn continues(segment: &Segment, header: &BatchHeader, gaps_below: Offset) -> bool {
    let base_offset = header.base_offset;
    let is_next =
        base_offset == segment.next_offset || base_offset > segment.next_offset && base_offset <= gaps_below;
    let relative = base_offset.0.saturating_sub(segment.base_offset.0);
    is_next
        && header.last_offset_delta >= 0
        && relative.saturating_add(i64::from(header.last_offset_delta)) <= RELATIVE_MAX
}

/// The segment at `index` is whole up to `torn` only: the end of the log, or damage.
fn end_at(
    log: &mut Log,
    marked: &BTreeSet<Offset>,
    index: usize,
    torn: Torn,
    recovery_point: Offset,
    on_damage: OnDamage,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    if on_damage == OnDamage::Refuse {
        let follower = next_whole_batch(log, marked, index, &torn)?;
        if follower.is_some() || torn.offset < recovery_point {
            return Err(damaged(log, index, &torn, follower));
        }
    }
    let what =
        |error: SegmentError| LogError::io("cannot cut the torn end of the log", io::Error::other(error));
    // Later segments hold nothing whole, or nothing that was durable. From the end, so that what a crash leaves has no gap.
    while log.segments.len() > index + 1 {
        let Some(segment) = log.segments.pop_back() else { break };
        report.cut_bytes += segment.size_bytes;
        for extension in std::iter::once("log").chain(SIDE_EXTENSIONS) {
            let path = segment_path(&log.dir, segment.base_offset, extension);
            match log.files().remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(what(error.into())),
                _ => {}
            }
        }
    }
    sync_dir(log)?;
    let segment = &mut log.segments[index];
    let size_bytes = segment.log.get().and_then(|file| file.size_bytes()).map_err(|e| what(e.into()))?;
    report.cut_bytes += size_bytes.saturating_sub(torn.position);
    segment.cut(torn.position).map_err(what)?;
    if torn.position == 0 {
        segment.next_offset = segment.base_offset;
    }
    log.end_offset = segment.next_offset;
    report.cut_at = Some(log.end_offset);
    Ok(())
}

/// The offset of the first whole batch behind the tear, in this segment or a later one.
fn next_whole_batch(
    log: &Log,
    marked: &BTreeSet<Offset>,
    index: usize,
    torn: &Torn,
) -> Result<Option<Offset>, LogError> {
    // A marked segment holds nothing that was ever durable, nor does any after it.
    let is_next_marked = log.segments.get(index + 1).is_some_and(|next| marked.contains(&next.base_offset));
    let count = if is_next_marked { 1 } else { usize::MAX };
    for (i, segment) in log.segments.iter().enumerate().skip(index).take(count) {
        let find = || {
            let file = segment.log.get()?;
            let size_bytes = file.size_bytes()?;
            let mut source = Chunks::new(&*file, size_bytes);
            if i > index {
                return source.find_batch(0, segment.base_offset);
            }
            // A whole one right there has a wrong offset, whatever it is.
            if let Some(header) = source.whole_at(torn.position)? {
                return Ok(Some(header));
            }
            // A torn batch may carry batches in its records, as a copy of a log does: mostly with lower offsets.
            let behind = source.claimed_end(torn.position)?;
            match source.find_batch(torn.position, torn.offset)? {
                None => source.find_batch(behind, segment.base_offset),
                found => Ok(found),
            }
        };
        let found = find().map_err(|error| {
            let path = segment_path(&log.dir, segment.base_offset, "log");
            LogError::io(format!("cannot read {}", path.display()), error)
        })?;
        if let Some(header) = found {
            return Ok(Some(header.base_offset));
        }
    }
    Ok(None)
}

fn damaged(log: &Log, index: usize, torn: &Torn, until: Option<Offset>) -> LogError {
    LogError::Damaged(Box::new(DamagedRange {
        file: segment_path(&log.dir, log.segments[index].base_offset, "log").display().to_string(),
        position: torn.position,
        from: torn.offset,
        until,
        why: torn.why.clone(),
    }))
}

/// Brings start and end together.
fn check_bounds(log: &mut Log, from: OpenFrom, now_ms: i64) -> Result<(), LogError> {
    let first = log.segments.front().map_or(from.log_start_offset, |segment| segment.base_offset);
    log.start_offset = from.log_start_offset.max(first);
    if log.start_offset > log.end_offset {
        // Everything that is left had been deleted by DeleteRecords; the rest of it never reached the disk.
        log.truncate_all_and_start_at(from.log_start_offset, now_ms)?;
    }
    if log.cleaned_to > log.end_offset {
        // It speaks of what is not there any more: as Kafka does, all is looked at again.
        log.cleaned_to = log.start_offset;
    }
    Ok(())
}

/// The closed segments that were not scanned: indexes that cannot be right are rebuilt from the batch headers.
fn check_indexes(
    log: &mut Log,
    entries: &[Entry],
    is_clean: bool,
    report: &mut RecoveryReport,
) -> Result<(), LogError> {
    let sizes: BTreeMap<&str, u64> =
        entries.iter().map(|entry| (entry.name.as_str(), entry.size_bytes)).collect();
    let has_shape = |base_offset: Offset, extension: &str, entry_bytes: usize| {
        let name = format!("{:020}.{extension}", base_offset.0);
        sizes.get(name.as_str()).is_some_and(|size_bytes| size_bytes % entry_bytes as u64 == 0)
    };
    let interval_bytes = log.config.index_interval_bytes;
    let closed_count = log.segments.len().saturating_sub(1);
    for i in 0..closed_count {
        let segment = &mut log.segments[i];
        let base_offset = segment.base_offset;
        let is_good = segment.was_scanned()
            || has_shape(base_offset, "index", OffsetEntry::BYTES)
                && has_shape(base_offset, "timeindex", TimeEntry::BYTES)
                && (is_clean || segment.has_sound_indexes());
        if segment.was_scanned() {
            let sealed = segment.seal_durably();
            sealed.map_err(|error| log.segment_error(&log.segments[i], base_offset, error.into()))?;
        } else if !is_good {
            let rebuilt = segment.rebuild_indexes(interval_bytes);
            rebuilt.map_err(|error| log.segment_error(&log.segments[i], base_offset, error))?;
            report.indexes_rebuilt += 2;
        }
    }
    Ok(())
}

/// Reads the epochs from all batch headers, where the file with them is missing or damaged.
fn collect_epochs(log: &Log) -> Result<LeaderEpochs, LogError> {
    let mut epochs = LeaderEpochs::default();
    each_header(log, log.start_offset, |header| {
        epochs.assign(header.partition_leader_epoch, header.base_offset.max(log.start_offset));
    })?;
    Ok(epochs)
}

/// Calls `take` with the header of every batch that ends at or above `from`.
fn each_header(log: &Log, from: Offset, mut take: impl FnMut(&BatchHeader)) -> Result<(), LogError> {
    for (i, segment) in log.segments.iter().enumerate() {
        if log.segments.get(i + 1).is_some_and(|next| next.base_offset <= from) {
            continue;
        }
        let mut walk = || {
            let Some(first) = segment.locate(from.max(segment.base_offset))? else { return Ok(()) };
            let file = segment.log.get()?;
            let mut walk = Walk::new(&*file, first.position, segment.size_bytes);
            while let Some(header) = walk.next_header()? {
                take(&header);
            }
            Ok(())
        };
        let walked: Result<(), SegmentError> = walk();
        walked.map_err(|error| log.segment_error(segment, from, error))?;
    }
    Ok(())
}

/// The producers as they are at the end of the log: the newest snapshot that is whole, and the batches since.
pub(crate) fn rebuild_producers(log: &mut Log, now_ms: i64) -> Result<(), LogError> {
    let entries = list(log)?;
    rebuild(log, &entries, now_ms).map(drop)
}

fn list(log: &Log) -> Result<Vec<Entry>, LogError> {
    let listed = log.files().list(&log.dir);
    listed.map_err(|error| LogError::io(format!("cannot list {}", log.dir.display()), error))
}

fn rebuild(log: &mut Log, entries: &[Entry], now_ms: i64) -> Result<bool, LogError> {
    let mut offsets = snapshot_offsets(entries);
    let mut producers = ProducerStates::default();
    // What DeleteRecords hides in the first segment still says what its producers wrote.
    let mut from = log.segments.front().map_or(log.start_offset, |first| first.base_offset);
    let mut found = None;
    remove_snapshots_above(log, &offsets, log.end_offset)?;
    while let Some(offset) = offsets.pop() {
        if offset > log.end_offset {
            continue;
        }
        match ProducerStates::read_snapshot(log.files(), &log.dir, offset, now_ms) {
            Ok(Some(states)) => {
                producers = states;
                from = offset;
                found = Some(offset);
                break;
            }
            // A damaged one: an older one or the log itself knows it too.
            Ok(None) | Err(SnapshotError::Damaged { .. }) => {}
            Err(SnapshotError::Io { path, source }) => {
                return Err(LogError::io(format!("cannot read {}", path.display()), source));
            }
        }
    }
    // Older ones serve only where the log may be truncated to: at the beginning of a segment.
    for offset in offsets {
        if !log.segments.iter().any(|segment| segment.base_offset == offset) {
            // What stays is removed the next time.
            drop(log.files().remove_file(&log.dir.join(snapshot_file_name(offset))));
        }
    }
    if from < log.end_offset {
        each_header(log, from, |header| {
            if header.base_offset >= from {
                producers.replay(header, now_ms);
            }
        })?;
    }
    log.producers = if planted(Bug::ProducersForgotten) { ProducerStates::default() } else { producers };
    log.snapshot_at = found.filter(|&offset| offset == log.end_offset);
    Ok(found.is_some())
}

/// The offsets of all producer snapshots, rising.
fn snapshot_offsets(entries: &[Entry]) -> Vec<Offset> {
    let mut offsets: Vec<Offset> = entries.iter().filter_map(|entry| snapshot_offset(&entry.name)).collect();
    offsets.sort_unstable();
    offsets
}

/// Snapshots of what has been cut off: durably gone before the log grows there again with other batches.
fn remove_snapshots_above(log: &Log, offsets: &[Offset], end: Offset) -> Result<(), LogError> {
    let mut is_removed = false;
    for &offset in offsets.iter().filter(|&&offset| offset > end) {
        let path = log.dir.join(snapshot_file_name(offset));
        log.files()
            .remove_file(&path)
            .map_err(|error| LogError::io(format!("cannot remove {}", path.display()), error))?;
        is_removed = true;
    }
    if is_removed {
        sync_dir(log)?;
    }
    Ok(())
}
