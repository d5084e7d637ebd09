"""kafka-python against the broker at argv[1]: produce in every codec and acks, read by assignment, administer."""
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import TopicAlreadyExistsError

BOOTSTRAP = sys.argv[1]
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 3
RECORDS = 600

admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def create(name, partitions=PARTITIONS, config=None):
    admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config or {})])


def record(i):
    key = None if i % 7 == 0 else b"key-%d" % i
    value = None if i % 11 == 0 and key else b"" if i % 13 == 0 else b"value %d " % i * (1 + i % 50)
    headers = [("n", b"%d" % i), ("empty", b"")] if i % 5 == 0 else []
    return key, value, headers


def send(topic, records=RECORDS, **settings):
    p = KafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=20, **settings)
    sent = []
    for i in range(records):
        key, value, headers = record(i)
        sent.append(p.send(topic, value, key, headers, partition=i % PARTITIONS, timestamp_ms=1_700_000_000_000 + i))
    p.flush(60)
    for i, future in enumerate(sent):
        metadata = future.get(30)
        if settings.get("acks") != 0:
            assert (metadata.partition, metadata.offset) == (i % PARTITIONS, i // PARTITIONS), (i, metadata)
    p.close()


def read(topic, partition, offset, count):
    c = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, enable_auto_commit=False, auto_offset_reset="none", check_crcs=True)
    at = TopicPartition(topic, partition)
    c.assign([at])
    c.seek(at, offset)
    got, deadline = [], time.monotonic() + 30
    while len(got) < count and time.monotonic() < deadline:
        got += c.poll(500, 500).get(at, [])
    c.close()
    assert len(got) >= count, f"{topic}-{partition}: {len(got)} records of {count}"
    return got[:count]


def expect(topic, records=RECORDS):
    for partition in range(PARTITIONS):
        wanted = list(range(partition, records, PARTITIONS))
        for offset, (i, message) in enumerate(zip(wanted, read(topic, partition, 0, len(wanted)))):
            key, value, headers = record(i)
            assert message.offset == offset, (topic, partition, message.offset, offset)
            assert (message.key, message.value) == (key, value), (topic, i, message)
            assert list(message.headers) == headers, (topic, i, message.headers)
            assert message.timestamp == 1_700_000_000_000 + i, (topic, i, message.timestamp)


def codecs_and_acks():
    for codec in CODECS:
        create(f"k-{codec}")
        send(f"k-{codec}", compression_type=codec, acks="all", enable_idempotence=False)
        expect(f"k-{codec}")
    for acks in [0, 1, "all"]:
        create(f"k-acks-{acks}")
        send(f"k-acks-{acks}", acks=acks, enable_idempotence=False)
        expect(f"k-acks-{acks}")
    create("k-idempotent")
    send("k-idempotent", enable_idempotence=True)
    expect("k-idempotent")


def middle_of_a_batch():
    message = read("k-lz4", 1, 100, 1)[0]
    assert message.offset == 100 and message.value == record(100 * PARTITIONS + 1)[1], message


def offsets():
    c = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None)
    at, other = TopicPartition("k-None", 0), TopicPartition("k-None", 1)
    assert c.beginning_offsets([at]) == {at: 0} and c.end_offsets([at]) == {at: 200}
    found = c.offsets_for_times({at: 1_700_000_000_000 + 301, other: 2_000_000_000_000})
    assert found[at].offset == 101 and found[other] is None, found
    assert set(CODECS_TOPICS) <= c.topics()
    c.close()


CODECS_TOPICS = [f"k-{codec}" for codec in CODECS]


def topics():
    create("k-topic", 1, {"retention.ms": "86400000"})
    try:
        create("k-topic")
        raise AssertionError("a second topic of the same name")
    except TopicAlreadyExistsError:
        pass
    admin.create_partitions({"k-topic": NewPartitions(4)})
    assert len(admin.describe_topics(["k-topic"])[0]["partitions"]) == 4
    admin.delete_topics(["k-topic"])
    assert "k-topic" not in admin.list_topics()
    cluster = admin.describe_cluster()
    assert len(cluster["brokers"]) == 1, cluster
    assert admin.describe_topic_partitions(["k-None"]), "no partitions described"
    assert admin.describe_log_dirs(), "no log directories described"


def configs():
    create("k-config", 1, {"retention.ms": "86400000"})

    def described():
        return str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "k-config")], config_filter="all"))

    before = described()
    assert "86400000" in before and "cleanup.policy" in before, before
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "k-config", {"max.message.bytes": "123456"})])
    assert "123456" in described(), described()


def delete_records():
    create("k-trim")
    send("k-trim")
    at = TopicPartition("k-trim", 0)
    admin.delete_records({at: 50})
    assert read("k-trim", 0, 50, 150)[0].offset == 50
    c = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None)
    assert c.beginning_offsets([at]) == {at: 50}
    c.close()


for check in [codecs_and_acks, middle_of_a_batch, offsets, topics, configs, delete_records]:
    check()
    print(f"{check.__name__} holds", flush=True)
admin.close()
print("all checks hold")
