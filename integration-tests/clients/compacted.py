"""Two clients read a compacted topic at argv[1] while it is produced to and cleaned: from its start and from inside gaps."""
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonPartition

BOOTSTRAP = sys.argv[1]
TOPIC = "compacted"
KEYS = 40
DELETED = 10
# Readings of each client that must have met gaps.
READINGS = 6
LIMIT_S = 60
INVALID_RECORD = 87


class Feed(threading.Thread):
    """Produces until told to stop; keeps what was acknowledged, by offset."""

    def __init__(self):
        super().__init__()
        self.producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 2})
        self.acknowledged, self.failed, self.ended = {}, [], threading.Event()

    def send(self, key, value):
        self.producer.produce(TOPIC, value, key, on_delivery=self.delivered)
        self.producer.poll(0)

    def delivered(self, error, message):
        if error:
            self.failed.append(error)
        else:
            self.acknowledged[message.offset()] = (message.key(), message.value())

    def run(self):
        i = 0
        while not self.ended.wait(0.001):
            for _ in range(5):
                self.send(b"key-%d" % (i * i % KEYS), b"value %d " % i * 20)
                i += 1

    def stop(self):
        self.ended.set()
        self.join()
        assert self.producer.flush(30) == 0 and not self.failed, self.failed[:3]

    def last(self, end):
        """Offset of the last acknowledged record of each key below `end`."""
        found = {}
        for offset, (key, _) in sorted(self.acknowledged.copy().items()):
            if offset < end:
                found[key] = offset
        return found


def end_offset():
    c = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused"})
    end = c.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=20)[1]
    c.close()
    return end


def read_confluent(begin, end):
    c = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "unused", "enable.auto.commit": False,
                  "auto.offset.reset": "error", "check.crcs": True})
    c.assign([TopicPartition(TOPIC, 0, begin)])
    got, deadline = [], time.monotonic() + LIMIT_S
    while not got or got[-1][0] < end - 1:
        assert time.monotonic() < deadline, f"confluent hangs after {got[-1:]}, from {begin} to {end}"
        for message in c.consume(500, 0.5):
            assert not message.error(), message.error()
            got.append((message.offset(), message.key(), message.value()))
    c.close()
    return got


def read_kafka_python(begin, end):
    c = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None, enable_auto_commit=False, auto_offset_reset="none", check_crcs=True)
    at = PythonPartition(TOPIC, 0)
    c.assign([at])
    c.seek(at, begin)
    got, deadline = [], time.monotonic() + LIMIT_S
    while not got or got[-1][0] < end - 1:
        assert time.monotonic() < deadline, f"kafka-python hangs after {got[-1:]}, from {begin} to {end}"
        got += [(m.offset, m.key, m.value) for m in c.poll(500, 500).get(at, [])]
    c.close()
    return got


def check(feed, got, begin, end):
    offsets = [offset for offset, _, _ in got]
    assert offsets[0] >= begin and offsets == sorted(set(offsets)), "offsets rise"
    seen = {}
    for offset, key, value in got:
        # A record may be read before its acknowledgement has come.
        assert feed.acknowledged.get(offset, (key, value)) == (key, value), (offset, key, value)
        seen[key] = offset
    for key, offset in feed.last(end).items():
        if offset >= begin:
            assert seen.get(key, -1) >= offset, f"the value of {key} at {offset} is not seen from {begin}: {seen.get(key)}"


def gaps(got):
    """The offsets before, in the middle of and at the end of each gap."""
    found = []
    for (before, _, _), (after, _, _) in zip(got, got[1:]):
        if after > before + 1:
            found += [before + 1, (before + after) // 2, after - 1]
    return found


def read_while_produced(feed):
    for name, read in [("confluent", read_confluent), ("kafka-python", read_kafka_python)]:
        with_gaps, deadline = 0, time.monotonic() + LIMIT_S
        while with_gaps < READINGS:
            assert time.monotonic() < deadline, f"{name}: {with_gaps} readings met gaps"
            end = end_offset()
            if end == 0:
                continue
            got = read(0, end)
            check(feed, got, 0, end)
            inside = gaps(got)
            if not inside:
                continue
            with_gaps += 1
            begin = inside[with_gaps * len(inside) // READINGS - 1]
            end = end_offset()
            check(feed, read(begin, end), begin, end)


def refuse_without_key(feed):
    errors = []
    p = Producer({"bootstrap.servers": BOOTSTRAP})
    p.produce(TOPIC, b"value", on_delivery=lambda error, _: errors.append(error))
    assert p.flush(30) == 0
    assert [error and error.code() for error in errors] == [INVALID_RECORD], errors
    # Its connection goes on.
    p.produce(TOPIC, b"value", b"with", on_delivery=lambda error, _: errors.append(error))
    assert p.flush(30) == 0 and errors[1:] == [None], errors
    assert not feed.failed, feed.failed[:3]


def tombstones_go(feed):
    deleted = {b"key-%d" % (i * i % KEYS) for i in range(DELETED)}
    last = feed.last(end_offset())
    stay = {key: feed.acknowledged[offset] for key, offset in last.items() if key not in deleted}
    for key in deleted:
        feed.send(key, None)
    assert feed.producer.flush(30) == 0
    tombstones = {offset for offset, (key, value) in feed.acknowledged.items() if value is None}
    assert len(tombstones) == len(deleted)
    deadline = time.monotonic() + LIMIT_S
    while True:
        # A cleaning needs something new.
        feed.send(b"tick", b"tock")
        assert feed.producer.flush(30) == 0
        got = read_confluent(0, end_offset())
        left = [record for record in got if record[1] in deleted]
        if not left:
            break
        assert time.monotonic() < deadline, f"still there: {left}"
    assert read_kafka_python(0, got[-1][0] + 1) != []
    found = {key: (key, value) for _, key, value in got}
    assert {key: found.get(key) for key in stay} == stay


admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
settings = {"cleanup.policy": "compact", "delete.retention.ms": "1000", "max.compaction.lag.ms": "500"}
admin.create_topics([NewTopic(TOPIC, 1, 1, config=settings)])[TOPIC].result(20)
feed = Feed()
feed.start()
try:
    refuse_without_key(feed)
    read_while_produced(feed)
    refuse_without_key(feed)
finally:
    feed.stop()
tombstones_go(feed)
print("all checks hold")
