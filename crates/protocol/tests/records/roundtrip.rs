//! Batches that we write and read again, in every codec.

use ottla_protocol::ids::{LeaderEpoch, Offset, ProducerId};
use ottla_protocol::records::validate::{ValidateOptions, validate};
use ottla_protocol::records::{
    Attributes, Batch, BatchError, BatchHeader, Batches, Builder, Compression, DecompressLimit, TimestampType,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::support::{CODECS, OwnedRecord, append, produced, read};

fn contents() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(prop_oneof![
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..70_000usize).prop_map(|(b, n)| vec![b; n])
    ])
}

fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let headers = vec((vec(any::<u8>(), 0..5), option::of(vec(any::<u8>(), 0..20))), 0..4);
    let record = (any::<i32>(), contents(), contents(), headers);
    vec(record, 1..20).prop_map(|records| {
        let records = records.into_iter().enumerate();
        let owned = records.map(|(i, (timestamp, key, value, headers))| OwnedRecord {
            offset: i as i64,
            timestamp: i64::from(timestamp),
            key,
            value,
            headers,
        });
        owned.collect()
    })
}

fn codec() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        prop_oneof![Just(-1), 1..=9].prop_map(Compression::Gzip),
        Just(Compression::Snappy),
        Just(Compression::Lz4),
        (-5..=12).prop_map(Compression::Zstd),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn written_records_read_back(records in records(), codec in codec()) {
        let mut builder = Builder::new(codec);
        records.iter().for_each(|record| append(&mut builder, record));
        let bytes: bytes::Bytes = builder.finish().expect("it fits").into();
        let batch = Batch::parse(&bytes).expect("a batch");
        prop_assert_eq!(batch.verify_crc(), Ok(()));
        prop_assert_eq!(read(&batch), Ok(records.clone()));
        prop_assert_eq!(batch.header().max_timestamp, records.iter().map(|r| r.timestamp).max().unwrap().max(-1));

        let options = ValidateOptions { timestamp_after_max_ms: i64::MAX, message_bytes_max: usize::MAX, ..Default::default() };
        let validated = validate(&bytes, &options).expect("valid");
        prop_assert_eq!(&validated.header, batch.header());
    }

    #[test]
    fn a_damaged_payload_never_panics(records in records(), codec in codec(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut builder = Builder::new(codec);
        records.iter().for_each(|record| append(&mut builder, record));
        let mut bytes = builder.finish().expect("it fits");
        let at = at.index(bytes.len() - 61) + 61;
        let same = bytes[at] == to;
        bytes[at] = to;
        let batch = Batch::parse(&bytes).expect("the header is whole");
        prop_assert_eq!(batch.verify_crc().is_ok(), same);
        if let Ok(read) = read(&batch) {
            prop_assert_eq!(read.len(), records.len());
        }
    }

    #[test]
    fn headers_read_back(
        (base_offset, batch_length, epoch, crc) in (any::<i64>(), 49..i32::MAX, any::<i32>(), any::<u32>()),
        (attributes, last_offset_delta, base_timestamp, max_timestamp) in any::<(i16, i32, i64, i64)>(),
        (producer_id, producer_epoch, base_sequence, records_count) in any::<(i64, i16, i32, i32)>(),
    ) {
        let header = BatchHeader {
            base_offset: Offset(base_offset),
            batch_length,
            partition_leader_epoch: LeaderEpoch(epoch),
            crc,
            attributes: Attributes(attributes),
            last_offset_delta,
            base_timestamp,
            max_timestamp,
            producer_id: ProducerId(producer_id),
            producer_epoch,
            base_sequence,
            records_count,
        };
        prop_assert_eq!(BatchHeader::parse(&header.encode()), Ok(header.clone()));
        prop_assert!(header.next_offset() >= header.last_offset());
    }
}

