//! Records by timestamp.

use ottla_protocol::ids::Offset;
use ottla_protocol::records::{Batch, Builder, DecompressLimit, TimestampedOffset};

use crate::support::CODECS;

fn found(offset: i64, timestamp: i64) -> Option<TimestampedOffset> {
    Some(TimestampedOffset { offset: Offset(offset), timestamp })
}

#[test]
fn the_first_record_at_or_after_a_timestamp() {
    for codec in CODECS {
        let mut builder = Builder::new(codec).base_offset(Offset(100));
        for timestamp in [10, 50, 30, 50, 20] {
            builder.append(timestamp, None, Some(b"value"), &[]).expect("it fits");
        }
        let bytes = builder.finish().expect("it fits");
        let batch = Batch::parse(&bytes).expect("a batch");
        let at = |timestamp| batch.first_at_or_after(timestamp, DecompressLimit::default()).expect("valid");
        assert_eq!(at(i64::MIN), found(100, 10));
        assert_eq!(at(10), found(100, 10));
        assert_eq!(at(11), found(101, 50));
        assert_eq!(at(50), found(101, 50));
        assert_eq!(at(51), None);
        assert_eq!(batch.max_timestamp_record(DecompressLimit::default()).expect("valid"), found(101, 50));
    }
}

#[test]
fn append_time_counts_for_every_record() {
    let mut builder = Builder::new(CODECS[0]).base_offset(Offset(7)).log_append_time(900);
    builder.append_at(4, 10, None, None, &[]).expect("it fits");
    builder.append_at(6, 20, None, None, &[]).expect("it fits");
    let bytes = builder.finish().expect("it fits");
    let batch = Batch::parse(&bytes).expect("a batch");
    assert_eq!(batch.first_at_or_after(20, DecompressLimit::default()), Ok(found(11, 900)));
    assert_eq!(batch.first_at_or_after(901, DecompressLimit::default()), Ok(None));
    assert_eq!(batch.max_timestamp_record(DecompressLimit::default()), Ok(found(11, 900)));
}

#[test]
fn records_without_timestamps_have_no_highest() {
    let mut builder = Builder::new(CODECS[0]);
    builder.append(-1, None, None, &[]).expect("it fits");
    let bytes = builder.finish().expect("it fits");
    let batch = Batch::parse(&bytes).expect("a batch");
    assert_eq!(batch.max_timestamp_record(DecompressLimit::default()), Ok(None));
    assert_eq!(batch.first_at_or_after(0, DecompressLimit::default()), Ok(None));
}
