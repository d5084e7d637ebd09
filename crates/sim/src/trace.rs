//! What happened, as one number: runs with equal traces did the same things in the same order.

use std::collections::BTreeMap;

/// Hash of all events so far, and how often things were seen.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    /// How often things happened that a run is worth something for.
    pub(crate) seen: BTreeMap<&'static str, u64>,
    verbose: bool,
    pub(crate) now_us: u64,
}

impl Trace {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, verbose, ..Self::default() }
    }

    /// Takes numbers into the hash.
    pub(crate) fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Notes that something happened.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Something for who replays one seed.
    #[allow(clippy::print_stderr, reason = "this is what a replay is for")]
    pub(crate) fn tell(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>12.6} {}", self.now_us as f64 / 1e6, text());
        }
    }
}
