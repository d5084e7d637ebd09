"""exchange.py write|read CLIENT CODEC|all BOOTSTRAP: one client writes a topic of its own per codec, another reads them all."""
import asyncio
import sys
import time

MODE, CLIENT, CODEC, BOOTSTRAP = sys.argv[1:]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
WRITERS = ["confluent", "kafka-python", "aiokafka"]
RECORDS = 300


def record(i):
    key = b"key-%d" % i if i % 3 else None
    value = None if i % 10 == 1 and key else b"" if i % 10 == 2 else "Grüße %d ".encode() % i * (i % 40)
    return key, value, [("n", b"%d" % i)] if i % 4 == 0 else []


def topic(writer, codec):
    return f"x-{writer}-{codec}"


def write_confluent(name):
    from confluent_kafka import Producer
    p = Producer({"bootstrap.servers": BOOTSTRAP, "compression.type": CODEC, "linger.ms": 50})
    for i in range(RECORDS):
        key, value, headers = record(i)
        p.produce(name, value, key, 0, headers=headers)
    assert p.flush(30) == 0


def write_kafka_python(name):
    from kafka import KafkaProducer
    p = KafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=None if CODEC == "none" else CODEC, linger_ms=50)
    sent = []
    for i in range(RECORDS):
        key, value, headers = record(i)
        sent.append(p.send(name, value, key, headers, 0))
    p.flush(30)
    for future in sent:
        future.get(30)
    p.close()


async def write_aiokafka(name):
    from aiokafka import AIOKafkaProducer
    p = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=None if CODEC == "none" else CODEC, linger_ms=50)
    await p.start()
    sent = []
    for i in range(RECORDS):
        key, value, headers = record(i)
        sent.append(await p.send(name, value, key, 0, headers=headers))
    for future in sent:
        await future
    await p.stop()


def read_confluent(name):
    from confluent_kafka import Consumer, TopicPartition
    c = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True})
    c.assign([TopicPartition(name, 0, 0)])
    got, deadline = [], time.monotonic() + 30
    while len(got) < RECORDS and time.monotonic() < deadline:
        got += [(m.key(), m.value(), m.headers() or []) for m in c.consume(RECORDS - len(got), 0.5)]
    c.close()
    return got


def read_kafka_python(name):
    from kafka import KafkaConsumer, TopicPartition
    c = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, enable_auto_commit=False)
    at = TopicPartition(name, 0)
    c.assign([at])
    c.seek(at, 0)
    got, deadline = [], time.monotonic() + 30
    while len(got) < RECORDS and time.monotonic() < deadline:
        got += [(m.key, m.value, list(m.headers)) for m in c.poll(500, 500).get(at, [])]
    c.close()
    return got


async def read_aiokafka(name):
    from aiokafka import AIOKafkaConsumer, TopicPartition
    c = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, enable_auto_commit=False)
    await c.start()
    at = TopicPartition(name, 0)
    c.assign([at])
    c.seek(at, 0)
    got, deadline = [], time.monotonic() + 30
    while len(got) < RECORDS and time.monotonic() < deadline:
        got += [(m.key, m.value, list(m.headers)) for m in (await c.getmany(at, timeout_ms=500)).get(at, [])]
    await c.stop()
    return got


if MODE == "write":
    name = topic(CLIENT, CODEC)
    if CLIENT == "aiokafka":
        asyncio.run(write_aiokafka(name))
    else:
        {"confluent": write_confluent, "kafka-python": write_kafka_python}[CLIENT](name)
else:
    equal = 0
    for writer in WRITERS:
        for codec in CODECS:
            name = topic(writer, codec)
            if CLIENT == "aiokafka":
                got = asyncio.run(read_aiokafka(name))
            else:
                got = {"confluent": read_confluent, "kafka-python": read_kafka_python}[CLIENT](name)
            wanted = [record(i) for i in range(RECORDS)]
            assert len(got) == len(wanted), f"{name}: {len(got)} records of {len(wanted)}"
            for i, (g, w) in enumerate(zip(got, wanted)):
                assert g == w, (name, i, g, w)
            equal += 1
    print(f"{equal} topics equal")
