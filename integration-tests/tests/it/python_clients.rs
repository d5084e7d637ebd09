//! Three Python clients, each through its own script: topics, every codec, reading by partition and offset, administration.

use ottla_integration_tests::{Broker, clients};

#[test]
fn confluent_kafka() {
    let broker = Broker::start_default();
    let text = clients::python("confluent.py", &[&broker.bootstrap()]);
    assert!(text.ends_with("all checks hold\n"), "{text}");
}

#[test]
fn kafka_python() {
    let broker = Broker::start_default();
    let text = clients::python("kafka_python.py", &[&broker.bootstrap()]);
    assert!(text.ends_with("all checks hold\n"), "{text}");
}

#[test]
fn aiokafka() {
    let broker = Broker::start_default();
    let text = clients::python("aio.py", &[&broker.bootstrap()]);
    assert!(text.ends_with("all checks hold\n"), "{text}");
}

/// What one client wrote, the others read: headers, keys, empty and null values included.
#[test]
fn clients_read_each_other() {
    let broker = Broker::start_default();
    let bootstrap = broker.bootstrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for writer in ["confluent", "kafka-python", "aiokafka"] {
            clients::python("exchange.py", &["write", writer, codec, &bootstrap]);
        }
    }
    for reader in ["confluent", "kafka-python", "aiokafka"] {
        let text = clients::python("exchange.py", &["read", reader, "all", &bootstrap]);
        assert_eq!(text, "15 topics equal\n");
    }
}

/// What an administrator asks about brokers, the places of partitions and features.
#[test]
fn administration_of_a_cluster_of_one() {
    let broker = Broker::start_default();
    for client in ["confluent", "kafka-python"] {
        let text = clients::python("cluster_admin.py", &[client, &broker.bootstrap()]);
        assert!(text.ends_with("all checks hold\n"), "{text}");
    }
}
