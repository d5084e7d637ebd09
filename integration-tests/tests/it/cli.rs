//! The command `ottla` against a real broker, as people and scripts use it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ottla_integration_tests::broker::built;
use ottla_integration_tests::{Broker, BrokerOptions, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(60);

fn command(broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = Command::new(built("ottla"));
    command.args(["--bootstrap", &broker.bootstrap()]).args(arguments);
    command.env_remove("OTTLA_BOOTSTRAP").env("OTTLA_CONFIG", "/dev/null");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(broker: &Broker, arguments: &[&str]) -> Child {
    command(broker, arguments).spawn().expect("cargo build -p ottla makes it")
}

/// Runs the command to its end.
fn run_with(broker: &Broker, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = spawn(broker, arguments);
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let pid = child.id();
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || {
        // A command that does not read its input may be gone already.
        drop(stdin.write_all(&input));
        drop(stdin);
        done.send(child.wait_with_output()).expect("the test waits");
    });
    match result.recv_timeout(TIMEOUT) {
        Ok(output) => output.expect("it ran"),
        Err(_late) => {
            interrupt(pid);
            panic!("ottla {arguments:?} did not end within {TIMEOUT:?}")
        }
    }
}

fn run(broker: &Broker, arguments: &[&str]) -> Output {
    run_with(broker, arguments, b"")
}

fn interrupt(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0");
    kill_process(pid, Signal::INT).expect("it runs");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What a command that succeeds writes.
fn said_with(broker: &Broker, arguments: &[&str], input: &[u8]) -> String {
    let output = run_with(broker, arguments, input);
    assert!(output.status.success(), "ottla {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn said(broker: &Broker, arguments: &[&str]) -> String {
    said_with(broker, arguments, b"")
}

/// The same as rows of JSON.
fn rows(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let mut with_json = arguments.to_vec();
    with_json.extend(["--output", "json"]);
    said(broker, &with_json).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn quick_groups() -> Broker {
    BrokerOptions::default().set("group.initial.rebalance.delay.ms", 0).start()
}

#[test]
fn what_is_consumed_as_json_can_be_produced_again() {
    let broker = Broker::start_default();
    said(&broker, &["topic", "create", "first", "second", "--partitions", "2"]);
    let given = [
        json!({"partition": 0, "key": "k", "value": "v", "timestamp_ms": 5, "headers": [{"key": "h", "value": "x"}, {"key": "h", "value": null}]}),
        json!({"partition": 0, "key": null, "value": null, "timestamp_ms": 6, "headers": []}),
        json!({"partition": 1, "key": "", "value": {"base64": "/wA="}, "timestamp_ms": 7, "headers": []}),
        json!({"partition": 1, "key": "ä", "value": "zwei\nZeilen", "timestamp_ms": 8, "headers": []}),
    ];
    let lines: String = given.iter().map(|row| format!("{row}\n")).collect();
    said_with(&broker, &["produce", "first", "--json"], lines.as_bytes());
    let first = said(&broker, &["consume", "first", "--output", "json"]);
    said_with(&broker, &["produce", "second", "--json"], first.as_bytes());
    let mut read = rows(&broker, &["consume", "second"]);
    read.sort_by_key(|row| row["timestamp_ms"].as_i64());
    for (read, given) in read.iter_mut().zip(&given) {
        let fields = read.as_object_mut().expect("an object");
        assert_eq!(fields.remove("topic"), Some(json!("second")));
        assert!(fields.remove("offset").is_some());
        assert_eq!(read, given);
    }
    assert_eq!(read.len(), given.len());
}

#[test]
fn records_are_lines_keyed_lines_or_whole_files() {
    let broker = Broker::start_default();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("picture");
    std::fs::write(&path, b"one\ntwo\n\xff").expect("a file");
    let path = path.to_str().expect("a path");
    said(&broker, &["topic", "create", "t"]);
    said_with(&broker, &["produce", "t", "--key-separator", "\\t", "--tombstones"], b"a\tx:y\nb\t\n");
    said(&broker, &["produce", "t", "--whole", path, "--key", "file", "-H", "kind=raw"]);
    said_with(&broker, &["produce", "t", "--compression", "lz4", "--acks", "leader"], b"no end of line");
    let read = rows(&broker, &["consume", "t"]);
    let pairs: Vec<_> = read.iter().map(|row| (row["key"].clone(), row["value"].clone())).collect();
    let expected = [
        (json!("a"), json!("x:y")),
        (json!("b"), Value::Null),
        (json!("file"), json!({"base64": "b25lCnR3bwr/"})),
        (Value::Null, json!("no end of line")),
    ];
    assert_eq!(pairs, expected);
    assert_eq!(read[2]["headers"], json!([{"key": "kind", "value": "raw"}]));

    let wrong = run_with(&broker, &["produce", "t", "-k", ":"], b"good:1\nbad\n");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        text(&wrong.stderr).contains("standard input, line 2: there is no \":\""),
        "{}",
        text(&wrong.stderr)
    );
}

#[test]
fn reading_begins_and_ends_where_it_is_told_to() {
    let broker = Broker::start_default();
    said(&broker, &["topic", "create", "t"]);
    let lines: String =
        (0..10).map(|n| format!("{{\"value\": \"{n}\", \"timestamp_ms\": {}}}\n", 1000 * n)).collect();
    said_with(&broker, &["produce", "t", "--json"], lines.as_bytes());
    let read = |arguments: &[&str]| {
        let mut all = vec!["consume", "t", "--format", "{value}"];
        all.extend(arguments);
        said(&broker, &all).split_whitespace().collect::<String>()
    };
    assert_eq!(read(&[]), "0123456789");
    assert_eq!(read(&["--from", "7"]), "789");
    assert_eq!(read(&["--from", "2", "--to", "4"]), "23");
    assert_eq!(read(&["--from", "-3", "--to", "-1"]), "78");
    assert_eq!(read(&["--from", "@4500", "--to", "1970-01-01T00:00:07Z"]), "56");
    assert_eq!(read(&["--from", "end"]), "");
    assert_eq!(read(&["--from", "1", "-n", "2"]), "12");
    assert_eq!(read(&["--from", "100"]), "");
    assert_eq!(read(&["--from", "8", "--follow", "--idle-exit", "200ms"]), "89");
}

#[test]
fn following_ends_in_order_when_it_is_interrupted() {
    let broker = Broker::start_default();
    said(&broker, &["topic", "create", "t"]);
    said_with(&broker, &["produce", "t"], b"before\n");
    let mut child = spawn(&broker, &["consume", "t", "--follow"]);
    let (line, lines) = mpsc::channel();
    let stdout = child.stdout.take().expect("piped");
    let reading = std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|text| drop(line.send(text)));
    });
    assert_eq!(lines.recv_timeout(TIMEOUT).as_deref(), Ok("before"));
    said_with(&broker, &["produce", "t"], b"after\n");
    assert_eq!(lines.recv_timeout(TIMEOUT).as_deref(), Ok("after"));
    interrupt(child.id());
    wait_until(TIMEOUT, "its end", || child.try_wait().expect("a child"));
    assert_eq!(child.wait().expect("a child").code(), Some(0));
    reading.join().expect("it only reads");
}

