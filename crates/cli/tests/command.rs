//! The binary as people and scripts use it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn run(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads no input may be gone already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn fixture(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/fixtures").join(path);
    path.to_str().unwrap().to_owned()
}

/// ApiVersions 0 without a client id.
const REQUEST: &str = "0012 0000 00000007 ffff";

#[test]
fn hex_is_a_request_a_response_or_a_record() {
    let request = run(&["dump", "hex", "--output", "json"], REQUEST);
    assert!(request.status.success());
    let row: Value = serde_json::from_slice(&request.stdout).unwrap();
    assert_eq!((&row["api"], &row["correlation_id"]), (&"ApiVersions".into(), &7.into()));

    let response = run(&["dump", "hex", "--response-to", "apiversions:0"], "00000007 0000 00000000");
    assert!(response.status.success());
    assert!(text(&response.stdout).contains("ApiKeys: []ApiVersion, 0 elements"));

    let value = run(&["dump", "hex", "--as", "EndTxnMarker:0"], "00000005");
    assert!(text(&value.stdout).contains("CoordinatorEpoch: int32 = 5"));
}

#[test]
fn exit_codes_tell_damage_from_misuse() {
    let cut = run(&["dump", "hex"], "0012 0000 0000");
    assert_eq!(cut.status.code(), Some(1));
    let said = text(&cut.stdout);
    assert!(said.contains("error: header.CorrelationId at byte 4: 2 more bytes are needed"), "{said}");
    let misused = [
        (vec!["dump", "hex"], "zz", "line 1 is not hex from \"zz\" on"),
        (vec!["dump", "hex", "--as", "Nothing:0"], "", "--as Nothing:0: say records, or NAME:VERSION"),
        (vec!["dump", "file", "/nowhere/0.log"], "", "/nowhere/0.log: No such file"),
        (vec!["dump", "file", "Cargo.toml"], "", "Cargo.toml: cannot tell what it is from its name"),
        (vec!["dump", "file", "a.log", "--api", "Nope"], "", "--api Nope: there is no such API"),
        (vec!["dump", "proxy", "--listen", "127.0.0.1:99999"], "", "cannot listen on 127.0.0.1:99999"),
    ];
    for (args, input, why) in misused {
        let output = run(&args, input);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("ottla: ") && said.contains(why), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn files_are_shown_and_filtered() {
    let session = fixture("sessions/kcat.frames");
    let args = ["dump", "file", &session, "--output", "json"];
    let all = text(&run(&args, "").stdout);
    assert_eq!(all.lines().count(), 116);
    let some = text(&run(&[&args[..], &["--api", "metadata", "--api", "1"]].concat(), "").stdout);
    let keys: std::collections::BTreeSet<_> = some
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["api_key"].as_i64().unwrap())
        .collect();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), [1, 3]);

    let segment = fixture("records/logappend-0/00000000000000000000.log");
    let output = run(&["dump", "file", &segment, "--output", "json"], "");
    assert!(output.status.success());
    assert_eq!(text(&output.stdout).lines().count(), 60);
}

#[test]
fn whoever_reads_may_stop_early() {
    let session = fixture("sessions/librdkafka.frames");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(["dump", "file", &session, "--hex"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn every_subcommand_has_help_a_completion_and_a_manual_page() {
    let commands =
        ["topic", "produce", "consume", "group", "config", "cluster", "bench", "health", "dump", "profile"];
    let script = text(&run(&["completions", "bash"], "").stdout);
    let directory = tempfile::tempdir().unwrap();
    let pages = run(&["man", "--directory", directory.path().to_str().unwrap()], "");
    assert!(pages.status.success());
    for command in commands {
        let help = run(&[command, "--help"], "");
        assert!(help.status.success() && text(&help.stdout).contains("--bootstrap"), "{command}");
        assert!(
            script.contains(&format!("ottla__subcmd__{command}"))
                || script.contains(&format!("ottla__{command}")),
            "{command}"
        );
        let page = std::fs::read_to_string(directory.path().join(format!("ottla-{command}.1"))).unwrap();
        assert!(page.contains(&format!("ottla-{command}")), "{command}");
    }
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(run(&["completions", shell], "").stdout.len() > 1000, "{shell}");
    }
}

#[test]
fn profiles_come_from_a_file_and_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let shown = |file: &str| {
        std::fs::write(&path, file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
        command.args(["profile", "--output", "json"]).env("OTTLA_CONFIG", &path);
        command.env_remove("OTTLA_PROFILE").output().unwrap()
    };
    let good = shown("default-profile = \"p\"\n[profiles.p]\nbootstrap = \"x:1\"\n");
    let row: Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((&row["profile"], &row["bootstrap"]), (&"p".into(), &"x:1".into()));
    assert_eq!(row["is_default"], true);
    let bad = shown("[profiles.p]\nbootstap = \"x:1\"\n");
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("unknown field `bootstap`"), "{}", text(&bad.stderr));
}
