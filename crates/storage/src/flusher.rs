//! Group commit: a few threads that flush what asks for it. While an item is flushed, everything that is written to it
//! meanwhile gathers for exactly one more flush. A request for an item that waits already is one atomic operation.
//!
//! The state of an item (pending, running, queued) is one atomic inside the item, so there is no map and nothing is
//! allocated per request. Queue entries are hints: the thread that takes one looks at the state to see whether there is
//! still something to do. With nothing to do all threads sleep without a timeout.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Something whose writes are made durable in groups: a partition.
pub trait Flushable: Send + Sync {
    /// Makes durable what was written before the call, and tells those who wait. Runs on one of the flusher's threads,
    /// never twice at once for one item; its errors are its own affair.
    fn flush(&self);
    /// The item's place in the flusher; always the same.
    fn flush_state(&self) -> &FlushState;
}

/// When a flush is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// As soon as a thread is free: a reply waits for it.
    Now,
    /// After a few milliseconds, so that more gathers.
    Soon,
}

/// An item's state in the flusher. One flusher per item.
#[derive(Debug, Default)]
pub struct FlushState(AtomicU8);

/// A flush is wanted at once.
const WANT_NOW: u8 = 1;
/// A flush is wanted after gathering.
const WANT_SOON: u8 = 2;
/// A thread is in the item's `flush`.
const RUNNING: u8 = 4;
/// The queue of urgent items has an entry for it.
const IN_NOW: u8 = 8;
/// The queue of gathering items has an entry for it.
const IN_SOON: u8 = 16;

const WANTED: u8 = WANT_NOW | WANT_SOON;

impl FlushState {
    /// Changes the state by `change` in one step; gives back the state before and after.
    fn update(&self, change: impl Fn(u8) -> u8) -> (u8, u8) {
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let after = change(before);
            // The release makes the caller's writes visible to the thread that claims the flush, even when the bits do
            // not change: so the exchange is always done.
            match self.0.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return (before, after),
                Err(now) => before = now,
            }
        }
    }

    /// Notes the wish; true when the caller has to queue the item.
    fn want(&self, urgency: Urgency) -> bool {
        let (want, queued) = match urgency {
            Urgency::Now => (WANT_NOW, IN_NOW),
            Urgency::Soon => (WANT_SOON, IN_SOON),
        };
        let (before, after) = self.update(|state| queue_as_wanted(state | want));
        before & queued == 0 && after & queued != 0
    }

    /// A thread took the item's entry out of a queue (`queued`): true when it is to flush now.
    fn claim(&self, queued: u8) -> bool {
        let (before, after) = self.update(|state| {
            let state = state & !queued;
            if state & RUNNING == 0 && state & WANTED != 0 { state & !WANTED | RUNNING } else { state }
        });
        before & RUNNING == 0 && after & RUNNING != 0
    }

    /// The flush is over: how urgently the item is to be queued again, if at all.
    fn finish(&self) -> Option<Urgency> {
        let (before, after) = self.update(|state| queue_as_wanted(state & !RUNNING));
        match after & !before {
            added if added & IN_NOW != 0 => Some(Urgency::Now),
            added if added & IN_SOON != 0 => Some(Urgency::Soon),
            _ => None,
        }
    }
}

/// Adds the mark of the queue in which an item must stand, which runs not and is wanted.
fn queue_as_wanted(state: u8) -> u8 {
    if state & RUNNING != 0 {
        // The running thread sees to it at its end.
        state
    } else if state & WANT_NOW != 0 {
        state | IN_NOW
    } else if state & WANT_SOON != 0 && state & IN_NOW == 0 {
        state | IN_SOON
    } else {
        state
    }
}

/// How a flusher works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlusherConfig {
    /// Threads, that is files that are synced at once; at least 1.
    pub threads: usize,
    /// How long [`Urgency::Soon`] gathers.
    pub gather: Duration,
}

impl Default for FlusherConfig {
    fn default() -> Self {
        Self { threads: 4, gather: Duration::from_millis(2) }
    }
}

/// The threads and their queues.
#[derive(Debug)]
pub struct Flusher {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    gather: Duration,
    queues: Mutex<Queues>,
    wake: Condvar,
    flushes: AtomicU64,
    panics: AtomicU64,
}

/// What waits. Bounded by the number of items: each stands at most once in each queue.
#[derive(Default)]
struct Queues {
    now: VecDeque<Arc<dyn Flushable>>,
    /// With the time at which it has gathered enough; rising, because all gather equally long.
    soon: VecDeque<(Instant, Arc<dyn Flushable>)>,
    /// Threads that sleep.
    sleeping: usize,
    /// One of them sleeps only until the first of `soon` is due.
    has_timekeeper: bool,
    /// Threads that have not ended.
    live: usize,
    /// Nothing gathers any more, and who finds nothing to do ends.
    stopping: bool,
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} now, {} soon, {} threads asleep", self.now.len(), self.soon.len(), self.sleeping)
    }
}

