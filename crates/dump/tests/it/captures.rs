//! Captures: TCP put together again whatever happens to the packets.

use std::net::Ipv4Addr;

use ottla_dump::filter::Filter;
use ottla_dump::frame::Direction;
use ottla_dump::pcap::Follower;
use ottla_dump::printer::Format;
use ottla_dump::session::Sessions;
use serde_json::Value;

use crate::support::{printer, recorded};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;

/// One side of a connection that is being captured.
struct Side {
    ip: Ipv4Addr,
    port: u16,
    sequence: u32,
}

fn sides() -> (Side, Side) {
    let client = Side { ip: Ipv4Addr::new(10, 0, 0, 1), port: 40000, sequence: u32::MAX - 100 };
    let broker = Side { ip: Ipv4Addr::new(10, 0, 0, 2), port: 9092, sequence: 7_000 };
    (client, broker)
}

/// A packet of Ethernet, IPv4 and TCP.
fn packet(from: &mut Side, to: &Side, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 12];
    out.extend([0x08, 0x00, 0x45, 0]);
    out.extend((40 + payload.len() as u16).to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    out.extend(from.ip.octets());
    out.extend(to.ip.octets());
    out.extend(from.port.to_be_bytes());
    out.extend(to.port.to_be_bytes());
    out.extend(from.sequence.to_be_bytes());
    out.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    let counted = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
    from.sequence = from.sequence.wrapping_add(counted);
    // What pads a packet to the least that Ethernet carries is no payload.
    out.resize(out.len().max(60), 0xee);
    out
}

fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 65535, 1] {
        out.extend(number.to_le_bytes());
    }
    for (index, packet) in packets.iter().enumerate() {
        for number in [1_700_000_000, 10 * index as u32, packet.len() as u32, packet.len() as u32] {
            out.extend(number.to_le_bytes());
        }
        out.extend(packet);
    }
    out
}

fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let size = 12 + body.len().next_multiple_of(4);
        let mut out = [kind.to_be_bytes(), (size as u32).to_be_bytes()].concat();
        out.extend(body);
        out.resize(size - 4, 0);
        out.extend((size as u32).to_be_bytes());
        out
    };
    let mut out =
        block(0x0a0d_0d0a, &[0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    // Times in nanoseconds.
    out.extend(block(1, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0]));
    for (index, packet) in packets.iter().enumerate() {
        let time = 1_700_000_000_000_000_000u64 + 10_000 * index as u64;
        let mut body = vec![0, 0, 0, 0];
        body.extend(time.to_be_bytes());
        body.extend([(packet.len() as u32).to_be_bytes(); 2].concat());
        body.extend(packet);
        out.extend(block(6, &body));
    }
    out
}

fn follow(capture: &[u8], ports: &[u16]) -> (bool, Vec<Value>) {
    let (mut printer, kept) = printer(Format::Json);
    let sessions = Sessions::new(Filter::default(), false);
    let is_whole = Follower::new(sessions, ports.to_vec(), &mut printer).follow(capture).unwrap();
    (is_whole, kept.rows())
}

/// The connection of the recorded session that is taken.
const CONNECTION: u64 = 26;

/// One connection of a recorded session as packets of at most `size` bytes of payload, with its frames' count.
fn session(size: usize, with_syn: bool) -> (Vec<Vec<u8>>, usize) {
    let (mut client, mut broker) = sides();
    let mut packets = Vec::new();
    if with_syn {
        packets.push(packet(&mut client, &broker, SYN, &[]));
        packets.push(packet(&mut broker, &client, SYN | ACK, &[]));
    }
    let mut count = 0;
    for seen in recorded("librdkafka").into_iter().filter(|seen| seen.connection == CONNECTION).take(60) {
        count += 1;
        let framed = [&(seen.bytes.len() as u32).to_be_bytes(), &seen.bytes[..]].concat();
        let (from, to) = match seen.direction {
            Direction::Request => (&mut client, &broker),
            Direction::Response => (&mut broker, &client),
        };
        packets.extend(framed.chunks(size).map(|part| packet(from, to, ACK, part)));
    }
    packets.push(packet(&mut client, &broker, FIN | ACK, &[]));
    packets.push(packet(&mut broker, &client, FIN | ACK, &[]));
    (packets, count)
}

#[test]
fn a_session_is_followed_in_every_kind_of_capture() {
    for (size, with_syn) in [(1460, true), (17, true), (1460, false)] {
        let (packets, count) = session(size, with_syn);
        for capture in [pcap(&packets), pcapng(&packets)] {
            let (is_whole, rows) = follow(&capture, &[]);
            assert!(is_whole);
            assert_eq!(rows.len(), count);
            let responses = rows.iter().filter(|row| row["direction"] == "response");
            assert!(responses.clone().count() > 5);
            assert!(responses.clone().all(|row| row["latency_us"].as_u64().unwrap() > 0));
            assert!(rows[0]["time_us"].as_i64().unwrap() >= 1_700_000_000_000_000);
        }
        assert_eq!(follow(&pcap(&packets), &[9092]).1.len(), count);
        assert_eq!(follow(&pcap(&packets), &[9999]).1.len(), 0);
    }
}

#[test]
fn packets_out_of_order_and_twice_change_nothing() {
    let (packets, count) = session(40, true);
    let (_, in_order) = follow(&pcap(&packets), &[]);
    // A reply must not overtake its request, so only neighbours of one direction change places here.
    let sender = |packet: &Vec<u8>| packet[26..30].to_vec();
    let mut swapped = packets.clone();
    for index in (2..swapped.len() - 3).step_by(2) {
        if sender(&swapped[index]) == sender(&swapped[index + 1]) {
            swapped.swap(index, index + 1);
        }
    }
    let doubled: Vec<_> = swapped.iter().flat_map(|packet| [packet.clone(), packet.clone()]).collect();
    for capture in [swapped, doubled] {
        let (is_whole, rows) = follow(&pcap(&capture), &[]);
        assert!(is_whole);
        assert_eq!(rows.len(), count);
        for (row, want) in rows.iter().zip(&in_order) {
            assert_eq!(row["body"], want["body"]);
        }
    }
}

#[test]
fn a_gap_is_told_and_the_next_frame_found() {
    let (packets, count) = session(1460, true);
    // One request is missing: that request and its response cannot be shown.
    let from_client = |packet: &Vec<u8>| packet[26..30] == [10, 0, 0, 1] && packet.len() > 60;
    let request = packets.iter().enumerate().filter(|(_, packet)| from_client(packet)).nth(5).unwrap().0;
    let mut lost = packets.clone();
    let gone = lost.remove(request);
    let (is_whole, rows) = follow(&pcap(&lost), &[]);
    assert!(!is_whole);
    let errors: Vec<_> = rows.iter().filter_map(|row| row.get("error")).map(Value::to_string).collect();
    let missing = format!("{} bytes are missing", gone.len() - 54);
    assert!(errors.iter().any(|error| error.contains(&missing)), "{missing}: {errors:?}");
    let fine = rows.iter().filter(|row| row.get("error").is_none()).count();
    assert!(fine >= count / 3, "{fine} of {count}");
}

#[test]
fn a_file_that_is_no_capture_is_refused() {
    let (mut printer, _) = printer(Format::Json);
    let sessions = Sessions::new(Filter::default(), false);
    let error =
        Follower::new(sessions, Vec::new(), &mut printer).follow(&b"this is no capture"[..]).unwrap_err();
    assert_eq!(error.to_string(), "neither pcap nor pcapng");
}
