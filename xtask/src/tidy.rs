//! Checks of the house rules.

use anyhow::Result;
use std::path::Path;

/// Runs every check on the workspace at `root`.
pub fn run(_root: &Path, _arguments: &[&str]) -> Result<()> {
    Ok(())
}
