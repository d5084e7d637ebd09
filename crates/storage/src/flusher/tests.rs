use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(3600);

/// Tells when a flush begins, and waits for leave to end it.
struct Gated {
    state: FlushState,
    began: Sender<()>,
    leave: Mutex<Receiver<()>>,
}

impl Flushable for Gated {
    fn flush(&self) {
        self.began.send(()).expect("the test waits");
        self.leave.lock().expect("one flush at a time").recv_timeout(DEADLINE).expect("leave is given");
    }
    fn flush_state(&self) -> &FlushState {
        &self.state
    }
}

fn gated() -> (Arc<Gated>, Receiver<()>, Sender<()>) {
    let (began, begins) = mpsc::channel();
    let (leaves, leave) = mpsc::channel();
    (Arc::new(Gated { state: FlushState::default(), began, leave: Mutex::new(leave) }), begins, leaves)
}

fn start(threads: usize, gather: Duration) -> Flusher {
    Flusher::start("flush-test", FlusherConfig { threads, gather }).expect("threads start")
}

#[test]
fn requests_during_a_flush_cause_exactly_one_more() {
    let flusher = start(2, NEVER);
    let (item, begins, leaves) = gated();
    flusher.request_of(&item, Urgency::Now);
    begins.recv_timeout(DEADLINE).expect("the first flush begins");
    for _ in 0..100 {
        flusher.request_of(&item, Urgency::Now);
        flusher.request_of(&item, Urgency::Soon);
    }
    leaves.send(()).expect("it waits");
    begins.recv_timeout(DEADLINE).expect("the second flush begins");
    leaves.send(()).expect("it waits");
    flusher.stop();
    assert_eq!(flusher.flush_count(), 2);
    assert!(begins.try_recv().is_err());
}

#[test]
fn soon_gathers_now_does_not_and_stop_drains() {
    let flusher = start(2, NEVER);
    let (lazy, lazy_begins, lazy_leaves) = gated();
    let (hasty, hasty_begins, hasty_leaves) = gated();
    for leaves in [&lazy_leaves, &hasty_leaves] {
        leaves.send(()).expect("kept for the flush");
    }
    for _ in 0..10 {
        flusher.request_of(&lazy, Urgency::Soon);
        flusher.request_of(&hasty, Urgency::Soon);
    }
    flusher.request_of(&hasty, Urgency::Now);
    hasty_begins.recv_timeout(DEADLINE).expect("it does not gather any more");
    assert!(lazy_begins.try_recv().is_err(), "it gathers for an hour");
    flusher.stop();
    lazy_begins.try_recv().expect("stop flushes what gathers");
    assert_eq!(flusher.flush_count(), 2);
    flusher.stop();
    flusher.request_of(&lazy, Urgency::Now);
    assert_eq!(flusher.flush_count(), 2);
}

#[test]
fn soon_comes_by_itself() {
    let flusher = start(1, Duration::from_millis(1));
    let (item, begins, leaves) = gated();
    let item: Arc<dyn Flushable> = item;
    for _ in 0..3 {
        leaves.send(()).expect("kept for the flush");
        flusher.request(&item, Urgency::Soon);
        begins.recv_timeout(DEADLINE).expect("after a millisecond");
    }
}

struct Meets {
    state: FlushState,
    barrier: Arc<Barrier>,
}

impl Flushable for Meets {
    fn flush(&self) {
        self.barrier.wait();
    }
    fn flush_state(&self) -> &FlushState {
        &self.state
    }
}

#[test]
fn several_items_are_flushed_at_once() {
    let flusher = start(3, NEVER);
    let barrier = Arc::new(Barrier::new(3));
    for _ in 0..3 {
        let item = Arc::new(Meets { state: FlushState::default(), barrier: Arc::clone(&barrier) });
        flusher.request_of(&item, Urgency::Now);
    }
    flusher.stop();
    assert_eq!(flusher.flush_count(), 3);
}

/// Everything that can happen to one item, as the threads see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    state: u8,
    in_now: u8,
    in_soon: u8,
    running: u8,
    /// Something was requested that no flush begun since covers.
    uncovered: bool,
}

impl World {
    fn queue(&mut self, urgency: Urgency) {
        match urgency {
            Urgency::Now => self.in_now += 1,
            Urgency::Soon => self.in_soon += 1,
        }
    }

    fn request(mut self, urgency: Urgency) -> Self {
        let state = FlushState(AtomicU8::new(self.state));
        if state.want(urgency) {
            self.queue(urgency);
        }
        Self { state: state.0.into_inner(), uncovered: true, ..self }
    }

    fn take(mut self, queued: u8) -> Self {
        let state = FlushState(AtomicU8::new(self.state));
        *(if queued == IN_NOW { &mut self.in_now } else { &mut self.in_soon }) -= 1;
        if state.claim(queued) {
            self.running += 1;
            self.uncovered = false;
        }
        Self { state: state.0.into_inner(), ..self }
    }

    fn finish(mut self) -> Self {
        let state = FlushState(AtomicU8::new(self.state));
        self.running -= 1;
        if let Some(urgency) = state.finish() {
            self.queue(urgency);
        }
        Self { state: state.0.into_inner(), ..self }
    }

