//! The five recorded sessions of real clients with Kafka 4.3.

use std::collections::BTreeSet;

use ottla_dump::filter::{Errors, Filter};
use ottla_dump::frame::Direction;
use ottla_dump::printer::Format;
use ottla_dump::session::Sessions;

use crate::support::{SESSIONS, printer, recorded, request, seen};

fn shown(name: &str, filter: Filter) -> Vec<serde_json::Value> {
    let (mut printer, kept) = printer(Format::Json);
    let mut sessions = Sessions::new(filter, false);
    for seen in recorded(name) {
        if let Some(frame) = sessions.see(seen) {
            printer.frame(&frame).unwrap();
        }
    }
    kept.rows()
}

#[test]
fn every_frame_decodes_to_its_last_byte() {
    let mut apis = BTreeSet::new();
    for (name, count) in SESSIONS {
        let rows = shown(name, Filter::default());
        assert_eq!(rows.len(), count, "{name}");
        for row in &rows {
            assert!(row.get("error").is_none(), "{name}: {row}");
            assert!(row.get("rest").is_none() || row["direction"] == "request", "{name}: {row}");
            assert!(row["body"].is_object());
            apis.insert((row["api_key"].as_i64().unwrap(), row["api_version"].as_i64().unwrap()));
        }
    }
    println!("{} APIs and versions", apis.len());
    assert!(apis.len() > 60, "{} APIs and versions", apis.len());
}

#[test]
fn text_names_every_frame_too() {
    for (name, count) in SESSIONS {
        let (mut printer, kept) = printer(Format::Text { hex: true });
        let mut sessions = Sessions::new(Filter::default(), false);
        for seen in recorded(name) {
            printer.frame(&sessions.see(seen).unwrap()).unwrap();
        }
        let titles = kept.text().lines().filter(|line| line.starts_with('c')).count();
        assert_eq!(titles, count, "{name}");
    }
}

#[test]
fn filters_pick_frames_and_their_responses() {
    let all = shown("librdkafka", Filter::default());
    let count = |of: &dyn Fn(&serde_json::Value) -> bool| all.iter().filter(|row| of(row)).count();

    let fetches = shown("librdkafka", Filter { apis: [1].into(), ..Filter::default() });
    assert!(!fetches.is_empty());
    assert_eq!(fetches.len(), count(&|row| row["api"] == "Fetch"));

    let first = all[0]["connection"].as_u64().unwrap();
    let one = shown("librdkafka", Filter { connections: [first].into(), ..Filter::default() });
    assert_eq!(one.len(), count(&|row| row["connection"] == first));

    let client = all[0]["client_id"].as_str().unwrap().to_owned();
    let its = shown("librdkafka", Filter { client_ids: [client.clone()].into(), ..Filter::default() });
    assert_eq!(its.len(), count(&|row| row["client_id"] == client.as_str()));

    let errors = shown("librdkafka", Filter { errors: Some(Errors::Any), ..Filter::default() });
    let has_error = |row: &serde_json::Value| {
        let text = row["body"].to_string();
        text.split("ErrorCode\":").skip(1).any(|rest| !rest.starts_with('0'))
    };
    assert!(errors.iter().all(has_error));
    assert_eq!(errors.len(), count(&has_error));
    assert!(!errors.is_empty());
}

#[test]
fn a_topic_is_found_by_its_id_too() {
    let all = shown("java-client", Filter::default());
    let with_name = |row: &&serde_json::Value| row["body"].to_string().contains("\"fx-java\"");
    let named = all.iter().filter(with_name).count();
    let rows = shown("java-client", Filter { topics: ["fx-java".to_owned()].into(), ..Filter::default() });
    let by_id: Vec<_> = rows.iter().filter(|row| row["api"] == "Fetch").collect();
    println!("{} frames, {named} by name, {} fetches", rows.len(), by_id.len());
    assert!(rows.len() > named);
    assert!(!by_id.is_empty() && by_id.len() < rows.len());
    let other = shown("java-client", Filter { topics: ["nobody".to_owned()].into(), ..Filter::default() });
    assert!(other.is_empty());
}

#[test]
fn responses_know_their_requests_and_how_long_they_took() {
    let mut sessions = Sessions::new(Filter::default(), false);
    let heartbeat = |id| request(12, 0, id, false, &[0, 1, b'g', 0, 0, 0, 1, 0, 1, b'm']);
    let mut first = seen(Direction::Request, heartbeat(7));
    first.time_us = Some(1_000);
    assert_eq!(sessions.see(first).unwrap().failure, None);
    sessions.see(seen(Direction::Request, heartbeat(8))).unwrap();
    let mut answer = seen(Direction::Response, vec![0, 0, 0, 7, 0, 27]);
    answer.time_us = Some(1_250);
    let frame = sessions.see(answer).unwrap();
    assert_eq!((frame.latency_us, frame.client_id.as_deref()), (Some(250), Some("t")));
    assert_eq!(frame.failure, None);
    // The same again has no request any more.
    let frame = sessions.see(seen(Direction::Response, vec![0, 0, 0, 7, 0, 27])).unwrap();
    let why = frame.failure.unwrap().to_string();
    assert_eq!(why, "at byte 0: no request with correlation id 7 was seen on this connection");
}

#[test]
fn a_broken_frame_shows_how_far_it_got() {
    let (mut printer, kept) = printer(Format::Json);
    let mut sessions = Sessions::new(Filter::default(), false);
    // A member id that says it is longer than the frame.
    let broken = request(12, 0, 7, false, &[0, 1, b'g', 0, 0, 0, 1, 0, 9, b'm']);
    printer.frame(&sessions.see(seen(Direction::Request, broken)).unwrap()).unwrap();
    let row = &kept.rows()[0];
    assert_eq!(row["body"]["GroupId"], "g");
    assert_eq!(row["body"]["GenerationId"], 1);
    assert_eq!(row["error"], "MemberId at byte 18: length 9 does not fit the 1 bytes left");
    assert_eq!(row["rest"], "00096d");
    assert_eq!((&row["api"], &row["correlation_id"]), (&"Heartbeat".into(), &7.into()));
}