#[test]
fn a_group_is_described_explained_reset_and_deleted() {
    let broker = quick_groups();
    said(&broker, &["topic", "create", "t", "--partitions", "2"]);
    said_with(&broker, &["produce", "t", "-k", ":"], b"a:1\nb:2\nc:3\nd:4\ne:5\n");
    said(&broker, &["consume", "t", "--group", "g", "-n", "5"]);
    let committed =
        |group: &[Value]| group.iter().map(|row| row["committed"].as_i64().unwrap_or(0)).sum::<i64>();
    let group = rows(&broker, &["group", "describe", "g"]);
    assert_eq!((group.len(), committed(&group)), (2, 5), "{group:?}");
    assert!(group.iter().all(|row| row["lag"] == 0 && row["state"] == "Empty"), "{group:?}");

    let dry = rows(&broker, &["group", "reset", "g", "--topic", "t", "--to", "beginning", "--dry-run"]);
    assert!(dry.iter().all(|row| row["new"] == 0 && row["result"] == "would be set"), "{dry:?}");
    assert_eq!(committed(&rows(&broker, &["group", "describe", "g"])), 5);
    said(&broker, &["group", "reset", "g", "--all-topics", "--to", "beginning"]);
    assert_eq!(committed(&rows(&broker, &["group", "describe", "g"])), 0);

    let why = rows(&broker, &["group", "why", "g"]);
    let kinds: Vec<&str> = why.iter().filter_map(|row| row["event"].as_str()).collect();
    assert!(kinds.contains(&"joined") && kinds.contains(&"left"), "{why:?}");
    let stands = why.iter().filter(|row| row["progress"] == "stands");
    assert_eq!(stands.clone().count(), 2, "{why:?}");
    for row in stands {
        assert!(row["reason"].as_str().is_some_and(|why| why.contains("no members: start one")), "{row}");
    }

    said(&broker, &["group", "delete", "g"]);
    assert_eq!(run(&broker, &["group", "describe", "g"]).status.code(), Some(3));
    assert!(rows(&broker, &["group", "list"]).is_empty());
}

