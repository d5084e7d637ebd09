//! The memory of requests: pooled buffers, and what has arrived charged against `queued.max.request.bytes`.

use super::ServerStats;
use crate::pool::BufferPool;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// Shared by all connections of a server.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) pool: BufferPool,
    stats: Arc<ServerStats>,
    limit: Option<u64>,
    /// Connections that wait for memory, all woken when some is free.
    waiters: Mutex<Vec<Waker>>,
    has_waiters: AtomicBool,
    /// Whether some connection holds the right to complete its frame beyond the limit.
    overdrawn: AtomicBool,
}

impl Memory {
    pub(crate) fn new(pool: BufferPool, stats: Arc<ServerStats>, limit: Option<u64>) -> Arc<Memory> {
        Arc::new(Memory {
            pool,
            stats,
            limit,
            waiters: Mutex::default(),
            has_waiters: AtomicBool::new(false),
            overdrawn: AtomicBool::new(false),
        })
    }

    /// Whether bytes of requests may be read. If not, `waker` is woken when some are released.
    pub(crate) fn admits(&self, waker: &Waker) -> bool {
        if self.has_room() {
            return true;
        }
        self.wait(waker);
        // Room may have come before the waker was seen; then nobody else will wake it.
        self.has_room()
    }

    /// As `admits`, for a frame that has begun: one such frame at a time may be completed beyond the limit, or all
    /// memory might be held by halves of frames. Gives the right to do so in `overdraft`.
    pub(crate) fn admits_rest(self: &Arc<Memory>, overdraft: &mut Option<Overdraft>, waker: &Waker) -> bool {
        if overdraft.is_some() || self.has_room() {
            return true;
        }
        self.wait(waker);
        if self.has_room() {
            return true;
        }
        *overdraft = (!self.overdrawn.swap(true, Ordering::AcqRel)).then(|| Overdraft(self.clone()));
        overdraft.is_some()
    }

    fn has_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.stats.request_bytes_now.load(Ordering::SeqCst) < limit)
    }

    fn wait(&self, waker: &Waker) {
        let mut waiters = self.waiters.lock().expect("no panic under this lock");
        if !waiters.iter().any(|waiter| waiter.will_wake(waker)) {
            waiters.push(waker.clone());
        }
        self.has_waiters.store(true, Ordering::SeqCst);
    }

    fn wake_waiters(&self) {
        if self.has_waiters.load(Ordering::SeqCst) {
            let waiters = {
                let mut waiters = self.waiters.lock().expect("no panic under this lock");
                self.has_waiters.store(false, Ordering::SeqCst);
                std::mem::take(&mut *waiters)
            };
            waiters.into_iter().for_each(Waker::wake);
        }
    }
}

/// The right of one connection to complete its frame beyond the limit.
#[derive(Debug)]
pub(crate) struct Overdraft(Arc<Memory>);

impl Drop for Overdraft {
    fn drop(&mut self) {
        self.0.overdrawn.store(false, Ordering::Release);
        self.0.wake_waiters();
    }
}

/// Bytes of one request, in a buffer that returns to the pool; as `Bytes` when complete.
pub(crate) struct FrameBuffer {
    buffer: Vec<u8>,
    /// Bytes of the frame in the buffer, which are also what was charged.
    filled: usize,
    pooled: bool,
    memory: Arc<Memory>,
}

impl FrameBuffer {
    /// An empty buffer of at least `bytes` from the pool.
    pub(crate) fn pooled(memory: &Arc<Memory>, bytes: usize) -> FrameBuffer {
        FrameBuffer { buffer: memory.pool.take(bytes), filled: 0, pooled: true, memory: memory.clone() }
    }

    /// A frame of these bytes.
    pub(crate) fn copied(memory: &Arc<Memory>, frame: &[u8]) -> FrameBuffer {
        let mut copy =
            FrameBuffer { buffer: frame.to_vec(), filled: 0, pooled: false, memory: memory.clone() };
        copy.charge(frame.len());
        copy
    }

    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    pub(crate) fn size(&self) -> usize {
        self.buffer.len()
    }

    /// The part not filled yet.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Bytes behind the filled part.
    pub(crate) fn behind(&self, bytes: usize) -> &[u8] {
        &self.buffer[self.filled..self.filled + bytes]
    }

    /// The next `bytes` have arrived.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.filled += bytes;
        self.memory.stats.request_bytes_now.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// Moves to a buffer of at least `bytes`.
    pub(crate) fn grow(&mut self, bytes: usize) {
        let mut larger = self.memory.pool.take(bytes);
        larger[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        self.memory.pool.give(std::mem::replace(&mut self.buffer, larger));
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for FrameBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for FrameBuffer {
    fn drop(&mut self) {
        if self.pooled {
            self.memory.pool.give(std::mem::take(&mut self.buffer));
        }
        self.memory.stats.request_bytes_now.fetch_sub(self.filled as u64, Ordering::SeqCst);
        self.memory.wake_waiters();
    }
}
