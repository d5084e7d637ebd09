//! A cluster of real processes on loopback: coordinators and brokers, each in a directory and on ports of its own, that can be killed,
//! stopped in order, paused and started again one by one.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::broker::{built, free_port, read_tail, wait_for_end};
use crate::wait::wait_until;

const READY_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);

/// Which kind of process a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ottla-coordinator`, with ids from 101 on.
    Coordinator,
    /// `ottla-broker`, with ids from 1 on.
    Broker,
}

/// One process of a cluster. Dropping it kills it; when the test is failing, its log is printed.
pub struct Node {
    /// Such as `broker-2`.
    pub name: String,
    kind: Kind,
    settings: Vec<String>,
    port: u16,
    http_port: u16,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// Starts the process, in its old directory if it had one. Does not wait.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("the log opens");
        let binary = match self.kind {
            Kind::Coordinator => "ottla-coordinator",
            Kind::Broker => "ottla-broker",
        };
        let mut command = Command::new(built(binary));
        for setting in &self.settings {
            command.args(["--override", setting]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("the process starts"));
    }

    /// Whether `/readyz` says that it serves.
    pub fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.http_port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply)?;
            Ok(reply)
        };
        ask().is_ok_and(|reply| reply.starts_with("HTTP/1.1 200"))
    }

    /// Waits until it serves.
    pub fn wait_ready(&mut self) {
        wait_until(READY_MAX, &format!("{} to serve", self.name), || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("own child")) {
                panic!("{} ended with {status}:\n{}", self.name, read_tail(&self.log));
            }
            self.is_ready().then_some(())
        });
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("own child");
        child.wait().expect("own child");
    }

    /// Asks for an orderly stop and waits for it.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let child = self.child.take().expect("it runs");
        let status = wait_for_end(child, STOP_MAX, &self.name, &self.log);
        assert!(status.success(), "{} stopped with {status}:\n{}", self.name, read_tail(&self.log));
    }

    /// Sends a signal: STOP pauses it, CONT lets it go on.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("own child");
    }

    /// `host:port` of its listener.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has logged so far, over all its starts.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; there is nobody left to tell.
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}\n---", self.name, read_tail(&self.log));
        }
    }
}

/// Three coordinators and three brokers.
pub struct Cluster {
    /// The quorum.
    pub coordinators: Vec<Node>,
    /// Who serves clients.
    pub brokers: Vec<Node>,
    _home: TempDir,
}

impl Cluster {
    /// Starts all six with these settings on top, and waits until every one serves.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let builder = tempfile::Builder::new().prefix("ottla-it-").tempdir_in(crate::work_directory());
        let home = builder.expect("a temporary directory");
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let voters: Vec<_> = (101..).zip(&ports).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let common: Vec<String> = [
            ("controller.listener.names", "CONTROLLER"),
            ("controller.quorum.voters", &voters.join(",")),
            ("default.replication.factor", "3"),
            ("min.insync.replicas", "2"),
        ]
        .iter()
        .chain(settings)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
        let node = |kind: Kind, index: usize, port: u16| {
            let (role, id, listener) = match kind {
                Kind::Coordinator => ("controller", 101 + index, "CONTROLLER"),
                Kind::Broker => ("broker", 1 + index, "PLAINTEXT"),
            };
            let name = match kind {
                Kind::Coordinator => format!("coordinator-{}", index + 1),
                Kind::Broker => format!("broker-{}", index + 1),
            };
            let (directory, http_port) = (home.path().join(&name), free_port());
            let mut settings = common.clone();
            settings.extend([
                format!("node.id={id}"),
                format!("process.roles={role}"),
                format!("listeners={listener}://127.0.0.1:{port}"),
                format!("log.dirs={}", directory.display()),
                format!("ottla.http.listener=127.0.0.1:{http_port}"),
            ]);
            let log = home.path().join(format!("{name}.log"));
            Node { name, kind, settings, port, http_port, log, child: None }
        };
        let coordinators = (0..3).map(|i| node(Kind::Coordinator, i, ports[i])).collect();
        let brokers = (0..3).map(|i| node(Kind::Broker, i, free_port())).collect();
        let mut cluster = Self { coordinators, brokers, _home: home };
        cluster.nodes().for_each(Node::start);
        cluster.nodes().for_each(Node::wait_ready);
        cluster
    }

    /// All nodes, coordinators first.
    pub fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        self.coordinators.iter_mut().chain(&mut self.brokers)
    }

    /// `host:port` of all brokers, between commas.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.brokers.iter().map(Node::address).collect();
        addresses.join(",")
    }
}
