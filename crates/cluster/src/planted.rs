//! Bugs that are planted on purpose, one at a time, to see that the simulation catches them. Only with the feature `planted-bugs`,
//! which no product has: without it nothing of this is left.

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// A follower cuts to its high watermark instead of where the logs part.
    TruncateToHighWatermark,
    /// A new leader takes the end of its log for committed.
    WatermarkOnLeaderChange,
    /// A follower is proposed for the ISR before it has everything.
    JoinsBehind,
    /// A report of what is on disk counts before the logs were compared.
    ReportBeforeMatch,
    /// The high watermark does not wait for members that are only proposed.
    CommittedIsrOnly,
    /// The controller takes an ISR that is based on an older one.
    StaleIsrEpoch,
    /// A registration with an empty disk leaves the broker in its ISRs.
    WipedReplicaElected,
    /// Whoever lives is elected, in sync or not.
    UncleanElection,
    /// Acknowledged is what is appended.
    AcknowledgedEarly,
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
