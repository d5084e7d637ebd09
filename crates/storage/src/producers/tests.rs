use std::path::Path;

use ottla_protocol::records::{Attributes, BatchHeader, Batches, DecompressLimit};
use proptest::prelude::*;

use super::*;
use crate::files::Files;
use crate::files::faulty::FaultyFiles;

const NOW: i64 = 1_000_000;
const MAX: i32 = i32::MAX;

/// A batch of `count` records of producer 7.
fn batch(epoch: i16, sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        producer_id: ProducerId(7),
        producer_epoch: epoch,
        base_sequence: sequence,
        last_offset_delta: count - 1,
        records_count: count,
        max_timestamp: 5000,
        ..BatchHeader::default()
    }
}

fn at(offset: i64, header: BatchHeader) -> BatchHeader {
    BatchHeader { base_offset: Offset(offset), max_timestamp: 5000 + offset, ..header }
}

fn transactional(header: BatchHeader) -> BatchHeader {
    BatchHeader { attributes: header.attributes.with_transactional(true), ..header }
}

fn marker(epoch: i16) -> BatchHeader {
    let attributes = Attributes::default().with_transactional(true).with_control(true);
    BatchHeader { attributes, ..batch(epoch, -1, 1) }
}

/// States in which these batches were written one behind the other.
fn written(batches: &[BatchHeader]) -> ProducerStates {
    let mut states = ProducerStates::default();
    let mut offset = 0;
    for header in batches {
        let header = at(offset, header.clone());
        offset = header.next_offset().0;
        states.replay(&header, NOW);
    }
    states
}

