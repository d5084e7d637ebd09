//! From the command line to a running broker and back: the order of start and stop.

use std::process::ExitCode;

/// Runs the process to its end.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
