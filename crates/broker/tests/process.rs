//! The real binary: start, HTTP, health, signals, errors at the start.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla-broker"));
    command.current_dir(directory).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.env_remove("RUST_LOG");
    command
}

struct Running {
    process: Child,
    log: BufReader<ChildStderr>,
    http: String,
    seen: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already in the good case.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Running {
    /// A broker on free ports, once its log says that it is ready.
    fn start(directory: &Path, more: &[&str]) -> Running {
        let mut arguments = vec!["--override", "listeners=PLAINTEXT://127.0.0.1:0"];
        arguments.extend(["--override", "ottla.http.listener=127.0.0.1:0"]);
        arguments.extend(more);
        let mut process = command(directory, &arguments).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut running = Running { process, log, http: String::new(), seen: String::new() };
        running.read_until("took_ms");
        let from = running.seen.find("http on http://").expect("the log names the HTTP listener") + 15;
        running.http = running.seen[from..].split_whitespace().next().unwrap().to_owned();
        running
    }

    /// Reads the log until a line has the word (or the process ends, which fails).
    fn read_until(&mut self, word: &str) {
        loop {
            let mut line = String::new();
            let read = self.log.read_line(&mut line).unwrap();
            assert!(read > 0, "the process ended without {word}:\n{}", self.seen);
            self.seen.push_str(&line);
            if line.contains(word) {
                return;
            }
        }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// The exit code (none: killed by a signal) and the whole log.
    fn wait(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + DEADLINE;
        self.log.read_to_string(&mut self.seen).unwrap();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status.code(), self.seen.clone());
            }
            assert!(Instant::now() < end, "the process has closed its log and does not end");
            std::thread::yield_now();
        }
    }
}

fn output(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_serves_http_and_stops_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let running = Running::start(directory.path(), &[]);
        assert_eq!(running.get("/healthz"), (200, "ready\n".to_owned()));
        assert_eq!(running.get("/readyz"), (200, "ready\n".to_owned()));
        let (status, metrics) = running.get("/metrics");
        assert_eq!(status, 200);
        assert!(metrics.contains("ottla_connections ") && metrics.ends_with("# EOF\n"), "{metrics}");
        assert_eq!(running.get("/nonsense").0, 404);
        for asked in
            [&["health", "--address", &running.http][..], &["health", "--live", "--address", &running.http]]
        {
            let health = output(directory.path(), asked);
            assert_eq!((health.status.code(), stderr(&health).as_str()), (Some(0), "ready\n"));
        }
        let own = format!("ottla.http.listener={}", running.http);
        assert_eq!(output(directory.path(), &["health", "--override", &own]).status.code(), Some(0));
        running.signal(signal);
        let (code, log) = running.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(&format!("SIG{signal}")) && log.contains("stopped"), "{log}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let running = Running::start(directory.path(), &[]);
    // Stopped meanwhile, so that both signals are there before it can act on the first.
    for signal in ["STOP", "TERM", "INT", "CONT"] {
        running.signal(signal);
    }
    let (code, log) = running.wait();
    assert!(matches!(code, Some(130 | 143)), "{code:?}\n{log}");
    assert!(log.contains("second signal: ending at once"), "{log}");
}

#[test]
fn health_says_no_when_nobody_answers() {
    let directory = tempfile::tempdir().unwrap();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let health = output(directory.path(), &["health", "--address", &unused]);
    assert_eq!(health.status.code(), Some(1));
    assert!(stderr(&health).contains("no answer from http://"), "{}", stderr(&health));
    // Something else on the port: it takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let health = output(directory.path(), &["health", "--address", &address, "--timeout-ms", "20"]);
    assert_eq!(health.status.code(), Some(1));
}

#[test]
fn what_is_wrong_at_the_start_is_said_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.properties"), "# one\nnum.partitions=x\n").unwrap();
    let bad = output(directory.path(), &["bad.properties"]);
    assert_eq!(bad.status.code(), Some(1));
    let expected = "ottla-broker: num.partitions=x (bad.properties, line 2): not a whole number of 32 bits";
    assert!(stderr(&bad).starts_with(expected), "{}", stderr(&bad));
    let absent = output(directory.path(), &["--config", "absent.properties"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("cannot read the configuration file absent.properties"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = format!("ottla.http.listener={}", taken.local_addr().unwrap());
    let no_http = output(
        directory.path(),
        &["--override", &listener, "--override", "listeners=PLAINTEXT://127.0.0.1:0"],
    );
    assert_eq!(no_http.status.code(), Some(1));
    assert!(stderr(&no_http).contains("for HTTP (ottla.http.listener)"), "{}", stderr(&no_http));
    assert_eq!(output(directory.path(), &["--nonsense"]).status.code(), Some(2));
}

#[test]
fn odd_settings_warn_and_json_is_json() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("server.properties");
    std::fs::write(&file, "num.partitons=3\nssl.keystore.location=/x\n").unwrap();
    let running = Running::start(directory.path(), &["--log-json", file.to_str().unwrap()]);
    running.signal("TERM");
    let (code, log) = running.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    assert!(log.contains("did you mean num.partitions?"), "{log}");
    assert!(log.contains("this setting protects nothing"), "{log}");
}

#[test]
fn help_version_and_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    let text = |arguments: &[&str]| {
        let output = output(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&["--version"]).starts_with("ottla-broker "));
    let help = text(&["--help"]);
    for word in ["--override", "KAFKA_LOG_DIRS", "health", "./ottla-data", "127.0.0.1:9092", "/metrics"] {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
    assert!(!help.contains("print-config-docs"));
    assert!(text(&["print-config-docs"]).contains("| `num.partitions` |"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "asking leaves nothing behind");
}
