//! Groups seen and changed through the clients' own administration, and kcat as a member.

use std::process::{Command, Stdio};
use std::time::Duration;

use ottla_integration_tests::wire::Connection;
use ottla_integration_tests::{clients, wait_until};

use super::load;
use super::table::broker;
use crate::rd;

fn administration(client: &str) {
    let broker = broker();
    let text = clients::python("groups_admin.py", &[client, &broker.bootstrap()]);
    assert!(text.ends_with("all checks hold\n"), "{text}");
}

#[test]
fn by_confluent_kafka() {
    administration("confluent");
}

#[test]
fn by_kafka_python() {
    administration("kafka-python");
}

#[test]
fn by_aiokafka() {
    administration("aiokafka");
}

/// `kcat -G` twice: the second goes on where the first stopped.
#[test]
fn kcat_goes_on() {
    let broker = broker();
    rd::create_topic(&broker, "cat", 2, &[]);
    for round in 1..=2 {
        load::fill(&broker, "cat", 2, 50);
        let bootstrap = broker.bootstrap();
        let settings = [
            "-b",
            &bootstrap,
            "-X",
            "auto.offset.reset=earliest",
            "-c",
            "100",
            "-q",
            "-f",
            "%s\n",
            "-G",
            "cats",
            "cat",
        ];
        let child = Command::new("kcat").args(settings).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let child = child.expect("kcat (make setup installs it)");
        let output = child.wait_with_output().expect("own child");
        assert!(output.status.success(), "round {round}: {}", output.status);
        let mut lines: Vec<u32> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect();
        lines.sort_unstable();
        assert_eq!(lines, (0..100).collect::<Vec<_>>(), "round {round}: each record once");
        let mut connection = Connection::open(broker.address());
        wait_until(Duration::from_secs(20), "what kcat commits when it leaves", || {
            (connection.committed("cats", "cat", 2) == Ok(vec![50 * round; 2])).then_some(())
        });
    }
}
