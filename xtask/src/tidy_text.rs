//! What tidy reads in the text of a file: line ends, words that do not stay, and the length of functions.

use super::Source;

/// Words that no source keeps, each with what to do instead. Written in two halves so that this file passes its own rule.
const WORDS: &[(&str, &str, &str)] = &[
    ("todo", "!(", "finish it"),
    ("unimplemented", "!(", "finish it"),
    ("dbg", "!(", "remove it"),
    ("#[ign", "ore", "a test runs or does not exist"),
    ("unsafe", " {", "the workspace forbids it"),
    ("unsafe", " fn", "the workspace forbids it"),
    ("unsafe", " impl", "the workspace forbids it"),
    ("#[allow(", "unsafe_code", "the workspace forbids it"),
];

/// Names that attract everything.
const FILE_NAMES: &[&str] = &["helper", "helpers", "util", "utils", "common", "manager", "misc", "types"];

const LINE_RULE_ENDINGS: &[&str] =
    &[".rs", ".toml", ".md", ".sh", ".py", ".txt", ".yml", ".yaml", "Makefile", "/run"];

/// One function found in a file: where it begins and how many lines it has, signature and braces included.
pub(super) struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// Trailing blanks, carriage returns, a missing last line end, marks of an unfinished merge.
pub(super) fn lines(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    if !LINE_RULE_ENDINGS.iter().any(|ending| source.path.ends_with(ending)) {
        return breaches;
    }
    for (index, line) in source.text.split('\n').enumerate() {
        let at = index + 1;
        if line.ends_with([' ', '\t', '\r']) {
            breaches.push(format!("{}:{at}: blank at the end of the line", source.path));
        }
        if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
            breaches.push(format!("{}:{at}: an unfinished merge", source.path));
        }
    }
    if !source.text.is_empty() && !source.text.ends_with('\n') {
        breaches.push(format!("{}: the last line has no end", source.path));
    }
    breaches
}

/// Words and file names that do not stay, and sleeping in tests.
pub(super) fn words(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if FILE_NAMES.contains(&stem) {
        breaches.push(format!("{}: a name that attracts everything", source.path));
    }
    // The loop that waits for a condition lives in a support file, once.
    let is_test = source.path.contains("/tests/") && !source.path.ends_with("/support.rs");
    for (index, line) in source.text.lines().enumerate() {
        let at = index + 1;
        let code = line.split("//").next().unwrap_or_default();
        for (first, second, instead) in WORDS {
            if code.contains(&format!("{first}{second}")) {
                breaches.push(format!("{}:{at}: `{first}{second}`: {instead}", source.path));
            }
        }
        if is_test && code.contains("sleep(") {
            breaches.push(format!("{}:{at}: a test waits for a condition, it does not sleep", source.path));
        }
    }
    breaches
}

/// The functions of a formatted file. rustfmt closes a function at the indentation of its first line, so no parser is
/// needed; a body on one line, or a declaration without one, is no longer than it looks.
pub(super) fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        // The second form ends a declaration whose signature takes several lines.
        let closes = |line: &&str| {
            let rest = line.strip_prefix(indent).unwrap_or_default();
            rest == "}" || rest.starts_with(')') && rest.ends_with(';')
        };
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        if let Some(length) = lines[index + 1..].iter().position(closes) {
            found.push(Function { name, line: index + 1, lines: length + 2 });
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    for qualifier in ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "extern \"C\" "] {
        rest = rest.strip_prefix(qualifier).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (end > 0).then(|| name[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn functions_are_measured_by_their_indentation() {
        let text = "impl A {\n    pub(super) async fn one(\n        &self,\n    ) -> u8 {\n        if x {\n        }\n    }\n\n    \
                    fn two() {}\n\n    fn three(&self);\n}\n";
        let found = functions(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].line, found[0].lines), ("one", 2, 6));
    }

    #[test]
    fn words_that_do_not_stay_are_found_in_code_only() {
        let mark = ["to", "do!()"].concat();
        assert_eq!(words(&source("crates/a/src/b.rs", &format!("fn f() {{ {mark} }}\n"))).len(), 1);
        assert!(words(&source("crates/a/src/b.rs", &format!("// no {mark}\n"))).is_empty());
        assert_eq!(words(&source("crates/a/src/utils.rs", "")).len(), 1);
        assert_eq!(words(&source("crates/a/tests/t.rs", "std::thread::sleep(x);\n")).len(), 1);
    }

    #[test]
    fn line_ends_are_checked() {
        assert_eq!(lines(&source("a.md", "one \ntwo")).len(), 2);
        assert!(lines(&source("a.md", "one\ntwo\n")).is_empty());
        assert!(lines(&source("a.bin", "one ")).is_empty());
    }
}
