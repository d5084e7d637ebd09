//! Waiting for a partition without a task or timer per partition: a parked request leaves a [`Waiter`] and is woken when
//! the high watermark passes what it waits for, or when the partition stops being served here.

use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;

use ottla_protocol::ids::Offset;

/// One parked request. It may wait on many partitions; the first that moves wakes it.
#[derive(Debug, Default)]
pub struct Waiter {
    state: Mutex<WaiterState>,
}

#[derive(Debug, Default)]
struct WaiterState {
    woken: bool,
    waker: Option<Waker>,
}

impl Waiter {
    /// A waiter that nothing has woken yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Wakes the request.
    pub fn wake(&self) {
        let waker = {
            let mut state = self.lock();
            state.woken = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// True once woken, and forgets it; otherwise `waker` is called at the next wake.
    pub fn poll_woken(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        if std::mem::take(&mut state.woken) {
            return true;
        }
        match &mut state.waker {
            Some(old) => old.clone_from(waker),
            slot @ None => *slot = Some(waker.clone()),
        }
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WaiterState> {
        self.state.lock().expect("no code panics while it holds a waiter")
    }
}

/// The waiters of one partition. Those whose request is gone are dropped as the list grows, so its length is at most twice
/// the number of requests that are parked on the partition, plus [`SPARE`].
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    entries: Vec<(Offset, Weak<Waiter>)>,
    live_at_last_sweep: usize,
}

/// Entries a list may hold before it is swept for the first time.
const SPARE: usize = 8;

impl Waiters {
    /// `waiter` is woken once the high watermark is above `beyond`.
    pub(crate) fn add(&mut self, beyond: Offset, waiter: &Arc<Waiter>) {
        if self.entries.len() >= 2 * self.live_at_last_sweep + SPARE {
            self.entries.retain(|(_, waiter)| waiter.strong_count() > 0);
            self.live_at_last_sweep = self.entries.len();
        }
        self.entries.push((beyond, Arc::downgrade(waiter)));
    }

    /// Wakes and forgets those that wait for an offset below `high_watermark`.
    pub(crate) fn wake_below(&mut self, high_watermark: Offset) {
        if self.entries.is_empty() {
            return;
        }
        self.entries.retain(|(beyond, waiter)| {
            if *beyond >= high_watermark {
                return true;
            }
            if let Some(waiter) = waiter.upgrade() {
                waiter.wake();
            }
            false
        });
    }

    /// Whether anybody is parked here.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Wakes and forgets all.
    pub(crate) fn wake_all(&mut self) {
        for (_, waiter) in self.entries.drain(..) {
            if let Some(waiter) = waiter.upgrade() {
                waiter.wake();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// What a follower's parked fetch waits on: many partitions, each under a number of the follower's own.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<InboxState>,
}

#[derive(Debug, Default)]
struct InboxState {
    ready: Vec<u32>,
    woken: bool,
    waker: Option<Waker>,
}

impl Inbox {
    /// The partition of that number has something.
    pub fn put(&self, number: u32) {
        self.change(|state| state.ready.push(number));
    }

    /// Wakes the fetch, whatever it waits for.
    pub fn wake(&self) {
        self.change(|state| state.woken = true);
    }

    fn change(&self, change: impl FnOnce(&mut InboxState)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The numbers that were put in since the last call, and whether there was anything. Otherwise `waker` is called when there is.
    pub fn poll_take(&self, waker: &Waker) -> Option<Vec<u32>> {
        let mut state = self.lock();
        if std::mem::take(&mut state.woken) || !state.ready.is_empty() {
            return Some(std::mem::take(&mut state.ready));
        }
        match &mut state.waker {
            Some(old) => old.clone_from(waker),
            slot @ None => *slot = Some(waker.clone()),
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InboxState> {
        self.state.lock().expect("no code panics while it holds an inbox")
    }
}

/// The followers that wait for the end of one partition's log, each once: as many as have a session at most.
#[derive(Debug, Default)]
pub(crate) struct EndWaiters {
    entries: Vec<(Offset, Weak<Inbox>, u32)>,
}

impl EndWaiters {
    /// `inbox` gets `number` once the log's end is above `beyond`.
    pub(crate) fn add(&mut self, beyond: Offset, inbox: &Arc<Inbox>, number: u32) {
        let inbox = Arc::downgrade(inbox);
        self.entries.retain(|(_, other, of)| {
            other.strong_count() > 0 && !(*of == number && Weak::ptr_eq(other, &inbox))
        });
        self.entries.push((beyond, inbox, number));
    }

    /// Tells and forgets those that wait for an offset below `end`.
    pub(crate) fn wake_below(&mut self, end: Offset) {
        self.entries.retain(|(beyond, inbox, number)| {
            if *beyond >= end {
                return true;
            }
            if let Some(inbox) = inbox.upgrade() {
                inbox.put(*number);
            }
            false
        });
    }

    /// Tells and forgets all.
    pub(crate) fn wake_all(&mut self) {
        self.wake_below(Offset(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_those_below_the_high_watermark_only() {
        let (near, far) = (Waiter::new(), Waiter::new());
        let mut waiters = Waiters::default();
        waiters.add(Offset(4), &near);
        waiters.add(Offset(5), &far);
        waiters.wake_below(Offset(5));
        assert!(near.poll_woken(Waker::noop()));
        assert!(!far.poll_woken(Waker::noop()));
        waiters.wake_all();
        assert!(far.poll_woken(Waker::noop()));
        assert!(!far.poll_woken(Waker::noop()), "a wake is seen once");
    }

    #[test]
    fn requests_that_are_gone_do_not_pile_up() {
        let mut waiters = Waiters::default();
        let live = Waiter::new();
        waiters.add(Offset(1), &live);
        for _ in 0..10_000 {
            waiters.add(Offset(1), &Waiter::new());
        }
        assert!(waiters.len() <= 2 + SPARE + 1, "{}", waiters.len());
    }
}
