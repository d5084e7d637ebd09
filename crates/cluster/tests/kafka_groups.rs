//! Partitions of `__consumer_offsets` that Kafka 4.3 wrote (a classic group, a group of the new protocol, offsets of a
//! transaction, offsets without a group), loaded and shown.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fmt::Write as _;
use std::path::Path;

use ottla_cluster::groups::{GroupConfig, GroupShard, Replayed};
use ottla_protocol::generated::offset_fetch::OffsetFetchRequestGroup;
use ottla_protocol::ids::ProducerId;
use ottla_protocol::records::{Batches, DecompressLimit};

/// Type of the control record that commits a transaction.
const COMMIT: i16 = 1;

/// A shard from a log, and how many of its records belong to other protocols.
fn load(partition: i32) -> (GroupShard, usize) {
    let name = format!("tests/fixtures/consumer-offsets-{partition}.log");
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let mut shard = GroupShard::new(GroupConfig::default());
    let mut skipped = 0;
    for batch in Batches::new(&bytes).verifying() {
        let batch = batch.unwrap();
        let attributes = batch.header().attributes;
        let producer = batch.header().producer_id;
        let mut records = batch.records(DecompressLimit::default()).unwrap();
        while let Some(record) = records.next_record().unwrap() {
            let key = record.key.unwrap();
            if attributes.is_control() {
                shard.replay_marker(producer, i16::from_be_bytes([key[2], key[3]]) == COMMIT);
                continue;
            }
            let transaction: Option<ProducerId> = attributes.is_transactional().then_some(producer);
            let replayed = shard.replay(key, record.value, transaction).unwrap();
            skipped += usize::from(replayed == Replayed::Skipped);
        }
    }
    (shard, skipped)
}

fn offsets(shard: &GroupShard, group_id: &str) -> String {
    let asked = OffsetFetchRequestGroup { group_id: group_id.into(), topics: None, ..Default::default() };
    let mut out = String::new();
    for topic in shard.fetch_offsets(&asked, true).topics {
        for p in topic.partitions {
            assert_eq!(p.error_code, 0);
            let metadata = p.metadata.unwrap();
            let (epoch, offset) = (p.committed_leader_epoch, p.committed_offset);
            writeln!(out, "{}-{} {offset} epoch {epoch} '{metadata}'", topic.name, p.partition_index)
                .unwrap();
        }
    }
    out
}

#[test]
fn a_classic_group_is_loaded() {
    let (shard, skipped) = load(18);
    assert_eq!(skipped, 0);
    let expected = "codecs-0 471 epoch 0 ''\ncodecs-1 254 epoch 0 ''\ncodecs-2 277 epoch 0 ''\n";
    assert_eq!(offsets(&shard, "g-classic"), expected);
    let group = shard.describe("g-classic", 6);
    assert_eq!((&*group.group_state, &*group.protocol_type), ("Empty", "consumer"));
    assert_eq!((shard.groups_count(), shard.members_count(), shard.offsets_count()), (1, 0, 3));
}

#[test]
fn the_offsets_of_a_group_of_the_new_protocol_are_loaded() {
    let (shard, skipped) = load(32);
    assert!(skipped > 0);
    let expected = "codecs-0 471 epoch 0 ''\ncodecs-1 254 epoch 0 ''\ncodecs-2 277 epoch 0 ''\n";
    assert_eq!(offsets(&shard, "g-consumer"), expected);
}

#[test]
fn offsets_with_metadata_and_without_an_epoch_are_loaded() {
    let (shard, _) = load(27);
    // The client that committed them counted the end of its C strings.
    let expected = "codecs-0 5 epoch -1 'a note é\0'\ncodecs-2 9 epoch -1 '\0'\n";
    assert_eq!(offsets(&shard, "g-metadata"), expected);
}

/// The transaction wrote 7 and was committed after a plain commit of 72, which is newer.
#[test]
fn a_transaction_does_not_overwrite_what_came_after_it() {
    let (shard, _) = load(10);
    assert_eq!(offsets(&shard, "tx-group"), "transactions-0 72 epoch 0 ''\n");
}
