//! Bounds on what one request may ask of the controller.

/// Partitions that one CreateTopics or CreatePartitions may make, as in Kafka.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;
/// Length of a topic's name: with `-` and a partition's number it is still a file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Producer ids that a broker gets at once, as in Kafka.
pub const PRODUCER_ID_BLOCK: i32 = 1000;
/// Length of a configuration value.
pub const CONFIG_VALUE_BYTES_MAX: usize = 30_000;
/// Control connections of one broker that the controller keeps apart.
pub const BROKER_CONNECTIONS_MAX: usize = 16;
/// Leaders that one round of rebalancing changes, as in Kafka.
pub const ELECTIONS_PER_REBALANCE_MAX: usize = 1000;
