//! Frames that no client should send. Each gets a closed connection or Kafka's error, the broker says why in its log, and
//! a healthy client beside it notices nothing.

use std::io::Write as _;
use std::time::{Duration, Instant};

use ottla_integration_tests::wire::{Connection, Reply};
use ottla_integration_tests::{Broker, BrokerOptions, HealthyClient, process, wait_until};
use ottla_protocol::generated::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::generated::{ApiKey, ErrorCode};

const MIB: u64 = 1 << 20;

/// Runs `attack` beside a healthy client.
fn beside_a_healthy_client(broker: &Broker, attack: impl FnOnce()) {
    let healthy = HealthyClient::start(broker.address());
    healthy.goes_on();
    attack();
    healthy.goes_on();
    let (rounds, _) = healthy.finish();
    assert!(rounds >= 4, "the healthy client made {rounds} rounds");
}

/// Sends bytes and demands that the broker closes the connection, with something new in its log.
fn closes(broker: &Broker, what: &str, bytes: &[u8]) {
    let logged = broker.log_text().len();
    let mut connection = Connection::open(broker.address());
    connection.send_bytes(bytes);
    connection.finish_sending();
    assert_eq!(connection.receive(), Reply::Closed, "{what}");
    wait_until(Duration::from_secs(5), &format!("a log line about {what}"), || {
        (broker.log_text().len() > logged).then_some(())
    });
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&u32::try_from(frame.len()).expect("small").to_be_bytes(), frame].concat()
}

/// A request header of version 1: API, version, correlation, client id.
fn header(key: i16, version: i16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 9], &[0, 1, b'h']].concat()
}

#[test]
fn lengths_that_cannot_be() {
    let broker = Broker::start_default();
    beside_a_healthy_client(&broker, || {
        closes(&broker, "a negative length", &(-1_i32).to_be_bytes());
        closes(&broker, "the least length", &i32::MIN.to_be_bytes());
        closes(&broker, "the greatest length", &i32::MAX.to_be_bytes());
        closes(&broker, "one byte above the limit", &(100 * 1024 * 1024 + 1_i32).to_be_bytes());
        closes(&broker, "a frame of nothing", &0_i32.to_be_bytes());
        closes(&broker, "a frame shorter than a header", &framed(&[0, 3, 0]));
        closes(&broker, "an HTTP request", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n");
        closes(&broker, "a TLS hello", &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    });
}

#[test]
fn garbage_is_never_answered_by_a_crash() {
    let mut broker = Broker::start_default();
    // A small generator with a fixed seed: the same bytes in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    beside_a_healthy_client(&broker, || {
        for round in 0..200 {
            let body: Vec<u8> = (0..1 + round % 30).flat_map(|_| random()).collect();
            let mut connection = Connection::open(broker.address());
            connection.send_bytes(&framed(&body));
            connection.finish_sending();
            // Rarely the bytes are a request; the reply is then followed by the end all the same.
            while connection.receive() != Reply::Closed {}
        }
    });
    assert!(broker.is_running());
}

#[test]
fn every_api_with_every_truncation() {
    let mut broker = Broker::start_default();
    beside_a_healthy_client(&broker, || {
        for key in 0..=80 {
            for length in [0, 1, 3, 5, 8, 13, 40] {
                let mut connection = Connection::open(broker.address());
                connection.send_frame(&[header(key, 3), vec![0xff; length]].concat());
                connection.finish_sending();
                while connection.receive() != Reply::Closed {}
            }
        }
    });
    assert!(broker.is_running());
}

#[test]
fn a_frame_that_ends_early() {
    let broker = Broker::start_default();
    beside_a_healthy_client(&broker, || {
        let mut connection = Connection::open(broker.address());
        connection.send_bytes(&[0, 0, 0, 100, 0, 3, 0, 1]);
        connection.finish_sending();
        assert_eq!(connection.receive(), Reply::Closed, "the rest of the frame never comes");
    });
}

#[test]
fn unknown_apis_and_versions() {
    let broker = Broker::start_default();
    beside_a_healthy_client(&broker, || {
        closes(&broker, "an API that nobody has", &framed(&header(999, 0)));
        closes(&broker, "a negative API", &framed(&header(-1, 0)));
        closes(&broker, "a version too new", &framed(&header(ApiKey::Metadata.code(), 99)));
        closes(&broker, "a version too old", &framed(&header(ApiKey::Fetch.code(), 3)));
        closes(&broker, "a negative version", &framed(&header(ApiKey::Metadata.code(), -1)));
        closes(&broker, "an API of the quorum", &framed(&header(52, 0)));
        closes(&broker, "an API of later issues", &framed(&header(ApiKey::JoinGroup.code(), 0)));
    });
}