impl Flusher {
    /// Starts the threads, named `name-0` and so on.
    pub fn start(name: &str, config: FlusherConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            gather: config.gather,
            queues: Mutex::default(),
            wake: Condvar::new(),
            flushes: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        });
        // Made first, so that the threads already started are stopped when a later one cannot start.
        let flusher = Self { shared: Arc::clone(&shared), threads: Mutex::default() };
        for index in 0..config.threads.max(1) {
            lock(&shared.queues).live += 1;
            let running = Arc::clone(&shared);
            match thread::Builder::new().name(format!("{name}-{index}")).spawn(move || running.run()) {
                Ok(thread) => lock(&flusher.threads).push(thread),
                Err(error) => {
                    lock(&shared.queues).live -= 1;
                    return Err(error);
                }
            }
        }
        Ok(flusher)
    }

    /// Wants `item` flushed: everything written to it before this call will be covered by a flush that begins after it.
    /// Never blocks for a disk. Once [`Flusher::stop`] has returned, nothing is flushed any more.
    pub fn request(&self, item: &Arc<dyn Flushable>, urgency: Urgency) {
        if item.flush_state().want(urgency) {
            self.shared.enqueue(Arc::clone(item), urgency);
        }
    }

    /// [`Flusher::request`] for who holds the item's own type: its reference is cloned only when it has to be queued.
    pub fn request_of<T: Flushable + 'static>(&self, item: &Arc<T>, urgency: Urgency) {
        if item.flush_state().want(urgency) {
            self.shared.enqueue(Arc::clone(item) as Arc<dyn Flushable>, urgency);
        }
    }

    /// Flushes everything that is wanted by now, at once, and ends the threads. Safe to call twice and from several threads;
    /// from within a `flush` it does not wait for that one.
    pub fn stop(&self) {
        lock(&self.shared.queues).stopping = true;
        self.shared.wake.notify_all();
        let mut threads = lock(&self.threads);
        // Whoever drops the last reference to the flusher may be one of its threads; that one ends by itself.
        let me = thread::current().id();
        for thread in threads.drain(..).filter(|thread| thread.thread().id() != me) {
            // It catches the panics of what it calls, so it can only have ended well.
            thread.join().expect("a flusher's thread does not panic");
        }
    }

    /// Flushes done since the start.
    #[must_use]
    pub fn flush_count(&self) -> u64 {
        self.shared.flushes.load(Ordering::Relaxed)
    }

    /// Flushes that panicked, which is a defect: those who wait for such an item were perhaps not told.
    #[must_use]
    pub fn panic_count(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

enum Task {
    Flush(Arc<dyn Flushable>, u8),
    Stop,
}

impl Shared {
    fn run(&self) {
        loop {
            let (item, queued) = match self.next_task() {
                Task::Flush(item, queued) => (item, queued),
                Task::Stop => return,
            };
            if !item.flush_state().claim(queued) {
                continue;
            }
            self.flushes.fetch_add(1, Ordering::Relaxed);
            if catch_unwind(AssertUnwindSafe(|| item.flush())).is_err() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(urgency) = item.flush_state().finish() {
                self.enqueue(item, urgency);
            }
        }
    }

    fn enqueue(&self, item: Arc<dyn Flushable>, urgency: Urgency) {
        let mut queues = lock(&self.queues);
        if queues.live == 0 {
            return;
        }
        let wake = match urgency {
            Urgency::Now => {
                queues.now.push_back(item);
                queues.sleeping > 0
            }
            Urgency::Soon => {
                queues.soon.push_back((Instant::now() + self.gather, item));
                queues.sleeping > 0 && !queues.has_timekeeper
            }
        };
        drop(queues);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Sleeps until there is an entry to take.
    fn next_task(&self) -> Task {
        let mut queues = lock(&self.queues);
        loop {
            if let Some(item) = queues.now.pop_front() {
                self.wake_timekeeper(queues);
                return Task::Flush(item, IN_NOW);
            }
            let due = queues.soon.front().map(|(due, _)| *due);
            let due_in = due.map(|due| due.saturating_duration_since(Instant::now()));
            match due_in {
                Some(due_in) if due_in.is_zero() || queues.stopping => {
                    let (_, item) = queues.soon.pop_front().expect("it was there, under this lock");
                    self.wake_timekeeper(queues);
                    return Task::Flush(item, IN_SOON);
                }
                None if queues.stopping => {
                    queues.live -= 1;
                    return Task::Stop;
                }
                Some(due_in) if !queues.has_timekeeper => {
                    queues.has_timekeeper = true;
                    queues.sleeping += 1;
                    let woken = self.wake.wait_timeout(queues, due_in);
                    queues = woken.unwrap_or_else(PoisonError::into_inner).0;
                    queues.sleeping -= 1;
                    queues.has_timekeeper = false;
                }
                _ => {
                    queues.sleeping += 1;
                    queues = self.wake.wait(queues).unwrap_or_else(PoisonError::into_inner);
                    queues.sleeping -= 1;
                }
            }
        }
    }

    /// The caller leaves with a task: another thread must see to what waits behind it.
    fn wake_timekeeper(&self, queues: MutexGuard<'_, Queues>) {
        let wake = queues.sleeping > 0 && !queues.has_timekeeper && !queues.soon.is_empty();
        drop(queues);
        if wake {
            self.wake.notify_one();
        }
    }
}

/// No holder leaves these half changed, so the panic of another is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
