//! How much memory batches may cost, whatever they claim. One test, so that nothing else allocates meanwhile. zstd's own
//! context is allocated in C and not seen here; its window is bounded by the frame's, at most 128 MiB, and touched only
//! as far as bytes come out.

#![allow(clippy::print_stdout, reason = "the figures belong to the test")]

use std::alloc::System;
use std::io::Write;

use bytes::Bytes;
use cap::Cap;
use flate2::write::GzEncoder;
use ottla_protocol::records::validate::{ValidateErrorKind as Kind, ValidateOptions, Validated, validate};
use ottla_protocol::records::{
    Batch, BatchError, Builder, Compression, DecompressLimit, HEADER_BYTES, compute_crc,
};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const MIB: usize = 1 << 20;

/// Runs `body` and gives all bytes it allocated, freed or not.
fn allocated<T>(body: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATOR.total_allocated();
    let result = body();
    (ALLOCATOR.total_allocated() - before, result)
}

fn batch(codec: u8, count: i32, payload: &[u8]) -> Bytes {
    let mut batch = Builder::new(Compression::None).finish().expect("empty");
    batch[22] = codec;
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(payload);
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = compute_crc(&batch).expect("there is a header");
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A record whose value is `size` zeros, written to `out` piece by piece.
fn write_zeros(out: &mut impl Write, size: usize) {
    let varint = |mut bits: u64| {
        let mut bytes = Vec::new();
        while bits >= 0x80 {
            bytes.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        bytes.push(bits as u8);
        bytes
    };
    let value_length = varint(2 * size as u64);
    let length = varint(2 * (5 + value_length.len() + size) as u64);
    out.write_all(&[&length[..], &[0, 0, 0, 1], &value_length].concat()).expect("memory");
    let zeros = vec![0; MIB];
    let mut left = size;
    while left > 0 {
        let count = left.min(zeros.len());
        out.write_all(&zeros[..count]).expect("memory");
        left -= count;
    }
    out.write_all(&[0]).expect("memory");
}

/// One record of `size` zeros in each codec.
fn zeros(codec: u8, size: usize) -> Vec<u8> {
    match codec {
        1 => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            write_zeros(&mut encoder, size);
            encoder.finish().expect("memory")
        }
        2 => {
            let mut plain = Vec::new();
            write_zeros(&mut plain, size);
            snap::raw::Encoder::new().compress_vec(&plain).expect("memory")
        }
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            write_zeros(&mut encoder, size);
            encoder.finish().expect("memory")
        }
        _ => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
            write_zeros(&mut encoder, size);
            encoder.finish().expect("memory")
        }
    }
}

/// Validates and reads the batch under a limit; both must refuse it with little memory.
fn refused_cheaply(bomb: &Bytes, limit: DecompressLimit, what: &str) {
    let options = ValidateOptions {
        message_bytes_max: usize::MAX,
        decompress_limit: limit,
        ..ValidateOptions::default()
    };
    let (bytes, result) = allocated(|| validate(bomb, &options));
    println!("{what}: {} bytes, {bytes} allocated", bomb.len());
    assert_eq!(result.expect_err("a bomb").kind, Kind::MessageTooLarge, "{what}");
    assert!(bytes < MIB, "{what}: {bytes} allocated");
    let (bytes, result) = allocated(|| {
        let mut records = Batch::parse(bomb)?.records(limit)?;
        records.next_record().map(|_| ())
    });
    assert!(matches!(result, Err(BatchError::DecompressLimit { .. })), "{what}: {result:?}");
    assert!(bytes < MIB, "{what}: {bytes} allocated");
}

fn bombs_are_refused() {
    let limit = DecompressLimit { bytes_max: 16 << 20, ..DecompressLimit::default() };
    for codec in 1..=4 {
        let payload = zeros(codec, 64 << 20);
        refused_cheaply(&batch(codec, 1, &payload), limit, "one huge record");
        let by_ratio = DecompressLimit { bytes_max: u64::MAX, ratio_max: 10, ratio_free_bytes: 1 << 16 };
        refused_cheaply(&batch(codec, 1, &payload), by_ratio, "one huge record by ratio");
    }
    refused_cheaply(&batch(4, 1, &zeros(4, 1 << 30)), DecompressLimit::default(), "a GiB in zstd");
}

