//! A bounded number of open files for very many segments. A segment keeps a [`DescriptorSlot`] per file and asks it for
//! the file when it needs it; slots that were not used lately lose theirs (second-chance order). A pinned slot, one with
//! unsynced bytes, never does: an error of a later fdatasync must meet the descriptor that wrote.
//!
//! Locks: the ring before a slot, never the other way round; no file is opened under the ring's lock.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::files::{File, Files, Open};

/// The bounded set of open files. Shared by all segments of a broker.
#[derive(Debug)]
pub struct Descriptors {
    files: Arc<dyn Files>,
    capacity: usize,
    ring: Mutex<Ring>,
}

/// Slots that hold an open file, the next to be looked at in front.
#[derive(Debug, Default)]
struct Ring {
    slots: VecDeque<Weak<Slot>>,
    /// How many of `slots` were dropped or closed and wait to be swept out. Signed, because a slot may be opened again
    /// before its close has been counted.
    gone: isize,
}

/// How many slots one opening looks at for something to close. So the bound is a soft one for a moment, and an opening
/// among very many pinned slots stays cheap.
const LOOKS_MAX: usize = 64;

impl Ring {
    fn open_count(&self) -> usize {
        self.slots.len().saturating_add_signed(-self.gone)
    }
}

#[derive(Debug)]
struct Slot {
    open: Open,
    pins: AtomicU32,
    used: AtomicBool,
    /// Whether the ring has an entry for it; changed under the ring's lock only.
    in_ring: AtomicBool,
    /// Guards path and file together, so that a file is opened once and under its present name.
    state: Mutex<SlotState>,
}

#[derive(Debug)]
struct SlotState {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
}

impl Descriptors {
    /// At most `capacity` (at least 1) files stay open here, pinned ones aside; files handed out live as long as their
    /// holders keep them.
    #[must_use]
    pub fn new(files: Arc<dyn Files>, capacity: usize) -> Arc<Self> {
        Arc::new(Self { files, capacity: capacity.max(1), ring: Mutex::default() })
    }

    /// The file system behind it.
    #[must_use]
    pub fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// A slot for the file at `path`. Nothing is opened before the first [`DescriptorSlot::get`].
    #[must_use]
    pub fn slot(self: &Arc<Self>, path: PathBuf, open: Open) -> DescriptorSlot {
        let slot = Slot {
            open,
            pins: AtomicU32::new(0),
            used: AtomicBool::new(false),
            in_ring: AtomicBool::new(false),
            state: Mutex::new(SlotState { path, file: None }),
        };
        DescriptorSlot { cache: Arc::clone(self), slot: Arc::new(slot) }
    }

    /// How many files are open here now.
    #[must_use]
    pub fn open_count(&self) -> usize {
        lock(&self.ring).open_count()
    }

    /// Takes a slot that was just opened into the ring and closes others while there are too many.
    fn admit(&self, slot: &Arc<Slot>) {
        let mut closed: Vec<Arc<dyn File>> = Vec::new();
        let mut ring = lock(&self.ring);
        if slot.in_ring.swap(true, Ordering::Relaxed) {
            // It was closed and its entry not yet swept out: that one counts again.
            ring.gone -= 1;
        } else {
            ring.slots.push_back(Arc::downgrade(slot));
        }
        // The first look takes a slot's "used" away, the second its file.
        let mut looks_left = LOOKS_MAX.min(2 * ring.slots.len());
        while ring.open_count() > self.capacity && looks_left > 0 {
            looks_left -= 1;
            let Some(candidate) = ring.slots.pop_front() else { break };
            let Some(candidate) = candidate.upgrade() else {
                ring.gone -= 1;
                continue;
            };
            match candidate.take_if_idle() {
                Idle::Busy => ring.slots.push_back(Arc::downgrade(&candidate)),
                Idle::Closed => {
                    candidate.in_ring.store(false, Ordering::Relaxed);
                    ring.gone -= 1;
                }
                Idle::Taken(file) => {
                    candidate.in_ring.store(false, Ordering::Relaxed);
                    closed.push(file);
                }
            }
        }
        drop(ring);
        // The close itself happens here, outside the lock.
        drop(closed);
    }

    /// Notes that a slot in the ring has no file any more; sweeps when such slots are the majority.
    fn forget_one(&self) {
        let mut ring = lock(&self.ring);
        ring.gone += 1;
        if ring.gone.unsigned_abs() > ring.slots.len() / 2 {
            ring.slots.retain(|slot| {
                let Some(slot) = slot.upgrade() else { return false };
                let is_open = lock(&slot.state).file.is_some();
                slot.in_ring.store(is_open, Ordering::Relaxed);
                is_open
            });
            ring.gone = 0;
        }
    }
}

