//! Which workspace crate may import which, and what some must never know: the table of `ARCHITECTURE.md`.

use super::Source;

/// One row of the table: a crate, the workspace crates it may import, and the outside crates it must never know.
struct Row {
    package: &'static str,
    imports: &'static [&'static str],
    never: &'static [&'static str],
    /// Words that its sources (outside tests) do not contain, for what no manifest shows.
    words: &'static [&'static str],
}

const CLOCKS_AND_FILES: &[&str] =
    &["async fn", "std::net::", "std::fs::", "std::time::Instant", "Instant::now", "SystemTime"];

const TABLE: &[Row] = &[
    Row {
        package: "ottla-protocol",
        imports: &[],
        never: &["tokio", "rustix", "socket2"],
        words: CLOCKS_AND_FILES,
    },
    Row {
        package: "ottla-storage",
        imports: &["ottla-protocol"],
        never: &["tokio", "socket2"],
        words: &["async fn", "std::net::"],
    },
    Row {
        package: "ottla-cluster",
        imports: &["ottla-protocol"],
        never: &["tokio", "tokio-util", "rustix", "rand", "getrandom"],
        words: &[
            "async fn",
            "std::net::",
            "std::fs::",
            "std::time::Instant",
            "Instant::now",
            "SystemTime",
            "HashMap",
            "HashSet",
        ],
    },
    Row {
        package: "ottla-process",
        imports: &["ottla-protocol", "ottla-cluster"],
        never: &["openraft"],
        words: &[],
    },
    Row { package: "ottla-transport", imports: &["ottla-protocol"], never: &[], words: &[] },
    Row {
        package: "ottla-coordinator",
        imports: &["ottla-protocol", "ottla-storage", "ottla-cluster", "ottla-process", "ottla-transport"],
        never: &[],
        words: &[],
    },
    Row {
        package: "ottla-partition",
        imports: &["ottla-protocol", "ottla-storage", "ottla-cluster"],
        never: &["tokio", "tokio-util", "socket2"],
        words: &["async fn", "std::net::"],
    },
    Row {
        package: "ottla-sim",
        imports: &["ottla-protocol", "ottla-storage", "ottla-cluster", "ottla-partition"],
        never: &["tokio", "tokio-util", "rand", "getrandom"],
        words: &["async fn", "std::net::", "std::fs::", "SystemTime", "HashMap", "HashSet"],
    },
    Row {
        package: "ottla-broker",
        imports: &[
            "ottla-protocol",
            "ottla-storage",
            "ottla-cluster",
            "ottla-partition",
            "ottla-process",
            "ottla-transport",
            "ottla-coordinator",
        ],
        never: &[],
        words: &[],
    },
    Row { package: "ottla-dump", imports: &["ottla-protocol", "ottla-transport"], never: &[], words: &[] },
    Row { package: "ottla", imports: &["ottla-client-sdk", "ottla-dump"], never: &[], words: &[] },
    Row {
        package: "ottla-client-sdk",
        imports: &["ottla-protocol", "ottla-transport"],
        never: &["rustix", "socket2"],
        words: &["std::fs::"],
    },
    Row {
        package: "ottla-integration-tests",
        imports: &["ottla-client-sdk", "ottla-protocol", "ottla-transport"],
        never: &[],
        words: &[],
    },
    Row { package: "xtask", imports: &[], never: &[], words: &[] },
];

/// Every manifest against the table, and no crate anywhere that brings a second crypto stack.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for source in sources {
        if source.path == "Cargo.lock" && source.text.lines().any(|line| line == "name = \"ring\"") {
            breaches.push("Cargo.lock: `ring` came in; the one crypto stack is aws-lc-rs".to_owned());
        }
        if source.is_manifest() {
            breaches.extend(manifest(source, sources));
        }
    }
    breaches
}

fn manifest(source: &Source, sources: &[Source]) -> Vec<String> {
    let package = value(&source.text, "name").unwrap_or_default();
    let Some(row) = TABLE.iter().find(|row| row.package == package) else {
        return vec![format!("{}: `{package}` is missing in the import table", source.path)];
    };
    let mut breaches = Vec::new();
    for dependency in dependencies(&source.text) {
        let of_workspace = TABLE.iter().any(|row| row.package == dependency);
        if of_workspace && !row.imports.contains(&dependency) || row.never.contains(&dependency) {
            breaches.push(format!("{}: `{package}` must not import `{dependency}`", source.path));
        }
    }
    let directory = source.path.trim_end_matches("Cargo.toml").to_owned() + "src/";
    let own = sources.iter().filter(|s| s.is_rust() && s.path.starts_with(&directory) && !s.is_generated());
    for file in own.filter(|s| !is_test_file(&s.path)) {
        breaches.extend(forbidden_words(file, row));
    }
    breaches
}

fn forbidden_words(file: &Source, row: &Row) -> Vec<String> {
    let mut breaches = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start() == "#[cfg(test)]" {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for word in row.words.iter().filter(|word| code.contains(**word)) {
            breaches.push(format!("{}:{}: `{word}` in `{}`", file.path, index + 1, row.package));
        }
    }
    breaches
}

/// The real `Files` implementation is the one place in storage that may open files; test files may do anything.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs")
}

/// The names in `[dependencies]` and in the target-specific and build tables; dev-dependencies are free.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies") && !table.ends_with("dev-dependencies");
        } else if inside {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() && !name.starts_with('#') {
                names.push(name);
            }
        }
    }
    names
}

fn value<'a>(manifest: &'a str, key: &str) -> Option<&'a str> {
    let line = manifest.lines().find(|line| line.split(" = ").next() == Some(key))?;
    Some(line.split(" = ").nth(1)?.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(manifest: &str, path: &str, text: &str) -> Vec<String> {
        let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
        check(&[file("crates/x/Cargo.toml", manifest), file(path, text)])
    }

    #[test]
    fn an_import_outside_the_table_is_a_breach() {
        let manifest =
            "[package]\nname = \"ottla-cluster\"\n[dependencies]\nottla-storage.workspace = true\n";
        assert_eq!(
            breaches(manifest, "README.md", ""),
            ["crates/x/Cargo.toml: `ottla-cluster` must not import `ottla-storage`"]
        );
        assert!(breaches(&manifest.replace("storage", "protocol"), "README.md", "").is_empty());
        assert!(breaches(&manifest.replace("[dep", "[dev-dep"), "README.md", "").is_empty());
    }

    #[test]
    fn the_last_column_is_refused_too() {
        let manifest = "[package]\nname = \"ottla-partition\"\n[dependencies]\ntokio = \"1\"\n";
        assert_eq!(
            breaches(manifest, "README.md", ""),
            ["crates/x/Cargo.toml: `ottla-partition` must not import `tokio`"]
        );
    }

    #[test]
    fn a_pure_crate_reads_no_clock_outside_tests() {
        let manifest = "[package]\nname = \"ottla-cluster\"\n";
        let text = "// Instant::now\n#[cfg(test)]\nfn f() { Instant::now() }\n";
        assert!(breaches(manifest, "crates/x/src/lib.rs", text).is_empty());
        let found = breaches(manifest, "crates/x/src/lib.rs", "fn f() { Instant::now() }\n");
        assert_eq!(found, ["crates/x/src/lib.rs:1: `Instant::now` in `ottla-cluster`"]);
    }

    #[test]
    fn ring_and_unknown_crates_are_refused() {
        assert_eq!(breaches("[package]\nname = \"new\"\n", "Cargo.lock", "name = \"ring\"\n").len(), 2);
    }
}