#[test]
fn a_group_with_members_keeps_its_offsets() {
    let broker = quick_groups();
    said(&broker, &["topic", "create", "t"]);
    said_with(&broker, &["produce", "t"], b"1\n");
    let mut member = spawn(&broker, &["consume", "t", "--group", "g"]);
    let owns = |rows: &[Value]| rows.iter().any(|row| row["client_id"] == "ottla-cli");
    wait_until(TIMEOUT, "the member to have its partition", || {
        let output = run(&broker, &["group", "describe", "g", "--output", "json"]);
        let lines = text(&output.stdout);
        let rows: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        owns(&rows).then_some(())
    });
    for arguments in [&["group", "reset", "g", "--topic", "t", "--to", "0"][..], &["group", "delete", "g"]] {
        let refused = run(&broker, arguments);
        assert!(refused.status.code().is_some_and(|code| code == 2 || code == 5), "{refused:?}");
        assert!(text(&refused.stderr).contains("stop"), "{}", text(&refused.stderr));
    }
    interrupt(member.id());
    wait_until(TIMEOUT, "the member to leave", || member.try_wait().expect("a child"));
    said(&broker, &["group", "reset", "g", "--topic", "t", "--to", "0"]);
}

#[test]
fn topics_grow_change_shrink_and_go() {
    let broker = Broker::start_default();
    said(&broker, &["topic", "create", "t", "--partitions", "2", "--config", "retention.ms=5000"]);
    said_with(&broker, &["produce", "t", "-p", "0"], b"1\n2\n3\n");
    said(
        &broker,
        &[
            "topic",
            "alter",
            "t",
            "--partitions",
            "3",
            "--config",
            "cleanup.policy=compact",
            "--unset",
            "retention.ms",
        ],
    );
    let described = rows(&broker, &["topic", "describe", "t"]);
    assert_eq!(described.len(), 3);
    assert_eq!((&described[0]["beginning"], &described[0]["end"]), (&json!(0), &json!(3)));
    assert!(described[0]["size_bytes"].as_i64().is_some_and(|bytes| bytes > 0));
    let set = rows(&broker, &["config", "describe", "topic", "t"]);
    assert_eq!(set.len(), 1, "{set:?}");
    assert_eq!((&set[0]["key"], &set[0]["value"]), (&json!("cleanup.policy"), &json!("compact")));

    let purged = rows(&broker, &["topic", "purge", "t", "--before", "2", "--partitions", "0"]);
    assert_eq!((&purged[0]["deleted"], &purged[0]["beginning"]), (&json!(2), &json!(2)));
    assert_eq!(said(&broker, &["consume", "t"]), "3\n");
    said(&broker, &["topic", "purge", "t"]);
    assert_eq!(said(&broker, &["consume", "t"]), "");
    said(&broker, &["topic", "delete", "t"]);
    assert!(rows(&broker, &["topic", "list"]).is_empty());
}

