//! A member of a group, whatever the client: a Python process, or librdkafka on a thread of this process. Each tells what
//! happens to it with the machine's monotonic clock, which is the same for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_integration_tests::{Broker, clients, wait_until};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::librdkafka;

/// The clients that have groups, with the names of their protocols.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Client {
    /// librdkafka by the rdkafka crate, on a thread.
    Librdkafka,
    /// librdkafka by confluent-kafka, in a process.
    Confluent,
    KafkaPython,
    Aiokafka,
}

impl Client {
    pub const ALL: [Client; 4] =
        [Client::Librdkafka, Client::Confluent, Client::KafkaPython, Client::Aiokafka];

    /// Every protocol that the client can take part in.
    pub fn strategies(self) -> &'static [&'static str] {
        match self {
            Client::Librdkafka | Client::Confluent => &["range", "roundrobin", "cooperative-sticky"],
            Client::KafkaPython => &["range", "roundrobin", "sticky", "cooperative-sticky"],
            Client::Aiokafka => &["range", "roundrobin", "sticky"],
        }
    }

    /// What `member.py` calls it.
    fn script_name(self) -> &'static str {
        match self {
            Client::Librdkafka => "librdkafka",
            Client::Confluent => "confluent",
            Client::KafkaPython => "kafka-python",
            Client::Aiokafka => "aiokafka",
        }
    }
}

/// What a member is to do.
#[derive(Clone)]
pub struct Settings {
    pub client: Client,
    pub topic: String,
    pub group: String,
    pub strategy: String,
    pub instance: Option<String>,
    pub session_ms: u32,
}

impl Settings {
    pub fn new(client: Client, topic: &str, group: &str, strategy: &str) -> Settings {
        Settings {
            client,
            topic: topic.to_owned(),
            group: group.to_owned(),
            strategy: strategy.to_owned(),
            instance: None,
            session_ms: 30_000,
        }
    }

    pub fn instance(mut self, id: &str) -> Settings {
        self.instance = Some(id.to_owned());
        self
    }

    pub fn session_ms(mut self, session_ms: u32) -> Settings {
        self.session_ms = session_ms;
        self
    }
}

/// What a member told.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
    /// Partition, first and last offset.
    Got(Vec<(i32, i64, i64)>),
    Committed,
    /// The client gave up.
    Failed(String),
    /// It has left in order, or was killed.
    Ended,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub at_s: f64,
    pub what: What,
}

/// Where a member's events go.
#[derive(Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<Event>>>);

impl Diary {
    pub fn write(&self, what: What) {
        self.write_at(now_s(), what);
    }

    fn write_at(&self, at_s: f64, what: What) {
        self.0.lock().expect("no panic while held").push(Event { at_s, what });
    }

    pub fn read(&self) -> Vec<Event> {
        self.0.lock().expect("no panic while held").clone()
    }
}

/// The machine's monotonic clock in seconds, as Python's `time.monotonic` has it.
fn now_s() -> f64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

enum Body {
    Process { child: Child, reader: Option<JoinHandle<()>> },
    Thread { stop: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
    Gone,
}

/// A running member. Dropping it kills it.
pub struct Member {
    pub settings: Settings,
    pub diary: Diary,
    body: Body,
}

impl Member {
    pub fn start(broker: &Broker, settings: Settings) -> Member {
        let diary = Diary::default();
        let body = if settings.client == Client::Librdkafka {
            let stop = Arc::new(AtomicBool::new(false));
            let consumer = librdkafka::consumer(broker, &settings, diary.clone());
            let (stopping, telling) = (Arc::clone(&stop), diary.clone());
            let thread = std::thread::spawn(move || librdkafka::run(consumer, &stopping, &telling));
            Body::Thread { stop, thread: Some(thread) }
        } else {
            spawn(broker, &settings, &diary)
        };
        Member { settings, diary, body }
    }

    /// The partitions that the member has now.
    pub fn owned(&self) -> BTreeSet<i32> {
        let mut owned = BTreeSet::new();
        for event in self.diary.read() {
            match event.what {
                What::Assigned(partitions) => owned.extend(partitions),
                What::Revoked(partitions) | What::Lost(partitions) => {
                    owned.retain(|partition| !partitions.contains(partition));
                }
                What::Ended => owned.clear(),
                What::Got(_) | What::Committed | What::Failed(_) => {}
            }
        }
        owned
    }

    /// Partition, begin and end in seconds of everything that the member had; without an end where it still has it.
    pub fn ownerships(&self) -> Vec<(i32, f64, f64)> {
        let mut since = BTreeMap::new();
        let mut spans = Vec::new();
        for Event { at_s, what } in self.diary.read() {
            let given_back = match what {
                What::Assigned(partitions) => {
                    partitions.into_iter().for_each(|partition| {
                        since.entry(partition).or_insert(at_s);
                    });
                    continue;
                }
                What::Revoked(partitions) => partitions,
                What::Ended => since.keys().copied().collect(),
                What::Lost(partitions) => panic!("{}: {partitions:?} lost", self.settings.group),
                What::Got(_) | What::Committed | What::Failed(_) => continue,
            };
            for partition in given_back {
                if let Some(begin) = since.remove(&partition) {
                    spans.push((partition, begin, at_s));
                }
            }
        }
        spans.extend(since.into_iter().map(|(partition, begin)| (partition, begin, f64::INFINITY)));
        spans
    }

