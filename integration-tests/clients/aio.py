"""aiokafka against the broker at argv[1]: produce in every codec and acks, read by assignment, administer."""
import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

BOOTSTRAP = sys.argv[1]
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
PARTITIONS = 3
RECORDS = 600


def record(i):
    key = None if i % 7 == 0 else b"key-%d" % i
    value = None if i % 11 == 0 and key else b"" if i % 13 == 0 else b"value %d " % i * (1 + i % 50)
    headers = [("n", b"%d" % i), ("empty", b"")] if i % 5 == 0 else []
    return key, value, headers


async def create(admin, name, partitions=PARTITIONS, config=None):
    reply = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config or {})])
    assert all(error[1] == 0 for error in reply.topic_errors), reply


async def send(topic, records=RECORDS, **settings):
    p = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=20, **settings)
    await p.start()
    try:
        sent = []
        for i in range(records):
            key, value, headers = record(i)
            sent.append(await p.send(topic, value, key, partition=i % PARTITIONS, timestamp_ms=1_700_000_000_000 + i, headers=headers))
        await p.flush()
        for i, future in enumerate(sent):
            metadata = await future
            if settings.get("acks") != 0:
                assert (metadata.partition, metadata.offset) == (i % PARTITIONS, i // PARTITIONS), (i, metadata)
    finally:
        await p.stop()


async def read(topic, partition, offset, count):
    c = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, enable_auto_commit=False, auto_offset_reset="none", check_crcs=True)
    await c.start()
    try:
        at = TopicPartition(topic, partition)
        c.assign([at])
        c.seek(at, offset)
        got, deadline = [], time.monotonic() + 30
        while len(got) < count and time.monotonic() < deadline:
            got += (await c.getmany(at, timeout_ms=500, max_records=500)).get(at, [])
        assert len(got) >= count, f"{topic}-{partition}: {len(got)} records of {count}"
        return got[:count]
    finally:
        await c.stop()


async def expect(topic, records=RECORDS):
    for partition in range(PARTITIONS):
        wanted = list(range(partition, records, PARTITIONS))
        for offset, (i, message) in enumerate(zip(wanted, await read(topic, partition, 0, len(wanted)))):
            key, value, headers = record(i)
            assert message.offset == offset, (topic, partition, message.offset, offset)
            assert (message.key, message.value) == (key, value), (topic, i, message)
            assert list(message.headers) == headers, (topic, i, message.headers)
            assert message.timestamp == 1_700_000_000_000 + i, (topic, i, message.timestamp)


async def codecs_and_acks(admin):
    for codec in CODECS:
        await create(admin, f"a-{codec}")
        await send(f"a-{codec}", compression_type=codec, acks="all")
        await expect(f"a-{codec}")
    for acks in [0, 1, "all"]:
        await create(admin, f"a-acks-{acks}")
        await send(f"a-acks-{acks}", acks=acks)
        await expect(f"a-acks-{acks}")
    await create(admin, "a-idempotent")
    await send("a-idempotent", enable_idempotence=True)
    await expect("a-idempotent")


async def middle_of_a_batch(admin):
    message = (await read("a-snappy", 1, 100, 1))[0]
    assert message.offset == 100 and message.value == record(100 * PARTITIONS + 1)[1], message


async def offsets(admin):
    c = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None)
    await c.start()
    try:
        at, other = TopicPartition("a-None", 0), TopicPartition("a-None", 1)
        assert await c.beginning_offsets([at]) == {at: 0} and await c.end_offsets([at]) == {at: 200}
        found = await c.offsets_for_times({at: 1_700_000_000_000 + 301, other: 2_000_000_000_000})
        assert found[at].offset == 101 and found[other] is None, found
    finally:
        await c.stop()


async def topics(admin):
    await create(admin, "a-topic", 1, {"retention.ms": "86400000"})
    reply = await admin.create_topics([NewTopic("a-topic", 1, 1)])
    assert reply.topic_errors[0][1] == 36, reply
    await admin.create_partitions({"a-topic": NewPartitions(4)})
    assert len((await admin.describe_topics(["a-topic"]))[0]["partitions"]) == 4
    await admin.delete_topics(["a-topic"])
    assert "a-topic" not in await admin.list_topics()
    assert len((await admin.describe_cluster())["brokers"]) == 1


async def configs(admin):
    await create(admin, "a-config", 1, {"retention.ms": "87654321"})
    resource = ConfigResource(ConfigResourceType.TOPIC, "a-config")
    described = str(await admin.describe_configs([resource]))
    assert "87654321" in described and "cleanup.policy" in described, described
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "a-config", {"max.message.bytes": "123456"})])
    described = str(await admin.describe_configs([resource]))
    # The old AlterConfigs replaces all of a resource's settings.
    assert "123456" in described and "87654321" not in described, described


async def delete_records(admin):
    await create(admin, "a-trim")
    await send("a-trim")
    deleted = await admin.delete_records({TopicPartition("a-trim", 0): RecordsToDelete(before_offset=50)})
    assert list(deleted.values()) == [50], deleted
    assert (await read("a-trim", 0, 50, 150))[0].offset == 50


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    for check in [codecs_and_acks, middle_of_a_batch, offsets, topics, configs, delete_records]:
        await check(admin)
        print(f"{check.__name__} holds", flush=True)
    await admin.close()
    print("all checks hold")


asyncio.run(main())