fn said(states: &ProducerStates, header: &BatchHeader) -> String {
    match states.check(header) {
        Ok(Checked::Fresh) => "fresh".to_owned(),
        Ok(Checked::Duplicate(found)) => {
            format!("written at {} to {}, {}", found.base_offset, found.last_offset, found.timestamp)
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn any_of_the_last_five_is_a_duplicate_and_an_older_one_out_of_order() {
    let all: Vec<BatchHeader> = (0..6).map(|index| batch(0, index * 10, 10)).collect();
    let states = written(&all);
    assert_eq!(said(&states, &all[0]), "producer 7 sends sequence 0, expected is 60");
    for (index, header) in all.iter().enumerate().skip(1) {
        let (from, to) = (index * 10, index * 10 + 9);
        assert_eq!(said(&states, header), format!("written at {from} to {to}, {}", 5000 + from));
    }
    assert_eq!(said(&states, &batch(0, 60, 1)), "fresh");
}

#[test]
fn a_duplicate_has_first_and_last_sequence_of_the_written_batch() {
    let states = written(&[batch(0, 0, 10), batch(0, 10, 5)]);
    for (sequence, count) in [(0, 9), (0, 11), (1, 9), (10, 4), (9, 6), (14, 1), (16, 1)] {
        let expected = format!("producer 7 sends sequence {sequence}, expected is 15");
        assert_eq!(said(&states, &batch(0, sequence, count)), expected);
    }
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let states = written(&[batch(0, 0, 10)]);
    let other = BatchHeader { producer_id: ProducerId(8), ..batch(3, 1234, 1) };
    assert_eq!(said(&states, &other), "fresh");
    assert_eq!(said(&states, &BatchHeader { producer_id: ProducerId::NONE, ..batch(-1, -1, 1) }), "fresh");
}

#[test]
fn epochs_rise_and_begin_at_zero() {
    let states = written(&[batch(3, 0, 10)]);
    assert_eq!(said(&states, &batch(2, 10, 1)), "producer 7 has epoch 2, the last seen is 3");
    assert_eq!(said(&states, &batch(4, 10, 1)), "producer 7 sends sequence 10, expected is 0");
    assert_eq!(said(&states, &batch(4, 0, 10)), "fresh");
    let states = written(&[batch(3, 0, 10), batch(4, 0, 10)]);
    assert_eq!(said(&states, &batch(4, 0, 10)), "written at 10 to 19, 5010");
    assert_eq!(said(&states, &batch(4, 10, 10)), "fresh");
}

#[test]
fn sequences_go_on_at_zero_after_the_largest() {
    let across = batch(0, MAX - 1, 4); // MAX - 1, MAX, 0, 1
    let states = written(&[batch(0, MAX - 4, 3), across.clone()]);
    assert_eq!(said(&states, &across), "written at 3 to 6, 5003");
    assert_eq!(said(&states, &batch(0, 2, 1)), "fresh");
    assert_eq!(said(&written(&[batch(0, MAX, 1)]), &batch(0, 0, 1)), "fresh");
    assert!(said(&written(&[batch(0, MAX, 1)]), &batch(0, 1, 1)).ends_with("expected is 0"));
}

#[test]
fn batches_without_sequence_only_have_an_epoch() {
    let group = transactional(batch(2, -1, 3));
    let states = written(&[group.clone(), marker(2)]);
    assert_eq!(said(&states, &group), "fresh");
    assert_eq!(said(&states, &transactional(batch(1, -1, 3))), "producer 7 has epoch 1, the last seen is 2");
}

#[test]
fn a_transaction_is_open_until_its_marker() {
    let mut states =
        written(&[batch(0, 0, 5), transactional(batch(0, 5, 5)), transactional(batch(0, 10, 5))]);
    assert_eq!(states.first_open_offset(), Some(Offset(5)));
    assert_eq!(said(&states, &batch(0, 15, 1)), "producer 7 writes outside of its open transaction");
    assert_eq!(said(&states, &transactional(batch(0, 15, 1))), "fresh");
    assert_eq!(states.expire(i64::MAX, 1), 0, "not while it is open");
    let end = EndMarker { coordinator_epoch: 9, is_abort: true };
    let completed = states.replay_end_marker(&at(15, marker(0)), end, NOW).expect("it was open");
    let expected = CompletedTransaction {
        producer_id: ProducerId(7),
        first_offset: Offset(5),
        marker_offset: Offset(15),
        is_abort: true,
    };
    assert_eq!(completed, expected);
    assert_eq!(states.first_open_offset(), None);
    assert_eq!(states.replay_end_marker(&at(16, marker(0)), end, NOW), None, "nothing was written since");
    assert_eq!(said(&states, &batch(0, 15, 1)), "fresh");
    assert_eq!(states.iter().next().expect("it is known").coordinator_epoch, 9);
}

#[test]
fn a_marker_of_a_higher_epoch_begins_the_sequences_anew() {
    let mut states = written(&[transactional(batch(0, 0, 5))]);
    states.replay(&at(5, marker(1)), NOW);
    assert_eq!(states.first_open_offset(), None);
    assert_eq!(said(&states, &batch(0, 5, 1)), "producer 7 has epoch 0, the last seen is 1");
    assert_eq!(said(&states, &batch(1, 5, 1)), "producer 7 sends sequence 5, expected is 0");
    assert_eq!(said(&states, &batch(1, 0, 1)), "fresh");
    let emptied = BatchHeader { records_count: 0, ..marker(8) };
    let before = states.clone();
    states.replay(&at(6, emptied), NOW);
    assert_eq!(states, before, "of a marker that was compacted away nothing is known");
}

#[test]
fn idle_producers_expire_by_our_clock() {
    let mut states = ProducerStates::default();
    states.replay(&at(0, batch(0, 0, 1)), NOW);
    let other = BatchHeader { producer_id: ProducerId(8), ..batch(0, 0, 1) };
    states.replay(&at(1, other), NOW + 10);
    assert_eq!(states.expire(NOW + 99, 100), 0);
    assert_eq!(states.expire(NOW + 100, 100), 1);
    assert_eq!(states.iter().map(|producer| producer.producer_id.0).collect::<Vec<_>>(), [8]);
    assert_eq!(states.expire(NOW + 110, 100), 1);
    assert!(states.is_empty());
}

/// `transactions-0` of the recorded directory: two producers in the middle of a transaction each, and all ended.
const FROM_KAFKA: [&str; 2] = [
    "0001369a741b00000002000000000000000300000000000400000000000000080000000000000\
     18bcfe56800ffffffff00000000000000000000000000000004000000000004000000000000\
     0009000000000000018bcfe56800ffffffff0000000000000001",
    "000114e3aa330000000200000000000000030000000000\
     1d0000000000000044000000000000\
     01a2050c353b00000000ffffffffffffffff0000000000000004\
     00000000001d0000000000000045\
     00000000000001a2050c353e00000000ffffffffffffffff",
];

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("hex") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn kafkas_snapshots_are_read_and_written_alike() {
    for hex in FROM_KAFKA {
        let bytes = bytes_of(hex);
        assert_eq!(bytes.len(), 102);
        let states = ProducerStates::decode(&bytes, NOW).expect("Kafka's own");
        assert_eq!(states.encode(), bytes);
    }
    let states = ProducerStates::decode(&bytes_of(FROM_KAFKA[0]), NOW).expect("Kafka's own");
    let expected = |id, first| ProducerView {
        producer_id: ProducerId(id),
        epoch: 0,
        last_sequence: 4,
        last_timestamp: 1_700_000_000_000,
        coordinator_epoch: -1,
        transaction_first_offset: Some(Offset(first)),
    };
    assert_eq!(states.iter().collect::<Vec<_>>(), [expected(3, 0), expected(4, 1)]);
    assert_eq!(states.first_open_offset(), Some(Offset(0)));
}

/// The log that these snapshots belong to: 73 records, data and markers of commits and aborts.
#[test]
fn kafkas_log_replays_to_kafkas_snapshots() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/fixtures/records/transactions-0");
    let mut states = ProducerStates::default();
    let (mut commits, mut aborts) = (0, 0);
    for (segment, hex) in [0, 10].into_iter().zip(FROM_KAFKA) {
        let log = std::fs::read(format!("{dir}/{segment:020}.log")).expect("the recorded log");
        for batch in Batches::new(&log) {
            let batch = batch.expect("it was written whole");
            let header = batch.header();
            if !header.attributes.is_control() {
                assert_eq!(states.check(header), Ok(Checked::Fresh), "{header:?}");
                states.replay(header, NOW);
                continue;
            }
            let mut records = batch.records(DecompressLimit::default()).expect("not compressed");
            let record = records.next_record().expect("it parses").expect("a marker");
            let marker = EndMarker::parse(record.key.expect("a key"), record.value.expect("a value"));
            let ended = states.replay_end_marker(header, marker.expect("an end"), NOW).expect("it was open");
            *(if ended.is_abort { &mut aborts } else { &mut commits }) += 1;
        }
        let kafkas = bytes_of(hex);
        assert_eq!(states.encode()[10..102], kafkas[10..102]);
    }
    assert!(commits > 0 && aborts > 0, "{commits} commits, {aborts} aborts");
    assert_eq!(EndMarker::parse(&[0, 0, 0, 2], &[0; 6]), None, "another control record");
    assert_eq!(EndMarker::parse(&[0, 0, 0], &[0; 6]), None);
}

#[test]
fn the_whole_window_survives_a_snapshot() {
    let all: Vec<BatchHeader> = (0..7).map(|index| batch(0, index * 10, 10)).collect();
    let states = written(&all);
    let files = FaultyFiles::new();
    let dir = Path::new("/d");
    files.create_dir_all(dir).unwrap();
    states.write_snapshot(&files, dir, Offset(70)).unwrap();
    let read = ProducerStates::read_snapshot(&files, dir, Offset(70), NOW).unwrap().expect("just written");
    assert_eq!(read, states);
    assert_eq!(said(&read, &all[2]), "written at 20 to 29, 5020");
    assert!(ProducerStates::read_snapshot(&files, dir, Offset(71), NOW).unwrap().is_none());
    files.flip(&dir.join(snapshot_file_name(Offset(70))), 50, 1).unwrap();
    let error = ProducerStates::read_snapshot(&files, dir, Offset(70), NOW).unwrap_err();
    assert_eq!(error.to_string(), "/d/00000000000000000070.snapshot is damaged: wrong checksum");
}

/// A snapshot with these bytes behind the head, its checksum right.
fn sealed(count: i32, body: &[u8]) -> Vec<u8> {
    let rest = [&count.to_be_bytes(), body].concat();
    [&1i16.to_be_bytes()[..], &crc32c::crc32c(&rest).to_be_bytes(), &rest].concat()
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_snapshot_is_found() {
    let bytes = written(&[batch(0, 0, 1), batch(0, 1, 1)]).encode();
    for len in 0..bytes.len() {
        assert!(ProducerStates::decode(&bytes[..len], NOW).is_err(), "{len}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(ProducerStates::decode(&flipped, NOW).is_err(), "{bit}");
    }
    let one = &bytes[10..56];
    let decode =
        |count, body: &[u8]| ProducerStates::decode(&sealed(count, body), NOW).map(|states| states.len());
    assert_eq!(decode(1, one), Ok(1));
    assert_eq!(decode(0, &[]), Ok(0));
    for count in [-1, 2, MAX] {
        assert_eq!(decode(count, one), Err("the count does not fit the length"));
    }
    assert_eq!(decode(0, one), Err("something unknown follows the producers"));
    assert_eq!(decode(1, &[one, b"OTW1"].concat()), Err("the earlier batches are cut off"));
    assert_eq!(decode(1, &[one, b"OTW1\x05"].concat()), Err("the earlier batches are cut off"));
    assert_eq!(decode(1, &[one, b"OTW1\0\0"].concat()), Err("something unknown follows the earlier batches"));
}

#[test]
fn snapshot_names_are_kafkas() {
    assert_eq!(snapshot_file_name(Offset(73)), "00000000000000000073.snapshot");
    assert_eq!(snapshot_offset("00000000000000000073.snapshot"), Some(Offset(73)));
    for other in [
        "73.snapshot",
        "00000000000000000073.log",
        "+0000000000000000073.snapshot",
        "99999999999999999999.snapshot",
    ] {
        assert_eq!(snapshot_offset(other), None, "{other}");
    }
}

proptest! {
    /// Whatever stands in the log, the states survive their snapshot, and the next batch in order is fresh.
    #[test]
    fn states_survive_their_snapshot(
        writes in prop::collection::vec((0..4i64, 0..3i16, 1..20i32, any::<bool>(), 0..10u8), 0..60)
    ) {
        let mut states = ProducerStates::default();
        let mut offset = 0;
        for (id, epoch, count, in_transaction, kind) in writes {
            let next = states.iter().find(|producer| producer.producer_id.0 == id && producer.epoch == epoch);
            let sequence = next.map_or(0, |producer| sequence_plus(producer.last_sequence, 1));
            let header = if kind == 0 { marker(epoch) } else { batch(epoch, sequence, count) };
            let header = if in_transaction { transactional(header) } else { header };
            let header = at(offset, BatchHeader { producer_id: ProducerId(id), ..header });
            offset = header.next_offset().0;
            states.replay(&header, NOW);
        }
        let read = ProducerStates::decode(&states.encode(), NOW).expect("just encoded");
        prop_assert_eq!(read.encode(), states.encode());
        prop_assert!(read.iter().eq(states.iter()));
        for producer in states.iter() {
            let id = producer.producer_id;
            let next = batch(producer.epoch, sequence_plus(producer.last_sequence, 1), 1);
            let next = transactional(BatchHeader { producer_id: id, ..next });
            prop_assert_eq!(read.check(&next), Ok(Checked::Fresh));
        }
    }
}