#[test]
fn errors_have_an_exit_code_and_say_what_to_do() {
    let mut broker = Broker::start_default();
    said(&broker, &["topic", "create", "t"]);
    let cases = [
        (&["topic", "describe", "nope"][..], 3, "ottla topic list"),
        (&["consume", "nope"], 3, "ottla topic list"),
        (&["consume", "t", "-p", "5"], 3, "choose one from 0 to 0"),
        (&["group", "describe", "nope"], 3, "ottla group list"),
        (&["group", "why", "nope"], 3, "ottla group list"),
        (&["config", "describe", "broker", "7"], 3, "`ottla cluster` shows them"),
        (&["topic", "create", "a/b"], 5, "use 1 to 249 letters"),
        (&["topic", "create", "t"], 5, "choose another name"),
        (&["topic", "create", "t2", "-r", "9"], 5, "at most the number of brokers"),
        (&["config", "set", "topic", "t", "retention.ms=x"], 5, "--all"),
        (&["topic", "alter", "t"], 2, "say --partitions"),
        (&["produce", "t", "/nowhere"], 2, "name a file that is there"),
        (&["consume", "t", "--from", "somewhere"], 2, "say beginning, end"),
        (&["consume", "t", "--format", "{"], 2, "brace"),
        (&["consume", "t", "--profile", "none"], 2, "there is no profile none"),
    ];
    let check = |broker: &Broker, arguments: &[&str], code: i32, advice: &str| {
        let output = run(broker, arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "ottla {arguments:?}: {stderr}");
        assert!(stderr.contains(advice) && !stderr.contains("panicked"), "ottla {arguments:?}: {stderr}");
    };
    for (arguments, code, advice) in cases {
        check(&broker, arguments, code, advice);
    }
    broker.kill();
    check(&broker, &["health", "--timeout", "500ms"], 4, "--bootstrap HOST:PORT");
}

#[test]
fn a_cluster_that_is_well_says_so() {
    let broker = Broker::start_default();
    said(&broker, &["topic", "create", "t", "--partitions", "4"]);
    let brokers = rows(&broker, &["cluster"]);
    assert_eq!((&brokers[0]["leads"], &brokers[0]["is_controller"]), (&json!(4), &json!(true)));
    assert_eq!(brokers[0]["address"], json!(broker.bootstrap()));
    assert_eq!(said(&broker, &["cluster", "health"]), "all 4 partitions are well\n");
    assert!(said(&broker, &["health"]).starts_with("well: brokers 1, "));
}

#[test]
fn a_bench_counts_what_it_sent_and_read() {
    let broker = Broker::start_default();
    let row = |arguments: &[&str]| rows(&broker, arguments).pop().expect("a row");
    let produced = row(&["bench", "produce", "b", "-n", "5000", "--size", "100"]);
    assert_eq!((&produced["records"], &produced["bytes"]), (&json!(5000), &json!(500_000)));
    assert!(produced["latency_us"]["p99"].as_u64() >= produced["latency_us"]["p50"].as_u64());
    assert_eq!(row(&["bench", "consume", "b"])["records"], 5000);
    let latency = row(&["bench", "latency", "b", "-n", "200", "--rate", "2k"]);
    assert_eq!(latency["records"], 200);
    assert!(latency["latency_us"]["min"].as_u64().is_some_and(|us| us > 0));
}