/// No single length gives these away: the limit is met in the middle of the stream.
fn many_records_stop_at_the_limit() {
    let limit = DecompressLimit { bytes_max: 2 << 20, ..DecompressLimit::default() };
    for compression in [Compression::Gzip(1), Compression::Snappy, Compression::Lz4, Compression::Zstd(1)] {
        let mut builder = Builder::new(compression);
        for _ in 0..100 {
            builder.append(0, None, Some(&[0; 100_000]), &[]).expect("it fits");
        }
        let bomb: Bytes = builder.finish().expect("it fits").into();
        let options =
            ValidateOptions { message_bytes_max: usize::MAX, decompress_limit: limit, ..Default::default() };
        let (bytes, result) = allocated(|| validate(&bomb, &options));
        println!("{compression:?}, many records: {} bytes, {bytes} allocated", bomb.len());
        assert_eq!(result.expect_err("a bomb").kind, Kind::MessageTooLarge);
        assert!(bytes < MIB, "{bytes} allocated");
        // Without the limit it is an ordinary batch, and checking it takes no more memory.
        let (bytes, result) = allocated(|| {
            validate(&bomb, &ValidateOptions { message_bytes_max: usize::MAX, ..Default::default() })
        });
        assert_eq!(result.expect("valid").header.records_count, 100);
        assert!(bytes < MIB, "{bytes} allocated");
        // Nor does rewriting what would pass max.message.bytes.
        let options = ValidateOptions { compression: Some(Compression::None), ..Default::default() };
        let (bytes, result) = allocated(|| validate(&bomb, &options));
        assert_eq!(result.expect_err("10 MB").kind, Kind::MessageTooLarge);
        assert!(bytes < 8 * MIB, "{bytes} allocated");
    }
}

fn claims_cost_nothing() {
    // A length of 2 GiB in a raw snappy block, a framed one, and a record; as many records as a count can say.
    let huge = [0xff, 0xff, 0xff, 0xff, 0x07, 0, 0, 0];
    let framed = [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x08"[..], &huge].concat();
    let framed_length = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff\0".to_vec();
    // 4 MiB are within the limit of a small batch, but not in eight bytes of snappy.
    let more_than_it_holds = vec![0x80, 0x80, 0x80, 0x02, 0, 0, 0, 0];
    let record = vec![0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let mut cases = vec![
        (2, huge.to_vec()),
        (2, more_than_it_holds),
        (2, framed),
        (2, framed_length),
        (0, record.clone()),
    ];
    for compression in [Compression::Gzip(1), Compression::Snappy, Compression::Lz4, Compression::Zstd(1)] {
        let plain = Batch::parse(&batch(0, 1, &record)).expect("a batch").header().clone();
        let rewrite = ottla_protocol::records::rewrite::recompress;
        let (_, payload) =
            rewrite(&plain, &record, compression, DecompressLimit::NONE, MIB).expect("it fits");
        cases.push((compression.codec().code(), payload.to_vec()));
    }
    for (codec, payload) in cases {
        for count in [1, i32::MAX] {
            let bytes = batch(codec, count, &payload);
            let (allocated_bytes, result) = allocated(|| validate(&bytes, &ValidateOptions::default()));
            result.expect_err("not what it claims");
            assert!(allocated_bytes < MIB, "codec {codec}: {allocated_bytes} allocated");
        }
    }
}

fn a_plain_batch_is_checked_without_allocation() {
    let mut builder = Builder::new(Compression::None);
    for i in 0..1000 {
        builder.append(i, Some(b"key"), Some(&[1; 100]), &[]).expect("it fits");
    }
    let bytes = Bytes::from(builder.finish().expect("it fits"));
    // The second owner of a vector allocates a counter; a frame has one already.
    let frame = bytes.clone();
    let (count, result) = allocated(|| validate(&frame, &ValidateOptions::default()));
    let Validated { header, payload, .. } = result.expect("valid");
    assert_eq!((header.records_count, payload.len() + HEADER_BYTES), (1000, bytes.len()));
    assert_eq!(count, 0, "bytes allocated");
}

#[test]
fn memory_is_bounded() {
    a_plain_batch_is_checked_without_allocation();
    claims_cost_nothing();
    bombs_are_refused();
    many_records_stop_at_the_limit();
}