    fn check(&self) {
        assert!(self.running <= 1, "one flush at a time: {self:?}");
        assert!(self.in_now <= 1 && self.in_soon <= 1, "queued once: {self:?}");
        let comes = self.running + self.in_now + self.in_soon > 0;
        assert!(!self.uncovered || self.state & WANTED != 0 && comes, "no request is lost: {self:?}");
        let urgent = self.state & WANT_NOW == 0 || self.running + self.in_now > 0;
        assert!(urgent, "an urgent one does not gather: {self:?}");
    }
}

#[test]
fn in_no_order_of_events_is_a_request_lost_or_a_flush_doubled() {
    let begin = World { state: 0, in_now: 0, in_soon: 0, running: 0, uncovered: false };
    let mut seen = std::collections::BTreeSet::from([begin]);
    let mut open = vec![begin];
    while let Some(world) = open.pop() {
        world.check();
        let mut next = vec![world.request(Urgency::Now), world.request(Urgency::Soon)];
        next.extend((world.in_now > 0).then(|| world.take(IN_NOW)));
        next.extend((world.in_soon > 0).then(|| world.take(IN_SOON)));
        next.extend((world.running > 0).then(|| world.finish()));
        open.extend(next.into_iter().filter(|world| seen.insert(*world)));
    }
    println!("flusher: {} states of an item", seen.len());
    assert!(seen.len() > 20);
}

/// Holds the last reference to its flusher and drops it while it is flushed.
struct Owner {
    state: FlushState,
    flusher: Mutex<Option<Flusher>>,
    done: Sender<()>,
}

impl Flushable for Owner {
    fn flush(&self) {
        drop(self.flusher.lock().expect("one flush at a time").take());
        self.done.send(()).expect("the test waits");
    }
    fn flush_state(&self) -> &FlushState {
        &self.state
    }
}

#[test]
fn a_flusher_may_be_dropped_by_what_it_flushes() {
    let (done, is_done) = mpsc::channel();
    let item = Arc::new(Owner { state: FlushState::default(), flusher: Mutex::default(), done });
    let mut place = item.flusher.lock().expect("nobody has it yet");
    let flusher = place.insert(start(2, NEVER));
    flusher.request_of(&item, Urgency::Now);
    drop(place);
    is_done.recv_timeout(DEADLINE).expect("it does not wait for itself");
}

struct Panics {
    state: FlushState,
    armed: AtomicBool,
}

impl Flushable for Panics {
    fn flush(&self) {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "the test wants it");
    }
    fn flush_state(&self) -> &FlushState {
        &self.state
    }
}

#[test]
fn a_panic_stops_neither_thread_nor_item() {
    let flusher = start(1, NEVER);
    let item = Arc::new(Panics { state: FlushState::default(), armed: AtomicBool::new(true) });
    flusher.request_of(&item, Urgency::Now);
    wait_until(|| flusher.panic_count() == 1);
    wait_until(|| item.state.0.load(Ordering::SeqCst) == 0);
    flusher.request_of(&item, Urgency::Now);
    flusher.stop();
    assert_eq!((flusher.flush_count(), flusher.panic_count()), (2, 1));
}

#[derive(Default)]
struct Counted {
    state: FlushState,
    written: AtomicU64,
    flushed: AtomicU64,
    inside: AtomicBool,
    overlaps: AtomicU64,
}

impl Flushable for Counted {
    fn flush(&self) {
        if self.inside.swap(true, Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        let written = self.written.load(Ordering::SeqCst);
        thread::yield_now();
        self.flushed.fetch_max(written, Ordering::SeqCst);
        self.inside.store(false, Ordering::SeqCst);
    }
    fn flush_state(&self) -> &FlushState {
        &self.state
    }
}

#[test]
fn under_stress_every_write_is_covered_and_no_flush_overlaps() {
    const ITEMS: usize = 7;
    const WRITERS: usize = 4;
    const WRITES: usize = 20_000;
    let flusher = start(3, Duration::from_micros(50));
    let items: Vec<Arc<Counted>> = (0..ITEMS).map(|_| Arc::default()).collect();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (items, flusher) = (&items, &flusher);
            scope.spawn(move || {
                for write in 0..WRITES {
                    let item = &items[(write * 31 + writer) % ITEMS];
                    let mine = item.written.fetch_add(1, Ordering::SeqCst) + 1;
                    let urgency = if write % 3 == 0 { Urgency::Now } else { Urgency::Soon };
                    flusher.request_of(item, urgency);
                    if write % 1000 == 999 {
                        wait_until(|| item.flushed.load(Ordering::SeqCst) >= mine);
                    }
                }
            });
        }
    });
    for item in &items {
        wait_until(|| item.flushed.load(Ordering::SeqCst) == item.written.load(Ordering::SeqCst));
        assert_eq!(item.overlaps.load(Ordering::SeqCst), 0);
    }
    let written: u64 = items.iter().map(|item| item.written.load(Ordering::SeqCst)).sum();
    assert_eq!(written, (WRITERS * WRITES) as u64);
    assert!(flusher.flush_count() <= written);
    flusher.stop();
    // Nothing is left behind: every state is as at the beginning.
    assert!(items.iter().all(|item| item.state.0.load(Ordering::SeqCst) == 0));
}

fn wait_until(condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "it does not come about");
        thread::yield_now();
    }
}
