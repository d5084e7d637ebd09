//! Clients that are programs of their own: kcat, and the Python clients in the virtual environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent directory").to_owned()
}

/// Runs `integration-tests/clients/SCRIPT` under the virtual environment; panics with its output if it fails.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let interpreter = root().join(".venv/bin/python");
    assert!(interpreter.exists(), "{} is missing: make setup", interpreter.display());
    let path = root().join("integration-tests/clients").join(script);
    finish(script, Command::new(interpreter).arg(path).args(arguments).stdin(Stdio::null()).output())
}

/// Runs kcat; panics with its output if it fails.
pub fn kcat(arguments: &[&str]) -> String {
    finish("kcat", Command::new("kcat").args(arguments).stdin(Stdio::null()).output())
}

fn finish(name: &str, output: std::io::Result<Output>) -> String {
    let output = output.unwrap_or_else(|error| panic!("{name}: {error} (make setup installs it)"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name} ended with {}:\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
