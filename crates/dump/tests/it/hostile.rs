//! Bytes of somebody who means ill, or of nobody: nothing panics, and something is said. What they cost: `tests/memory.rs`.

use bytes::Bytes;
use ottla_dump::filter::Filter;
use ottla_dump::frame::Direction;
use ottla_dump::hex;
use ottla_dump::pcap::{Capture, segment};
use ottla_dump::printer::{Format, Printer};
use ottla_dump::session::Sessions;
use proptest::prelude::*;

use crate::support::{SESSIONS, recorded, seen};

#[test]
fn sessions_with_bytes_changed_never_panic() {
    let mut frames = 0;
    let mut broken = 0;
    for (name, _) in SESSIONS {
        let mut sessions = Sessions::new(Filter::default(), false);
        for (index, mut frame) in recorded(name).into_iter().enumerate() {
            let mut bytes = frame.bytes.to_vec();
            // The place moves through the frames; the correlation id of responses stays, so that they are matched.
            let at = 8 + index * 7 % bytes.len().saturating_sub(8).max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = [0, 0xff, 0x80, 0x7f][index % 4];
            }
            frame.bytes = Bytes::from(bytes);
            let shown = sessions.see(frame).unwrap();
            frames += 1;
            broken += usize::from(shown.failure.is_some());
            for format in [Format::Json, Format::Text { hex: true }] {
                Printer::new(format, Box::new(std::io::sink())).frame(&shown).unwrap();
            }
        }
    }
    println!("{broken} of {frames} frames did not decode");
    assert!(broken > frames / 20);
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_a_packet_a_capture_or_not(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut sessions = Sessions::new(Filter::default(), false);
        let bytes = Bytes::from(bytes);
        for direction in [Direction::Request, Direction::Response] {
            let frame = sessions.see(seen(direction, bytes.clone())).unwrap();
            Printer::new(Format::Text { hex: true }, Box::new(std::io::sink())).frame(&frame).unwrap();
        }
        for link in [0, 1, 101, 113, 276] {
            prop_assert!(segment(link, &bytes).is_none_or(|segment| segment.payload.len() <= bytes.len()));
        }
        for magic in [[0xa1, 0xb2, 0xc3, 0xd4], [0xd4, 0xc3, 0xb2, 0xa1], [0x0a, 0x0d, 0x0d, 0x0a]] {
            let file = [&magic[..], &bytes].concat();
            if let Ok(mut capture) = Capture::open(&file[..]) {
                while let Ok(Some(packet)) = capture.next_packet() {
                    prop_assert!(packet.bytes.len() <= file.len());
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(parsed) = hex::parse(&text) {
            prop_assert!(parsed.len() * 2 <= text.len());
        }
    }
}
