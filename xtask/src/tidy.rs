//! House rules that neither the compiler nor clippy knows: who may import whom, how long files and functions get, which
//! words do not stay. Reads the tracked files and their manifests; writes nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

#[path = "tidy_imports.rs"]
mod imports;
#[path = "tidy_text.rs"]
mod text;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 60;
const EXCEPTIONS_MAX: usize = 5;

/// What may be longer than the limits, and why. At most five, none of them a handler.
const EXCEPTIONS: &[Exception] = &[];

/// One file, or one function of it, that may be longer than its limit.
struct Exception {
    path: &'static str,
    /// `None` excepts the file's own length.
    function: Option<&'static str>,
    reason: &'static str,
}

/// One tracked file.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// A manifest of the workspace; `fuzz` and `quick-start` are workspaces of their own.
    fn is_manifest(&self) -> bool {
        let is_outside = ["fuzz/", "quick-start/"].iter().any(|folder| self.path.starts_with(folder));
        self.path.ends_with("/Cargo.toml") && !is_outside
    }

    fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }
}

/// Checks all rules on the repository whose root is the current directory's workspace; lists every breach.
pub fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent directory")?;
    let sources = tracked(root)?;
    let mut breaches = Vec::new();
    for source in &sources {
        breaches.extend(text::lines(source));
        if source.is_rust() && !source.is_generated() {
            breaches.extend(text::words(source));
        }
    }
    breaches.extend(lengths(&sources, EXCEPTIONS));
    breaches.extend(imports::check(&sources));
    breaches.extend(licences(&sources));
    if breaches.is_empty() {
        return Ok(());
    }
    let mut list = String::new();
    for breach in &breaches {
        writeln!(list, "  {breach}")?;
    }
    bail!("{} breaches of the house rules (xtask/src/tidy.rs):\n{list}", breaches.len())
}

fn tracked(root: &Path) -> Result<Vec<Source>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let mut sources = Vec::new();
    for path in String::from_utf8(listed.stdout)?.lines() {
        // What is not text (recorded frames, archives) or has just been deleted has no rules here.
        let Ok(bytes) = std::fs::read(root.join(path)) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}

fn lengths(sources: &[Source], exceptions: &[Exception]) -> Vec<String> {
    let mut breaches = Vec::new();
    if exceptions.len() > EXCEPTIONS_MAX {
        breaches.push(format!("tidy has {} exceptions, at most {EXCEPTIONS_MAX}", exceptions.len()));
    }
    let mut used = vec![false; exceptions.len()];
    let mut excepted = |path: &str, function: Option<&str>| {
        let found = exceptions.iter().position(|e| e.path == path && e.function == function);
        if let Some(index) = found {
            used[index] = true;
        }
        found.is_some()
    };
    for source in sources.iter().filter(|s| s.is_rust() && !s.is_generated()) {
        let count = source.text.lines().count();
        if count > FILE_LINES_MAX && !excepted(&source.path, None) {
            breaches.push(format!("{}: {count} lines, at most {FILE_LINES_MAX}", source.path));
        }
        for function in text::functions(&source.text) {
            if function.lines > FUNCTION_LINES_MAX && !excepted(&source.path, Some(&function.name)) {
                breaches.push(format!(
                    "{}:{}: `{}` has {} lines, at most {FUNCTION_LINES_MAX}",
                    source.path, function.line, function.name, function.lines
                ));
            }
        }
    }
    for (exception, _) in exceptions.iter().zip(used).filter(|(e, used)| !used || e.reason.is_empty()) {
        breaches.push(format!("tidy's exception for {} is not needed or has no reason", exception.path));
    }
    breaches
}

fn licences(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    if !sources.iter().any(|s| s.path == "LICENSE" && s.text.contains("Apache License")) {
        breaches.push("LICENSE: the Apache License is missing".to_owned());
    }
    for source in sources.iter().filter(|s| s.is_manifest()) {
        for needed in ["license.workspace = true", "[lints]\nworkspace = true"] {
            if !source.text.contains(needed) {
                breaches.push(format!("{}: lacks `{}`", source.path, needed.replace('\n', " ")));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn long_function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_over_the_limit_is_a_breach_unless_excepted() {
        let fits = source("crates/a/src/lib.rs", &long_function(60));
        assert!(lengths(&[fits], &[]).is_empty());
        let sources = [source("crates/a/src/lib.rs", &long_function(61))];
        assert_eq!(lengths(&sources, &[]), ["crates/a/src/lib.rs:1: `long` has 61 lines, at most 60"]);
        let exception =
            Exception { path: "crates/a/src/lib.rs", function: Some("long"), reason: "one table" };
        assert!(lengths(&sources, &[exception]).is_empty());
    }

    #[test]
    fn an_exception_that_nothing_needs_is_a_breach() {
        let exception = Exception { path: "crates/gone.rs", function: None, reason: "it was long" };
        assert_eq!(
            lengths(&[], &[exception]),
            ["tidy's exception for crates/gone.rs is not needed or has no reason"]
        );
    }

    #[test]
    fn generated_files_may_be_long() {
        let text = "// line\n".repeat(601);
        assert!(lengths(&[source("crates/p/src/generated/x.rs", &text)], &[]).is_empty());
        assert_eq!(lengths(&[source("crates/p/src/x.rs", &text)], &[]).len(), 1);
    }

    #[test]
    fn a_manifest_names_the_licence_and_the_lints() {
        let licence = source("LICENSE", "Apache License");
        let good = source("crates/a/Cargo.toml", "license.workspace = true\n[lints]\nworkspace = true\n");
        assert!(licences(&[licence, good]).is_empty());
        assert_eq!(licences(&[source("crates/a/Cargo.toml", "")]).len(), 3);
    }
}
