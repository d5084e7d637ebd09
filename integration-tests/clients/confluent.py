"""confluent-kafka (librdkafka) against the broker at argv[1]: produce in every codec and acks, read by assignment, administer."""
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, OFFSET_BEGINNING
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType)

BOOTSTRAP = sys.argv[1]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 3
RECORDS = 1000

admin = AdminClient({"bootstrap.servers": BOOTSTRAP})


def create(name, partitions=PARTITIONS, config=None):
    admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(20)


def producer(**settings):
    return Producer({"bootstrap.servers": BOOTSTRAP, **{k.replace("_", "."): v for k, v in settings.items()}})


def record(i):
    key = None if i % 7 == 0 else b"key-%d" % i
    value = None if i % 11 == 0 else b"" if i % 13 == 0 else b"value %d " % i * (1 + i % 50)
    headers = [("n", b"%d" % i), ("empty", b""), ("none", None)] if i % 5 == 0 else None
    return key, value, headers


def send(topic, records=RECORDS, **settings):
    failed = []
    p = producer(linger_ms=20, **settings)
    for i in range(records):
        key, value, headers = record(i)
        p.produce(topic, value, key, partition=i % PARTITIONS, headers=headers, timestamp=1_700_000_000_000 + i,
                  on_delivery=lambda error, message: failed.append(error) if error else None)
        p.poll(0)
    assert p.flush(60) == 0, "not all delivered"
    assert not failed, failed[:3]


def consumer(**settings):
    return Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error",
                     "check.crcs": True, **{k.replace("_", "."): v for k, v in settings.items()}})


def read(topic, partition, offset, count):
    c = consumer()
    c.assign([TopicPartition(topic, partition, offset)])
    got, deadline = [], time.monotonic() + 30
    while len(got) < count and time.monotonic() < deadline:
        for message in c.consume(count - len(got), 0.5):
            assert not message.error(), message.error()
            got.append(message)
    c.close()
    assert len(got) >= count, f"{topic}-{partition}: {len(got)} records of {count}"
    return got[:count]


def expect(topic, records=RECORDS):
    for partition in range(PARTITIONS):
        wanted = list(range(partition, records, PARTITIONS))
        for offset, (i, message) in enumerate(zip(wanted, read(topic, partition, OFFSET_BEGINNING, len(wanted)))):
            key, value, headers = record(i)
            assert message.offset() == offset, (topic, partition, message.offset(), offset)
            assert (message.key(), message.value()) == (key, value), (topic, i)
            assert message.headers() == headers, (topic, i, message.headers())
            assert message.timestamp()[1] == 1_700_000_000_000 + i, (topic, i, message.timestamp())


def codecs_and_acks():
    for codec in CODECS:
        create(f"c-{codec}")
        send(f"c-{codec}", compression_type=codec, acks="all")
        expect(f"c-{codec}")
    for acks in ["0", "1", "all"]:
        create(f"c-acks-{acks}")
        send(f"c-acks-{acks}", acks=acks)
        expect(f"c-acks-{acks}")
    create("c-idempotent")
    send("c-idempotent", enable_idempotence=True, compression_type="lz4")
    expect("c-idempotent")


def middle_of_a_batch():
    message = read("c-zstd", 1, 200, 1)[0]
    assert message.offset() == 200 and message.value() == record(200 * PARTITIONS + 1)[1], message.offset()


def offsets():
    c = consumer()
    assert c.get_watermark_offsets(TopicPartition("c-none", 0)) == (0, 334)
    found = c.offsets_for_times([TopicPartition("c-none", 0, 1_700_000_000_000 + 301), TopicPartition("c-none", 1, 2_000_000_000_000)], 10)
    assert [t.offset for t in found] == [101, -1], found
    c.close()
    partition = TopicPartition("c-none", 0)
    for spec, offset in [(OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 334), (OffsetSpec.max_timestamp(), 333),
                         (OffsetSpec.for_timestamp(1_700_000_000_000), 0)]:
        assert admin.list_offsets({partition: spec})[partition].result(20).offset == offset, (spec, offset)


def offset_out_of_range():
    c = consumer()
    c.assign([TopicPartition("c-none", 0, 10_000)])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        message = c.poll(0.5)
        if message is not None and message.error():
            assert message.error().name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"), message.error()
            c.close()
            return
    raise AssertionError("no error for an offset out of range")


def topics():
    create("c-topic", 1, {"retention.ms": "86400000"})
    try:
        create("c-topic")
        raise AssertionError("a second topic of the same name")
    except KafkaException as error:
        assert error.args[0].name() == "TOPIC_ALREADY_EXISTS", error
    admin.create_partitions([NewPartitions("c-topic", 4)])["c-topic"].result(20)
    assert len(admin.list_topics("c-topic", 10).topics["c-topic"].partitions) == 4
    cluster = admin.describe_cluster().result(20)
    assert len(cluster.nodes) == 1 and cluster.controller is not None, cluster
    admin.delete_topics(["c-topic"])["c-topic"].result(20)
    assert "c-topic" not in admin.list_topics(timeout=10).topics


def configs():
    create("c-config", 1, {"retention.ms": "86400000"})
    resource = ConfigResource(ResourceType.TOPIC, "c-config")

    def described():
        return admin.describe_configs([ConfigResource(ResourceType.TOPIC, "c-config")])[resource].result(20)

    assert described()["retention.ms"].value == "86400000"
    assert described()["cleanup.policy"].value == "delete" and described()["cleanup.policy"].is_default
    change = ConfigResource(ResourceType.TOPIC, "c-config", incremental_configs=[
        ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)])
    admin.incremental_alter_configs([change])[change].result(20)
    assert described()["max.message.bytes"].value == "1000" and described()["retention.ms"].value == "604800000"
    errors = []
    p = producer()
    p.produce("c-config", b"x" * 2000, on_delivery=lambda error, _: errors.append(error))
    p.flush(20)
    assert errors and errors[0] is not None and errors[0].name() == "MSG_SIZE_TOO_LARGE", errors
    broker = ConfigResource(ResourceType.BROKER, str(next(iter(admin.describe_cluster().result(20).nodes)).id))
    entries = admin.describe_configs([broker])[broker].result(20)
    assert entries["log.segment.bytes"].value == "1073741824" and "listeners" in entries


def delete_records():
    create("c-trim", 3)
    send("c-trim")
    deleted = admin.delete_records([TopicPartition("c-trim", 0, 100)])
    assert next(iter(deleted.values())).result(20).low_watermark == 100
    assert read("c-trim", 0, OFFSET_BEGINNING, 234)[0].offset() == 100


def unknown_topic():
    errors = []
    p = producer(message_timeout_ms=5000, allow_auto_create_topics=False)
    p.produce("bad/name", b"x", on_delivery=lambda error, _: errors.append(error))
    p.flush(20)
    assert errors and errors[0] is not None, "a record for a topic that cannot exist was delivered"


def auto_creation():
    p = producer()
    errors = []
    p.produce("c-by-itself", b"x", on_delivery=lambda error, _: errors.append(error))
    p.flush(30)
    assert errors == [None], errors
    assert read("c-by-itself", 0, OFFSET_BEGINNING, 1)[0].value() == b"x"


for check in [codecs_and_acks, middle_of_a_batch, offsets, offset_out_of_range, topics, configs, delete_records, unknown_topic,
              auto_creation]:
    check()
    print(f"{check.__name__} holds", flush=True)
print("all checks hold")
