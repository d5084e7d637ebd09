//! A real `ottla-broker` process in a directory and on ports of its own, with its log kept for the case of failure.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::wait_until;

const READY_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(30);

/// How to start a broker; the default is an empty directory, free ports and nothing overridden.
#[derive(Default)]
pub struct BrokerOptions {
    overrides: Vec<String>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
    port: Option<u16>,
    disk_bytes: Option<u64>,
    open_files_max: Option<u64>,
}

impl BrokerOptions {
    /// Gives the data directory a file system of its own, of this size, in a mount namespace that ends with the process:
    /// for tests of the full disk, and only for them. It is lost when the process ends.
    pub fn disk_bytes(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// The limit of open files (`ulimit -n`) that the process starts with.
    pub fn open_files_max(mut self, count: u64) -> Self {
        self.open_files_max = Some(count);
        self
    }

    /// One `--override key=value`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.overrides.push(format!("{key}={}", value.to_string()));
        self
    }

    /// One environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The data directory; it stays when the broker is dropped.
    pub fn directory(mut self, path: &Path) -> Self {
        self.directory = Some(path.to_owned());
        self
    }

    /// The port of the Kafka listener.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the process and waits until it answers a Metadata request.
    pub fn start(self) -> Broker {
        let mut broker = self.prepare();
        broker.start();
        broker
    }

    /// Starts a process that is expected to give up, and returns how it ended and what it logged.
    pub fn start_refused(self) -> (ExitStatus, String) {
        let mut broker = self.prepare();
        broker.spawn();
        let status = broker.wait_for_end(READY_MAX);
        (status, broker.log_text())
    }

    fn prepare(self) -> Broker {
        let builder = tempfile::Builder::new().prefix("ottla-it-").tempdir_in(crate::work_directory());
        let home = builder.expect("a temporary directory");
        let directory = self.directory.unwrap_or_else(|| home.path().join("data"));
        Broker {
            overrides: self.overrides,
            environment: self.environment,
            directory,
            port: self.port.unwrap_or_else(free_port),
            http_port: free_port(),
            disk_bytes: self.disk_bytes,
            open_files_max: self.open_files_max,
            log: home.path().join("broker.log"),
            child: None,
            ready_after: Duration::ZERO,
            _home: home,
        }
    }
}

/// A broker process. Dropping it kills it and removes its directory; when the test is failing, its log is printed.
pub struct Broker {
    overrides: Vec<String>,
    environment: Vec<(String, String)>,
    directory: PathBuf,
    port: u16,
    http_port: u16,
    disk_bytes: Option<u64>,
    open_files_max: Option<u64>,
    log: PathBuf,
    child: Option<Child>,
    ready_after: Duration,
    _home: TempDir,
}

impl Broker {
    /// A broker with defaults, ready.
    pub fn start_default() -> Broker {
        BrokerOptions::default().start()
    }

    /// Starts the process again in the same directory and on the same ports, and waits until it is ready.
    pub fn start(&mut self) {
        let began = Instant::now();
        self.spawn();
        let address = self.address();
        wait_until(READY_MAX, "the broker's first Metadata reply", || {
            let child = self.child.as_mut().expect("just spawned");
            if let Some(status) = child.try_wait().expect("own child") {
                panic!("the broker ended at start with {status}:\n{}", read_tail(&self.log));
            }
            answers_metadata(address).then_some(())
        });
        self.ready_after = began.elapsed();
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none(), "the broker runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("the log opens");
        let mut command = match (self.disk_bytes, self.open_files_max) {
            (Some(bytes), _) => on_disk(bytes, &self.directory),
            (None, Some(count)) => with_open_files_max(count),
            (None, None) => Command::new(binary()),
        };
        for setting in [
            format!("listeners=PLAINTEXT://127.0.0.1:{}", self.port),
            format!("log.dirs={}", self.directory.display()),
            format!("ottla.http.listener=127.0.0.1:{}", self.http_port),
        ]
        .iter()
        .chain(&self.overrides)
        {
            command.args(["--override", setting]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("the broker starts"));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the broker runs");
        child.kill().expect("own child");
        child.wait().expect("own child");
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end(STOP_MAX)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the broker runs");
        kill_process(Pid::from_child(child), signal).expect("own child");
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.take().expect("the broker runs");
        wait_for_end(child, limit, "the broker", &self.log)
    }

    /// Starts the process again and expects it to give up with an error.
    pub fn expect_refusal(&mut self) {
        self.spawn();
        let status = self.wait_for_end(READY_MAX);
        assert!(!status.success(), "the broker was expected to give up, it ended with {status}");
    }

    /// Clean stop and start.
    pub fn restart(&mut self) {
        let status = self.stop();
        assert!(status.success(), "the broker stopped with {status}");
        self.start();
    }

    /// True while the process lives.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("own child").is_none())
    }