#[test]
fn counts_beyond_the_frame() {
    let broker = Broker::start_default();
    let before = process::rss_bytes(broker.pid());
    beside_a_healthy_client(&broker, || {
        for count in [1000_i32, 100_000_000, i32::MAX] {
            let metadata = [header(ApiKey::Metadata.code(), 1), count.to_be_bytes().to_vec()].concat();
            closes(&broker, "more topics than bytes", &framed(&metadata));
            let create = [header(ApiKey::CreateTopics.code(), 2), count.to_be_bytes().to_vec()].concat();
            closes(&broker, "more new topics than bytes", &framed(&create));
        }
        let string = [header(ApiKey::Metadata.code(), 1), vec![0, 0, 0, 1, 0x7f, 0xff, b'x']].concat();
        closes(&broker, "a string longer than the frame", &framed(&string));
        // Compact forms: a count of 2^32 - 1, a varint that does not end, tags without end.
        for body in [
            &[0, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
            &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 3],
        ] {
            let flexible = [header(ApiKey::Metadata.code(), 12), body.to_vec()].concat();
            closes(&broker, "compact counts beyond the frame", &framed(&flexible));
        }
    });
    let grown = process::rss_peak_bytes(broker.pid()).saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {grown} bytes");
}

/// A length is only a claim: memory grows with the bytes that come, not with what the length says.
#[test]
fn large_frames_that_never_come_cost_nothing() {
    let broker = Broker::start_default();
    let before = process::rss_bytes(broker.pid());
    beside_a_healthy_client(&broker, || {
        let waiting: Vec<Connection> = (0..50)
            .map(|_| {
                let mut connection = Connection::open(broker.address());
                connection.send_bytes(&(100 * 1024 * 1024_i32).to_be_bytes());
                connection.send_bytes(&[0; 1000]);
                connection
            })
            .collect();
        let grown = process::rss_bytes(broker.pid()).saturating_sub(before);
        // A MiB may be reserved for each, but not 100.
        assert!(grown < 100 * MIB, "50 claims of 100 MiB cost {grown} bytes");
        drop(waiting);
    });
}

#[test]
fn the_request_limit_is_configured_by_kafkas_key() {
    let broker = BrokerOptions::default().set("socket.request.max.bytes", 100_000).start();
    beside_a_healthy_client(&broker, || {
        closes(&broker, "a frame above socket.request.max.bytes", &100_001_i32.to_be_bytes());
    });
}

/// A client that reads no replies is not served without end, and holds up nobody.
#[test]
fn a_client_that_never_reads() {
    let broker = Broker::start_default();
    let before = process::rss_bytes(broker.pid());
    beside_a_healthy_client(&broker, || {
        let mut connection = Connection::open(broker.address());
        connection.stream().set_write_timeout(Some(Duration::from_millis(500))).expect("a socket option");
        let request = framed(&[header(ApiKey::ApiVersions.code(), 0)].concat());
        let many = request.repeat(1000);
        let deadline = Instant::now() + Duration::from_secs(20);
        while connection.stream().write_all(&many).is_ok() {
            assert!(
                Instant::now() < deadline,
                "the broker takes requests whose replies nobody reads, without end"
            );
        }
        let grown = process::rss_bytes(broker.pid()).saturating_sub(before);
        assert!(grown < 64 * MIB, "replies that nobody reads cost {grown} bytes");
    });
}

#[test]
fn topic_names_that_are_paths() {
    let broker = Broker::start_default();
    beside_a_healthy_client(&broker, || {
        let mut connection = Connection::open(broker.address());
        let long = "x".repeat(250);
        for name in
            ["", ".", "..", "a/b", "../up", "/etc/passwd", "a\\b", "a b", "a\0b", "ä", "a:b", long.as_str()]
        {
            let topic = CreatableTopic {
                name: name.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            let request =
                CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
            let reply: CreateTopicsResponse = connection.ask(&request, 5);
            assert_eq!(reply.topics[0].error_code, ErrorCode::InvalidTopicException.code(), "{name:?}");
            let reply = connection.metadata(name);
            assert!(
                [ErrorCode::InvalidTopicException.code(), ErrorCode::UnknownTopicOrPartition.code()]
                    .contains(&reply.topics[0].error_code),
                "{name:?}"
            );
        }
        let longest = "y".repeat(249);
        connection.create_topic(&longest, 1, &[]);
    });
    assert!(!broker.directory().parent().expect("a parent").join("up-0").exists());
}

#[test]
fn connections_above_the_limit_are_refused_alone() {
    let broker = BrokerOptions::default().set("max.connections", 20).start();
    beside_a_healthy_client(&broker, || {
        let mut open: Vec<Connection> = (0..15).map(|_| Connection::open(broker.address())).collect();
        for connection in &mut open {
            let correlation = connection.send_request(ApiKey::ApiVersions.code(), 0, &[]);
            assert_eq!(connection.receive().frame()[..4], correlation.to_be_bytes());
        }
        // Those beyond the limit are closed or not served; either way the broker holds no more than it was told to.
        for _ in 0..20 {
            let mut connection = Connection::open(broker.address());
            connection.send_request(ApiKey::ApiVersions.code(), 0, &[]);
            open.push(connection);
        }
        let served =
            open.iter_mut().skip(15).filter_map(|c| c.receive_within(Duration::from_millis(100))).count();
        assert!(served <= 4, "{served} connections above the limit were served");
    });
}
