//! What decoding and encoding cost: `cargo run --release -p ottla-protocol --example codec_cost`.
#![allow(clippy::print_stdout, reason = "a table for the one who runs it")]

use bytes::Bytes;
use ottla_protocol::generated::fetch::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::generated::metadata::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::generated::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::wire::{Message, Records};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 20_000;

fn produce(partitions: i32) -> ProduceRequest {
    let partition_data = (0..partitions)
        .map(|index| PartitionProduceData {
            index,
            records: Records::Bytes(Bytes::from(vec![7; 1024])),
            ..PartitionProduceData::default()
        })
        .collect();
    let topic = TopicProduceData { name: "orders".into(), partition_data, ..TopicProduceData::default() };
    ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() }
}

fn fetch(partitions: i32) -> FetchRequest {
    let partitions =
        (0..partitions).map(|partition| FetchPartition { partition, ..FetchPartition::default() }).collect();
    let topic = FetchTopic { topic: "orders".into(), partitions, ..FetchTopic::default() };
    FetchRequest { topics: vec![topic], ..FetchRequest::default() }
}

fn metadata(topics: usize) -> MetadataResponse {
    let partition = MetadataResponsePartition {
        replica_nodes: vec![1, 2, 3],
        isr_nodes: vec![1, 2, 3],
        ..MetadataResponsePartition::default()
    };
    let topic = |n| MetadataResponseTopic {
        name: Some(format!("topic-{n}").into()),
        partitions: vec![partition.clone(); 10],
        ..MetadataResponseTopic::default()
    };
    MetadataResponse { topics: (0..topics).map(topic).collect(), ..MetadataResponse::default() }
}

/// Prints nanoseconds a message, decoding and encoding.
fn measure<T: Message>(what: &str, message: &T, version: i16) {
    let bytes = message.encode(version).expect("can be encoded");
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(T::decode(black_box(bytes.clone()), version)).expect("can be decoded");
    }
    let decode_ns = start.elapsed().as_nanos() / u128::from(ROUNDS);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(black_box(message).encode(version)).expect("can be encoded");
    }
    let encode_ns = start.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{what:<34} {:>8} B {decode_ns:>8} ns {encode_ns:>8} ns", bytes.len());
}

fn main() {
    println!("{:<34} {:>10} {:>11} {:>11}", "message", "size", "decode", "encode");
    measure("Produce 9, 1 partition", &produce(1), 9);
    measure("Produce 9, 100 partitions", &produce(100), 9);
    measure("Fetch 12, 1 partition", &fetch(1), 12);
    measure("Fetch 12, 100 partitions", &fetch(100), 12);
    measure("Metadata answer 12, 100 topics", &metadata(100), 12);
}