    /// Why the client gave up, if it did.
    pub fn failed(&self) -> Option<String> {
        self.diary.read().into_iter().find_map(|event| match event.what {
            What::Failed(text) => Some(text),
            _ => None,
        })
    }

    /// Tells it to leave in order.
    pub fn ask_to_close(&mut self) {
        match &mut self.body {
            Body::Process { child, .. } => {
                let input = child.stdin.as_mut().expect("its input is a pipe");
                // A process that is gone already is seen by `close`.
                input.write_all(b"close\n").ok();
            }
            Body::Thread { stop, .. } => stop.store(true, Ordering::Relaxed),
            Body::Gone => panic!("the member is gone already"),
        }
    }

    /// Has it leave in order, and waits until it has.
    pub fn close(&mut self) {
        self.ask_to_close();
        wait_until(Duration::from_secs(60), "a member that leaves", || self.ended().then_some(()));
        if let Some(text) = self.failed() {
            panic!("a member of {} failed: {text}", self.settings.group);
        }
    }

    /// True once it has ended by itself; what it told is complete then.
    pub fn ended(&mut self) -> bool {
        match &mut self.body {
            Body::Process { child, reader } => {
                let Some(status) = child.try_wait().expect("own child") else { return false };
                reader.take().expect("joined once").join().expect("the reader ends");
                assert!(
                    status.success(),
                    "{:?} of {} ended with {status}",
                    self.settings.client,
                    self.settings.group
                );
            }
            Body::Thread { thread, .. } => {
                if !thread.as_ref().is_some_and(JoinHandle::is_finished) {
                    return false;
                }
                thread.take().expect("joined once").join().expect("the member ends");
            }
            Body::Gone => return true,
        }
        self.body = Body::Gone;
        self.diary.write(What::Ended);
        true
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let Body::Process { child, reader } = &mut self.body else {
            panic!("only a process can be killed");
        };
        child.kill().expect("own child");
        child.wait().expect("own child");
        reader.take().expect("joined once").join().expect("the reader ends");
        self.body = Body::Gone;
        self.diary.write(What::Ended);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        match &mut self.body {
            Body::Process { child, .. } => {
                // It may have ended already; there is nobody left to tell.
                child.kill().ok();
                child.wait().ok();
            }
            Body::Thread { stop, .. } => stop.store(true, Ordering::Relaxed),
            Body::Gone => {}
        }
        if std::thread::panicking() {
            let events = self.diary.read();
            eprintln!(
                "--- {:?} of {}, the last of {} events ---",
                self.settings.client,
                self.settings.group,
                events.len()
            );
            let told = events.iter().filter(|event| !matches!(event.what, What::Got(_) | What::Committed));
            for event in told.collect::<Vec<_>>().iter().rev().take(20).rev() {
                eprintln!("{:.3} {:?}", event.at_s, event.what);
            }
        }
    }
}

fn spawn(broker: &Broker, settings: &Settings, diary: &Diary) -> Body {
    let mut told = serde_json::json!({
        "bootstrap": broker.bootstrap(),
        "topic": settings.topic,
        "group": settings.group,
        "strategy": settings.strategy,
        "session_ms": settings.session_ms,
    });
    if let Some(instance) = &settings.instance {
        told["instance"] = instance.as_str().into();
    }
    let interpreter = clients::root().join(".venv/bin/python");
    assert!(interpreter.exists(), "{} is missing: make setup", interpreter.display());
    let mut child = Command::new(interpreter)
        .arg(clients::root().join("integration-tests/clients/member.py"))
        .args([settings.client.script_name(), &told.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the member starts");
    let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    let diary = diary.clone();
    let reader = std::thread::spawn(move || {
        for line in output.lines() {
            // A killed member may have been in the middle of a line.
            let Ok(line) = serde_json::from_str::<Value>(&line.expect("text")) else { break };
            match what(&line) {
                Some(what) => diary.write_at(line["at"].as_f64().expect("a time"), what),
                None => return,
            }
        }
        diary.write(What::Failed("it ended without having left".to_owned()));
    });
    Body::Process { child, reader: Some(reader) }
}

fn what(line: &Value) -> Option<What> {
    let partition = |value: &Value| i32::try_from(value.as_i64().expect("a number")).expect("a partition");
    let partitions = || line["partitions"].as_array().expect("a list").iter().map(partition).collect();
    let spans = || {
        let spans = line["records"].as_array().expect("a list").iter();
        let offset = |value: &Value| value.as_i64().expect("an offset");
        spans.map(|span| (partition(&span[0]), offset(&span[1]), offset(&span[2]))).collect()
    };
    match line["event"].as_str().expect("an event has a name") {
        "assigned" => Some(What::Assigned(partitions())),
        "revoked" => Some(What::Revoked(partitions())),
        "lost" => Some(What::Lost(partitions())),
        "got" => Some(What::Got(spans())),
        "committed" => Some(What::Committed),
        "failed" => Some(What::Failed(line["text"].as_str().expect("a text").to_owned())),
        // The last word; that it ended is seen by the process itself.
        "closed" => None,
        other => panic!("member.py told {other}"),
    }
}
