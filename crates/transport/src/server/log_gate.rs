//! Keeps floods out of the log: what one hostile or broken client can cause in any number gets few lines.

use std::time::Instant;

use crate::limits::LOG_PAUSE;

/// Lets so many log lines through per `LOG_PAUSE`.
#[derive(Debug)]
pub(crate) struct LogGate {
    lines_max: u32,
    opened: Option<Instant>,
    lines: u32,
    closed_to: u64,
}

impl LogGate {
    /// A gate for at most `lines_max` lines per pause.
    pub(crate) fn new(lines_max: u32) -> LogGate {
        LogGate { lines_max, opened: None, lines: 0, closed_to: 0 }
    }

    /// How many were held back since the last one, if this one may pass.
    pub(crate) fn open(&mut self, now: Instant) -> Option<u64> {
        if self.opened.is_none_or(|opened| now.duration_since(opened) >= LOG_PAUSE) {
            self.opened = Some(now);
            self.lines = 0;
        }
        if self.lines >= self.lines_max {
            self.closed_to += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.closed_to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_few_lines_and_is_counted() {
        let mut gate = LogGate::new(2);
        let now = Instant::now();
        let passed: Vec<_> = (0..5).map(|_| gate.open(now)).collect();
        assert_eq!(passed, [Some(0), Some(0), None, None, None]);
        assert_eq!(gate.open(now + LOG_PAUSE), Some(3));
        assert_eq!(gate.open(now + LOG_PAUSE), Some(0));
        assert_eq!(gate.open(now + LOG_PAUSE), None);
    }
}
