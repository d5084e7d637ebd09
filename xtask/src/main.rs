//! Development tasks: `cargo xtask gen`, `cargo xtask gen --check`, `cargo xtask tidy`.
#![allow(clippy::print_stdout, reason = "a command line tool")]

mod r#gen;
mod tidy;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root();
    match words.as_slice() {
        ["gen"] => r#gen::run(&root, r#gen::Mode::Write),
        ["gen", "--check"] => r#gen::run(&root, r#gen::Mode::Check),
        ["tidy"] => tidy::run(),
        _ => bail!("usage: cargo xtask gen [--check] | tidy"),
    }
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}
