//! Reused buffers for large frames and reply chunks. A fresh buffer of 128 KiB or more costs an mmap, a page fault per 4
//! KiB and an munmap, about as much as copying the bytes.

use crate::limits;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// log2 of the smallest buffer.
const SMALLEST_LOG2: u32 = 12;

/// Buffers in shelves by size, four sizes per power of two: a buffer is at most a quarter larger than asked for.
#[derive(Debug)]
pub(crate) struct BufferPool {
    /// Unused buffers of each size.
    shelves: Vec<Mutex<Vec<Vec<u8>>>>,
    held_bytes: AtomicUsize,
    held_bytes_max: usize,
    used_lately: AtomicBool,
}

impl BufferPool {
    pub(crate) fn new(held_bytes_max: usize) -> BufferPool {
        let (last, _) = shelf_of(limits::POOLED_BUFFER_BYTES_MAX);
        BufferPool {
            shelves: (0..=last).map(|_| Mutex::default()).collect(),
            held_bytes: AtomicUsize::new(0),
            held_bytes_max,
            used_lately: AtomicBool::new(false),
        }
    }

    /// A buffer of at least `bytes`; its length is its size. Its content is arbitrary.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes > limits::POOLED_BUFFER_BYTES_MAX {
            return vec![0; bytes];
        }
        let (shelf, size) = shelf_of(bytes);
        if !self.used_lately.load(Ordering::Relaxed) {
            self.used_lately.store(true, Ordering::Relaxed);
        }
        let found = self.shelves[shelf].lock().expect("no panic under this lock").pop();
        match found {
            Some(buffer) => {
                self.held_bytes.fetch_sub(size, Ordering::Relaxed);
                buffer
            }
            // Large zeroed buffers come from the system untouched: nothing is written here.
            None => vec![0; size],
        }
    }

    /// Takes a buffer back that `take` gave.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let size = buffer.len();
        if size == 0 || size > limits::POOLED_BUFFER_BYTES_MAX {
            return;
        }
        let (shelf, shelf_size) = shelf_of(size);
        debug_assert_eq!(size, shelf_size, "a buffer comes back as it was given");
        if self.held_bytes.fetch_add(size, Ordering::Relaxed) + size > self.held_bytes_max {
            self.held_bytes.fetch_sub(size, Ordering::Relaxed);
            return;
        }
        self.shelves[shelf].lock().expect("no panic under this lock").push(buffer);
    }

    /// Frees all unused buffers if none was asked for since the last call.
    pub(crate) fn trim(&self) {
        if self.used_lately.swap(false, Ordering::Relaxed) || self.held_bytes() == 0 {
            return;
        }
        for shelf in &self.shelves {
            let buffers = std::mem::take(&mut *shelf.lock().expect("no panic under this lock"));
            let bytes = buffers.iter().map(Vec::len).sum();
            self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of unused buffers.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// Index of the shelf for a buffer of at least `bytes`, and the size of its buffers.
fn shelf_of(bytes: usize) -> (usize, usize) {
    let last = bytes.max(1 << SMALLEST_LOG2) - 1;
    let log2 = last.ilog2();
    let quarter = (last >> (log2 - 2)) & 3;
    let size = (quarter + 5) << (log2 - 2);
    // The smallest buffer is the last quarter of the power below it.
    let index = (log2 as usize * 4 + quarter) - ((SMALLEST_LOG2 as usize - 1) * 4 + 3);
    (index, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_ascend_and_fit_within_a_quarter() {
        let mut previous = (0, 0);
        for bytes in (1..300_000).chain([1 << 20, (1 << 20) + 1, limits::POOLED_BUFFER_BYTES_MAX]) {
            let (index, size) = shelf_of(bytes);
            assert!(size >= bytes, "{size} for {bytes}");
            assert!(size <= (bytes + bytes / 4 + 1).max(4096), "{size} for {bytes}");
            assert_eq!(shelf_of(size), (index, size), "a size maps to itself");
            assert!((index, size) >= previous);
            previous = (index, size);
        }
        assert_eq!(shelf_of(0), (0, 4096));
        assert_eq!(shelf_of(4097), (1, 5120));
    }

    #[test]
    fn buffers_are_reused_up_to_the_bound_and_freed_when_idle() {
        let pool = BufferPool::new(300_000);
        let buffers: Vec<_> = (0..3).map(|_| pool.take(131_072)).collect();
        let address = buffers[0].as_ptr();
        buffers.into_iter().for_each(|buffer| pool.give(buffer));
        assert_eq!(pool.held_bytes(), 262_144);
        let again = [pool.take(131_000), pool.take(131_000)];
        assert!(again.iter().any(|buffer| buffer.as_ptr() == address));
        again.into_iter().for_each(|buffer| pool.give(buffer));
        pool.trim();
        assert_eq!(pool.held_bytes(), 262_144, "used since the last look");
        pool.trim();
        assert_eq!(pool.held_bytes(), 0);
    }

    #[test]
    fn huge_buffers_are_not_kept() {
        let pool = BufferPool::new(1 << 30);
        let huge = pool.take(limits::POOLED_BUFFER_BYTES_MAX + 1);
        assert_eq!(huge.len(), limits::POOLED_BUFFER_BYTES_MAX + 1);
        pool.give(huge);
        assert_eq!(pool.held_bytes(), 0);
    }
}
