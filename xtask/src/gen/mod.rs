//! Writes `crates/protocol/src/generated` and `docs/protocol` from `protocol-spec`.

/// Adds formatted text to a string.
macro_rules! text {
    ($out:expr, $($arguments:tt)*) => { $out.push_str(&format!($($arguments)*)) };
}

/// Adds a formatted line to a string.
macro_rules! line {
    ($out:expr, $($arguments:tt)*) => {{
        text!($out, $($arguments)*);
        $out.push('\n');
    }};
}

mod docs;
mod error_codes;
mod index;
mod names;
mod parse;
mod rust;
mod spec;
mod tables;
#[cfg(test)]
mod tests;
mod validate;

use anyhow::{Context, Result, bail, ensure};
use spec::Spec;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Write the files or only compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Write,
    Check,
}

/// Generates everything; in `Mode::Check` nothing is written and a difference is an error.
pub fn run(root: &Path, mode: Mode) -> Result<()> {
    let spec = load(&root.join("protocol-spec"))?;
    validate::spec(&spec)?;
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (path, text) in rust_files(&spec) {
        files.insert(root.join("crates/protocol/src/generated").join(path), text);
    }
    format_all(root, &mut files)?;
    for (path, text) in docs::files(&spec) {
        files.insert(root.join("docs/protocol").join(path), text);
    }
    let owned = [root.join("crates/protocol/src/generated"), root.join("docs/protocol")];
    let mut stale: BTreeSet<PathBuf> = BTreeSet::new();
    for directory in &owned {
        list(directory, &mut stale)?;
    }
    let mut different = Vec::new();
    for (path, text) in &files {
        stale.remove(path);
        if fs::read_to_string(path).ok().as_deref() != Some(text) {
            different.push(path.clone());
            if mode == Mode::Write {
                fs::create_dir_all(path.parent().context("a file has a directory")?)?;
                fs::write(path, text).with_context(|| path.display().to_string())?;
            }
        }
    }
    if mode == Mode::Write {
        for path in &stale {
            fs::remove_file(path)?;
        }
        println!("gen: {} files, {} changed, {} removed", files.len(), different.len(), stale.len());
        return Ok(());
    }
    different.extend(stale);
    for path in &different {
        println!("differs from protocol-spec: {}", path.strip_prefix(root).unwrap_or(path).display());
    }
    ensure!(different.is_empty(), "run `cargo xtask gen`");
    Ok(())
}

fn rust_files(spec: &Spec) -> Vec<(PathBuf, String)> {
    let mut out = Vec::new();
    for api in &spec.apis {
        let head = format!("{} ({}): {}", api.name, api.key, api.description);
        let text = rust::file(&head, &[&api.request, &api.response]);
        out.push((PathBuf::from(format!("{}.rs", names::snake(&api.name))), text));
    }
    let headers: Vec<_> = spec.headers.iter().collect();
    out.push(("headers.rs".into(), rust::file("The headers of requests and responses.", &headers)));
    for file in &spec.records {
        let messages: Vec<_> = file.messages.iter().collect();
        out.push((
            PathBuf::from(format!("records/{}.rs", file.name)),
            rust::file(&file.description, &messages),
        ));
    }
    out.extend(tables::files(spec));
    out.push(("records/mod.rs".into(), index::records(spec)));
    out.push(("mod.rs".into(), index::root(spec)));
    out
}

fn load(directory: &Path) -> Result<Spec> {
    let mut spec = Spec::default();
    for path in sorted(&directory.join("messages"))? {
        let text = fs::read_to_string(&path)?;
        let api = parse::api(&text).with_context(|| path.display().to_string())?;
        let expected = format!("{:03}_{}.txt", api.key, names::snake(&api.name));
        ensure!(
            path.file_name().is_some_and(|n| n == expected.as_str()),
            "{} should be {expected}",
            path.display()
        );
        spec.apis.push(api);
    }
    if directory.join("records").exists() {
        for path in sorted(&directory.join("records"))? {
            let text = fs::read_to_string(&path)?;
            let name = path.file_stem().and_then(|s| s.to_str()).context("a file name is text")?;
            let file = parse::records(name, &text).with_context(|| path.display().to_string())?;
            spec.records.push(file);
        }
    }
    let headers = fs::read_to_string(directory.join("headers.txt"))?;
    spec.headers = parse::records("headers", &headers).context("headers.txt")?.messages;
    spec.errors = parse::errors(&fs::read_to_string(directory.join("errors.txt"))?).context("errors.txt")?;
    Ok(spec)
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut out: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    out.sort();
    Ok(out)
}

fn list(directory: &Path, out: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for path in sorted(directory)? {
        if path.is_dir() {
            list(&path, out)?;
        } else {
            out.insert(path);
        }
    }
    Ok(())
}

/// Runs rustfmt over the Rust files, through a scratch directory so that the check writes nothing in the tree.
fn format_all(root: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let scratch = root.join("target/xtask-gen");
    fs::create_dir_all(&scratch)?;
    let mut places = Vec::new();
    for (index, (path, text)) in
        files.iter().filter(|(p, _)| p.extension().is_some_and(|e| e == "rs")).enumerate()
    {
        let place = scratch.join(format!("f{index}.rs"));
        // Module declarations would send rustfmt after files that are not here.
        fs::write(&place, hide_modules(text))?;
        places.push((path.clone(), place));
    }
    let config = root.join("rustfmt.toml");
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(&config)
        .args(places.iter().map(|(_, place)| place))
        .stdin(Stdio::null())
        .status()
        .context("rustfmt")?;
    if !status.success() {
        bail!("rustfmt refused the generated code in {}", scratch.display());
    }
    for (path, place) in places {
        let text = fs::read_to_string(&place)?.replace("//MODULE ", "");
        files.insert(path, text);
        fs::remove_file(&place)?;
    }
    Ok(())
}

/// Turns module declarations into comments: rustfmt would go after files that are not there yet.
fn hide_modules(text: &str) -> String {
    text.replace("\npub mod ", "\n//MODULE pub mod ").replace("\nmod ", "\n//MODULE mod ")
}