#[test]
fn large_batches_read_back_in_every_codec() {
    for codec in CODECS {
        let mut builder = Builder::new(codec);
        let record = |i: i64| OwnedRecord {
            offset: i,
            timestamp: 5000 - i,
            key: (i % 3 != 0).then(|| i.to_be_bytes().repeat(i as usize % 50)),
            value: Some((0..i * 13 % 90_000).map(|n| (n * n % 251) as u8).collect()),
            headers: vec![(b"trace".to_vec(), None)],
        };
        (0..300).for_each(|i| append(&mut builder, &record(i)));
        let bytes = builder.finish().expect("it fits");
        let read = read(&Batch::parse(&bytes).expect("a batch")).expect("valid");
        assert!(read.into_iter().eq((0..300).map(record)), "{codec:?}");
    }
}

#[test]
fn builder_sets_what_it_is_told() {
    let builder = Builder::new(Compression::None)
        .base_offset(Offset(70))
        .leader_epoch(LeaderEpoch(3))
        .producer(ProducerId(9), 2, 11)
        .transactional()
        .control()
        .log_append_time(8000);
    let mut builder = builder;
    builder.append_at(2, 5, None, None, &[]).expect("it fits");
    assert!(builder.append_at(2, 5, None, None, &[]).is_err(), "an offset again");
    assert!(builder.append_at(1 << 31, 5, None, None, &[]).is_err(), "an offset too far");
    builder.append_at(7, 6, None, None, &[]).expect("it fits");
    assert_eq!((builder.records_count(), builder.uncompressed_bytes()), (2, 61 + 2 * 7));
    let bytes = builder.finish().expect("it fits");
    let batch = Batch::parse(&bytes).expect("a batch");
    let header = batch.header();
    assert_eq!(
        (header.base_offset, header.last_offset(), header.next_offset()),
        (Offset(70), Offset(77), Offset(78))
    );
    assert_eq!((header.partition_leader_epoch, header.records_count), (LeaderEpoch(3), 2));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (ProducerId(9), 2, 11));
    assert!(header.attributes.is_transactional() && header.attributes.is_control());
    assert!(!header.attributes.has_delete_horizon());
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    let records = read(&batch).expect("valid");
    assert_eq!(records.iter().map(|r| (r.offset, r.timestamp)).collect::<Vec<_>>(), [(72, 8000), (77, 8000)]);
}

#[test]
fn a_walk_over_batches_ends_at_a_cut_off_one() {
    let whole = [produced(Compression::None, 3), produced(Compression::Zstd(1), 5)].concat();
    for cut in 0..=whole.len() {
        let mut batches = Batches::new(&whole[..cut]).verifying();
        let given: usize = batches.by_ref().map(|batch| batch.expect("whole").header().size_bytes()).sum();
        assert_eq!(batches.position(), given);
        assert_eq!(batches.rest(), &whole[given..cut]);
        assert_eq!(batches.next(), None);
    }
    assert_eq!(Batches::new(&whole).count(), 2);
}

#[test]
fn a_walk_over_batches_stops_at_a_wrong_one() {
    let first = produced(Compression::None, 3);
    let mut whole = [first.clone(), produced(Compression::None, 3)].concat();
    whole[first.len() + 70] ^= 1;
    let mut batches = Batches::new(&whole).verifying();
    assert!(matches!(batches.next(), Some(Ok(_))));
    assert!(matches!(batches.next(), Some(Err(BatchError::Crc { .. }))));
    assert_eq!((batches.next(), batches.position()), (None, first.len()));
    assert_eq!(Batches::new(&whole).count(), 2, "checksums are looked at only if asked for");
}

#[test]
fn records_end_after_an_error() {
    let bytes = crate::support::with_payload(0, 3, &[0x0c, 0, 0, 0, 1, 1, 0, 0xff, 0xff]);
    let batch = Batch::parse(&bytes).expect("a batch");
    let mut records = batch.records(DecompressLimit::default()).expect("not compressed");
    assert!(records.next_record().expect("the first is valid").is_some());
    assert!(matches!(records.next_record(), Err(BatchError::Record { index: 1, .. })));
    assert_eq!(records.next_record(), Ok(None));
}
