//! A client for Ottla, and for everything else that speaks the Kafka protocol.
//!
//! Everything begins with a [`Client`]; it gives [`Producer`]s, [`Consumer`]s and an [`Admin`].
//!
//! ```no_run
//! # async fn example() -> Result<(), ottla_client_sdk::Error> {
//! use ottla_client_sdk::{Client, Position, Record, TopicPartition};
//!
//! let client = Client::connect("127.0.0.1:9092").await?;
//!
//! let producer = client.producer().start().await?;
//! let delivery = producer.send(Record::to("greetings").key("en").value("hello")).await?;
//! println!("written at {:?}", delivery.await?.offset);
//! producer.close().await?;
//!
//! let mut consumer = client.consumer().start()?;
//! consumer.assign([(TopicPartition::new("greetings", 0), Position::Beginning)]);
//! let record = consumer.recv().await?;
//! println!("{:?}", record.value());
//! # Ok(())
//! # }
//! ```
//!
//! What can be retried is retried until a deadline; what is left is an [`Error`] that names topic, partition and what to
//! do. No task outlives what started it. All calls want a tokio runtime.

mod admin;
mod client;
mod committed;
mod connection;
mod consumer;
mod coordinator;
mod error;
mod group;
mod metadata;
mod offsets;
mod partitioner;
mod producer;
mod record;
mod retry;

pub use admin::{
    Admin, ClusterInfo, ConfigChange, ConfigEntry, DescribedGroup, GroupEvent, GroupExplanation,
    GroupListing, GroupMember, LogDirectory, NewTopic, PartitionExplanation, Quorum, QuorumNode, Resource,
};
pub use client::{Client, ClientOptions};
pub use connection::Security;
pub use consumer::{Consumer, ConsumerOptions, ConsumerRecord, Isolation, StartAt};
pub use error::Error;
pub use group::{Assignor, GroupConsumer, GroupHandle, GroupOptions, RebalanceListener};
pub use metadata::{Broker, Partition, Topic};
pub use offsets::{FoundOffset, Position, TopicPartition};
pub use ottla_protocol::generated::ErrorCode;
pub use ottla_protocol::ids::Uuid;
pub use ottla_protocol::records::{Compression, TimestampType};
pub use ottla_protocol::wire::Str;
pub use partitioner::partition_of_key;
pub use producer::{Acks, Delivery, Producer, ProducerOptions, Receipt, Spread};
pub use record::Record;