    /// `host:port` for clients.
    pub fn bootstrap(&self) -> String {
        self.address().to_string()
    }

    /// The Kafka listener.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The port of the Kafka listener.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// From process start to the first Metadata reply, of the latest start.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// What the broker has logged so far, over all its starts.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Waits for a process to end by itself, and gives its status.
pub(crate) fn wait_for_end(mut child: Child, limit: Duration, name: &str, log: &Path) -> ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("own child") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("own child");
            child.wait().expect("own child");
            panic!("{name} did not end within {limit:?}:\n{}", read_tail(log));
        }
        crate::wait::let_pass(Duration::from_millis(2));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; there is nobody left to tell.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the broker on {} ---\n{}\n---", self.port, read_tail(&self.log));
        }
    }
}

pub(crate) fn read_tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(200)..].join("\n")
}

/// One Metadata request, version 1, for no topics: true when a reply with its correlation id comes back.
fn answers_metadata(address: SocketAddr) -> bool {
    const REQUEST: &[u8] = &[0, 0, 0, 17, 0, 3, 0, 1, 0, 0, 0, 7, 0, 3, b'i', b't', b's', 0, 0, 0, 0];
    let exchange = || -> std::io::Result<[u8; 8]> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(REQUEST)?;
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        Ok(head)
    };
    exchange().is_ok_and(|head| head[4..] == [0, 0, 0, 7])
}

/// The broker in a mount namespace with a file system of its own at `directory`; root needs no user namespace for that.
fn on_disk(bytes: u64, directory: &Path) -> Command {
    fs::create_dir_all(directory).expect("a mount point");
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    // `$0` to `$2` are the size, the directory and the broker; the rest are its arguments. exec keeps the process's id.
    let script = r#"mount -t tmpfs -o size="$0" tmpfs "$1" && binary=$2 && shift 2 && exec "$binary" "$@""#;
    command.args(["--mount", "sh", "-c", script]).arg(bytes.to_string()).arg(directory).arg(binary());
    command
}

/// The broker with a limit of open files.
fn with_open_files_max(count: u64) -> Command {
    let mut command = Command::new("sh");
    let script = r#"ulimit -n "$0" && exec "$@""#;
    command.args(["-c", script]).arg(count.to_string()).arg(binary());
    command
}

/// The broker's binary.
pub fn binary() -> PathBuf {
    built("ottla-broker")
}

/// A binary of the workspace, beside the running test's own: built by the same profile, by `make test` or
/// `cargo build --workspace --bins`.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let profile = own.ancestors().nth(2).expect("target/PROFILE/deps/NAME");
    let path = profile.join(name);
    assert!(path.exists(), "{} is missing: cargo build --workspace --bins", path.display());
    path
}

/// A port that nobody listens on, below the range from which outgoing connections take theirs. Test processes that run
/// side by side begin at different ones.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 10_000 + u16::try_from(std::process::id() % 2_000).expect("below 2,000") * 10;
    (0..10_000)
        .map(|_| 10_000 + (begin - 10_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