enum Idle {
    /// Pinned, or used since the last look.
    Busy,
    /// It has no file.
    Closed,
    /// Its file, which it has lost now.
    Taken(Arc<dyn File>),
}

impl Slot {
    fn take_if_idle(&self) -> Idle {
        let mut state = lock(&self.state);
        if state.file.is_none() {
            return Idle::Closed;
        }
        // Pins are raised before the file is asked for under this lock, so none can be overlooked here.
        if self.pins.load(Ordering::SeqCst) > 0 || self.used.swap(false, Ordering::Relaxed) {
            return Idle::Busy;
        }
        state.file.take().map_or(Idle::Closed, Idle::Taken)
    }
}

/// One file of a segment: open when it is needed, or pinned, or was used lately.
#[derive(Debug)]
pub struct DescriptorSlot {
    cache: Arc<Descriptors>,
    slot: Arc<Slot>,
}

impl DescriptorSlot {
    /// The open file. Opens it when it is not; keep the `Arc` for the read or write at hand only.
    pub fn get(&self) -> io::Result<Arc<dyn File>> {
        let file = {
            let mut state = lock(&self.slot.state);
            self.slot.used.store(true, Ordering::Relaxed);
            if let Some(file) = &state.file {
                return Ok(Arc::clone(file));
            }
            let file = self.cache.files.open(&state.path, self.slot.open)?;
            state.file = Some(Arc::clone(&file));
            file
        };
        self.cache.admit(&self.slot);
        Ok(file)
    }

    /// The open file, which stays open until the matching [`DescriptorSlot::unpin`]: for what is about to write. Pins
    /// count. After an error nothing is pinned.
    pub fn pin(&self) -> io::Result<Arc<dyn File>> {
        self.slot.pins.fetch_add(1, Ordering::SeqCst);
        self.get().inspect_err(|_| self.unpin())
    }

    /// Takes one pin away, after an fdatasync that covered every byte written since the pin.
    pub fn unpin(&self) {
        let before = self.slot.pins.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "unpin without pin");
    }

    /// Whether it is pinned.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.slot.pins.load(Ordering::SeqCst) > 0
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        lock(&self.slot.state).path.clone()
    }

    /// The file was renamed to `path`; an open descriptor stays good.
    pub fn moved_to(&self, path: &Path) {
        lock(&self.slot.state).path = path.to_owned();
    }

    /// Closes the file now (holders of it aside), pinned or not, as before its removal. [`DescriptorSlot::get`] would open
    /// it again.
    pub fn close(&self) {
        let file = lock(&self.slot.state).file.take();
        if file.is_some() {
            self.cache.forget_one();
        }
    }
}

impl Drop for DescriptorSlot {
    fn drop(&mut self) {
        self.close();
    }
}

