//! Bugs that are planted on purpose, one at a time, to see that the simulation catches them. Only with the feature `planted-bugs`,
//! which no product has: without it nothing of this is left.

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// What is in memory counts as on disk.
    AckBeforeSync,
    /// Recovery cuts the last whole batch.
    RecoveryCuts,
    /// Opening a log forgets its idempotent producers.
    ProducersForgotten,
    /// A sync that began before a truncation says something about what came after.
    SyncCoversCut,
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    const NONE: u8 = u8::MAX;
    static CHOSEN: AtomicU8 = AtomicU8::new(NONE);

    /// Plants a bug in the whole process, or none.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.store(bug.map_or(NONE, |bug| bug as u8), Ordering::Relaxed);
    }

    /// Whether that bug is the one.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        CHOSEN.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(feature = "planted-bugs")]
pub use chosen::{plant, planted};

/// Never.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}
