//! The body of the fuzz target `record_batch`; the tests of `ottla-protocol` replay its corpus through the same function.

use bytes::Bytes;
use ottla_protocol::records::validate::{ValidateOptions, validate};
use ottla_protocol::records::{
    Batch, BatchError, Batches, Compression, DecompressLimit, HEADER_BYTES, LENGTH_PREFIX_BYTES,
    TimestampType, compute_crc,
};

const LIMIT: DecompressLimit =
    DecompressLimit { bytes_max: 1 << 20, ratio_max: 1 << 20, ratio_free_bytes: 1 << 20 };

/// Reads arbitrary bytes as batches; then, with a right length and checksum, as what a producer sends. The first byte
/// chooses the topic's settings.
pub fn record_batch(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    for batch in Batches::new(bytes).flatten() {
        // Whether they can be read does not matter here, only that nothing panics.
        drop(count_records(&batch));
        drop(batch.first_at_or_after(batch.header().base_timestamp, LIMIT));
        drop(batch.max_timestamp_record(LIMIT));
    }
    let mut produced = bytes.to_vec();
    if choice & 0x80 == 0 && produced.len() >= HEADER_BYTES {
        let length = i32::try_from(produced.len() - LENGTH_PREFIX_BYTES).expect("inputs are small");
        produced[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = compute_crc(&produced).expect("there is a header");
        produced[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    check_produced(&produced.into(), choice);
}

fn check_produced(bytes: &Bytes, choice: u8) {
    let targets = [
        None,
        Some(Compression::None),
        Some(Compression::Gzip(1)),
        Some(Compression::Snappy),
        Some(Compression::Lz4),
        Some(Compression::Zstd(1)),
    ];
    let options = ValidateOptions {
        now_ms: 1_700_000_000_000,
        timestamp_type: if choice & 0x40 == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        },
        timestamp_after_max_ms: i64::MAX,
        key_required: choice & 0x20 != 0,
        allow_zstd: choice & 0x10 == 0,
        compression: targets.get(usize::from(choice & 0x0f)).copied().flatten(),
        decompress_limit: LIMIT,
        ..ValidateOptions::default()
    };
    let Ok(validated) = validate(bytes, &options) else { return };
    let batch = Batch::from_parts(validated.header.clone(), &validated.payload);
    batch.verify_crc().expect("what may be appended has a right checksum");
    let count = count_records(&batch).expect("what may be appended can be read");
    assert_eq!(i64::from(count), i64::from(validated.header.records_count), "the count is right");
    let whole = [&validated.header.encode()[..], &validated.payload].concat();
    assert_eq!(Batch::parse(&whole).expect("it reads back").header(), &validated.header);
}

fn count_records(batch: &Batch<'_>) -> Result<u32, BatchError> {
    let mut records = batch.records(LIMIT)?;
    let mut count = 0;
    while let Some(record) = records.next_record()? {
        assert_eq!(record.headers().len(), record.headers().count(), "headers were checked");
        count += 1;
    }
    Ok(count)
}