/// Nothing under these locks can be left half changed, so a panic of another holder is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::files::faulty::{Fault, FaultyFiles, Operation};

    struct Fixture {
        cache: Arc<Descriptors>,
        files: FaultyFiles,
    }

    fn cache(capacity: usize) -> Fixture {
        let files = FaultyFiles::new();
        files.create_dir_all(Path::new("/d")).unwrap();
        Fixture { cache: Descriptors::new(files.shared(), capacity), files }
    }

    impl Fixture {
        fn slots(&self, count: usize) -> Vec<DescriptorSlot> {
            let path = |index| PathBuf::from(format!("/d/{index}"));
            (0..count).map(|index| self.cache.slot(path(index), Open::Create)).collect()
        }
    }

    fn is_open(slot: &DescriptorSlot) -> bool {
        lock(&slot.slot.state).file.is_some()
    }

    #[test]
    fn nothing_is_opened_before_it_is_needed_and_then_once() {
        let fixture = cache(4);
        let slots = fixture.slots(3);
        assert_eq!(fixture.cache.open_count(), 0);
        assert!(!fixture.files.exists(Path::new("/d/0")).unwrap());
        let first = slots[0].get().unwrap();
        assert!(Arc::ptr_eq(&first, &slots[0].get().unwrap()));
        assert_eq!(fixture.cache.open_count(), 1);
    }

    #[test]
    fn the_bound_holds_and_the_recently_used_stay() {
        let fixture = cache(4);
        let slots = fixture.slots(100);
        for slot in &slots {
            slots[0].get().unwrap();
            slot.get().unwrap();
            assert!(fixture.cache.open_count() <= 4);
        }
        assert!(is_open(&slots[0]), "asked for before each other");
        assert!(is_open(&slots[99]));
        assert_eq!(slots.iter().filter(|slot| is_open(slot)).count(), 4);
        // What was closed opens again.
        slots[1].get().unwrap();
        assert!(is_open(&slots[1]));
    }

    #[test]
    fn pinned_slots_are_never_closed_and_the_bound_returns_after() {
        let fixture = cache(2);
        let slots = fixture.slots(10);
        let pinned: Vec<Arc<dyn File>> = slots[..5].iter().map(|slot| slot.pin().unwrap()).collect();
        for slot in &slots {
            slot.get().unwrap();
        }
        for (slot, file) in slots.iter().zip(&pinned) {
            assert!(Arc::ptr_eq(&slot.get().unwrap(), file));
        }
        slots[0].pin().unwrap();
        slots[..5].iter().for_each(DescriptorSlot::unpin);
        assert!(slots[0].is_pinned() && !slots[1].is_pinned());
        for slot in &slots[5..] {
            slot.get().unwrap();
        }
        assert_eq!(fixture.cache.open_count(), 2);
        assert!(Arc::ptr_eq(&slots[0].get().unwrap(), &pinned[0]));
        slots[0].unpin();
    }

    #[test]
    fn a_dropped_or_closed_slot_makes_room() {
        let fixture = cache(3);
        let mut slots = fixture.slots(3);
        for slot in &slots {
            slot.get().unwrap();
        }
        slots[1].close();
        assert_eq!(fixture.cache.open_count(), 2);
        drop(slots.remove(2));
        assert_eq!(fixture.cache.open_count(), 1);
        slots[1].get().unwrap();
        assert_eq!(fixture.cache.open_count(), 2);
        slots.clear();
        assert_eq!(fixture.cache.open_count(), 0);
        assert!(lock(&fixture.cache.ring).slots.is_empty());
    }

    #[test]
    fn a_renamed_file_is_opened_under_its_new_name() {
        let fixture = cache(1);
        let slots = fixture.slots(2);
        slots[0].get().unwrap().write_all_at(&mut [IoSlice::new(b"x")], 0).unwrap();
        fixture.files.rename(Path::new("/d/0"), Path::new("/d/0.deleted")).unwrap();
        slots[0].moved_to(Path::new("/d/0.deleted"));
        slots[1].get().unwrap();
        assert!(!is_open(&slots[0]));
        assert_eq!(slots[0].get().unwrap().size_bytes().unwrap(), 1);
        assert_eq!(slots[0].path(), Path::new("/d/0.deleted"));
    }

    #[test]
    fn a_file_that_does_not_open_is_an_error_and_no_pin() {
        let fixture = cache(1);
        let slots = fixture.slots(1);
        let (operation, error) = (Operation::Create, io::ErrorKind::StorageFull);
        fixture.files.fail(Fault {
            operation,
            path_suffix: String::new(),
            after: 0,
            error,
            written_bytes: 0,
        });
        assert_eq!(slots[0].get().unwrap_err().kind(), error);
        assert_eq!(slots[0].pin().unwrap_err().kind(), error);
        assert!(!slots[0].is_pinned());
        fixture.files.heal();
        slots[0].get().unwrap();
        assert_eq!(fixture.cache.open_count(), 1);
    }

    #[test]
    fn threads_share_it_without_losing_count() {
        let fixture = cache(8);
        let slots = fixture.slots(40);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let slots = &slots;
                scope.spawn(move || {
                    for turn in 0..3000 {
                        let index = (turn * 7 + thread * 11) % slots.len();
                        let slot = &slots[index];
                        match turn % 5 {
                            // A close takes the file from a pinned slot too, so not both on one.
                            0 if index.is_multiple_of(2) => {
                                let pinned = slot.pin().unwrap();
                                assert!(Arc::ptr_eq(&slot.get().unwrap(), &pinned));
                                slot.unpin();
                            }
                            1 if index % 2 == 1 => slot.close(),
                            _ => drop(slot.get().unwrap()),
                        }
                    }
                });
            }
        });
        // All at rest: one more opening brings the bound back, and the count is what is really open.
        slots.iter().for_each(|slot| drop(slot.get().unwrap()));
        let open = slots.iter().filter(|slot| is_open(slot)).count();
        assert_eq!(fixture.cache.open_count(), open);
        assert!(open <= 8, "{open}");
    }
}
