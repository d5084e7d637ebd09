"""member.py CLIENT SETTINGS: one member of a consumer group, told by standard input, telling on standard output.

SETTINGS is JSON: bootstrap, topic, group, strategy, and maybe instance (a static member), session_ms, heartbeat_ms.
Standard input: `close` leaves the group in order; the end of the input does the same. Standard output has one JSON object a line:
`event` and `at` (the machine's monotonic clock, seconds), and `partitions` of assigned, revoked and lost, `records`
([partition, first offset, last offset] each) of got, `text` of failed.
A partition is this member's from `assigned` until `revoked`, which is told before the client gives it back."""
import asyncio
import json
import logging
import os
import sys
import threading
import time

CLIENT, SETTINGS = sys.argv[1], json.loads(sys.argv[2])
TOPIC = SETTINGS["topic"]
SESSION_MS = SETTINGS.get("session_ms", 10_000)
HEARTBEAT_MS = SETTINGS.get("heartbeat_ms", 300)
closing = threading.Event()
logging.basicConfig(level=logging.ERROR)


def listen():
    sys.stdin.readline()
    closing.set()


def tell(event, **more):
    sys.stdout.write(json.dumps({"event": event, "at": time.monotonic(), **more}) + "\n")
    sys.stdout.flush()


def give_up(why):
    """Ends the process without leaving the group."""
    tell("failed", text=why)
    os._exit(0)


def numbers(partitions):
    return sorted(p.partition for p in partitions)


def tell_got(messages):
    """Messages of one poll, in the order of each partition."""
    spans = []
    for message in messages:
        partition, offset = message
        if spans and spans[-1][0] == partition and spans[-1][2] + 1 == offset:
            spans[-1][2] = offset
        else:
            spans.append([partition, offset, offset])
    if spans:
        tell("got", records=spans)


def confluent():
    from confluent_kafka import Consumer, KafkaError, KafkaException

    # These end in another poll, in which the group is joined anew.
    passing = {KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID, KafkaError._NO_OFFSET,
               KafkaError._WAIT_COORD, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR,
               KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.REQUEST_TIMED_OUT,
               KafkaError._DESTROY, KafkaError._ASSIGNMENT_LOST, KafkaError._STATE}

    got = []

    def commit():
        # Told first: who is killed between the two has not kept a record to itself.
        tell_got(got)
        got.clear()
        try:
            c.commit(asynchronous=False)
            tell("committed")
        except KafkaException as error:
            if error.args[0].code() == KafkaError.FENCED_INSTANCE_ID or error.args[0].fatal():
                give_up(str(error))
            if error.args[0].code() not in passing:
                raise

    def revoked(_, partitions):
        commit()
        tell("revoked", partitions=numbers(partitions))

    settings = {
        "bootstrap.servers": SETTINGS["bootstrap"], "group.id": SETTINGS["group"], "auto.offset.reset": "earliest",
        "partition.assignment.strategy": SETTINGS["strategy"], "enable.auto.commit": False, "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS, "fetch.wait.max.ms": 100, "log_level": 3, "reconnect.backoff.max.ms": 200,
        "topic.metadata.refresh.interval.ms": 1000, "error_cb": lambda error: error.fatal() and give_up(str(error)),
    }
    if "instance" in SETTINGS:
        settings["group.instance.id"] = SETTINGS["instance"]
    c = Consumer(settings)
    c.subscribe([TOPIC], on_assign=lambda _, partitions: tell("assigned", partitions=numbers(partitions)), on_revoke=revoked,
                on_lost=lambda _, partitions: tell("lost", partitions=numbers(partitions)))
    while not closing.is_set():
        message = c.poll(0.05)
        while message is not None and len(got) < 100:
            if message.error() is None:
                got.append((message.partition(), message.offset()))
            elif message.error().fatal():
                give_up(str(message.error()))
            message = c.poll(0)
        if message is not None and message.error() is None:
            got.append((message.partition(), message.offset()))
        if got:
            commit()
    c.close()
    tell("closed")


def kafka_python():
    from kafka import ConsumerRebalanceListener, KafkaConsumer
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
    from kafka import errors

    strategies = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "sticky": StickyPartitionAssignor,
                  "cooperative-sticky": CooperativeStickyAssignor}

    def commit():
        try:
            c.commit()
            tell("committed")
        except (errors.CommitFailedError, errors.RebalanceInProgressError, errors.KafkaTimeoutError, errors.KafkaConnectionError):
            pass
        except errors.FencedInstanceIdError as error:
            give_up(f"fenced: {error}")

    class Listener(ConsumerRebalanceListener):
        # Called within poll, and what the last poll gave is committed already.
        def on_partitions_revoked(self, partitions):
            if partitions:
                tell("revoked", partitions=numbers(partitions))

        def on_partitions_assigned(self, partitions):
            tell("assigned", partitions=numbers(partitions))

        def on_partitions_lost(self, partitions):
            tell("lost", partitions=numbers(partitions))

    c = KafkaConsumer(
        bootstrap_servers=SETTINGS["bootstrap"], group_id=SETTINGS["group"], auto_offset_reset="earliest", enable_auto_commit=False,
        partition_assignment_strategy=[strategies[SETTINGS["strategy"]]], session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS, fetch_max_wait_ms=100, group_instance_id=SETTINGS.get("instance"), retry_backoff_ms=50,
        reconnect_backoff_max_ms=200, metadata_max_age_ms=1000)
    c.subscribe([TOPIC], listener=Listener())
    while not closing.is_set():
        try:
            # kafka-python (3.0.12) forgets to take up an assignment that comes between two polls, so a poll is long.
            got = [(m.partition, m.offset) for some in c.poll(1000, 100).values() for m in some]
        except errors.FencedInstanceIdError as error:
            give_up(f"fenced: {error}")
        tell_got(got)
        if got:
            commit()
    c.close()
    tell("closed")


async def aio():
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
    from aiokafka import errors
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

    strategies = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor, "sticky": StickyPartitionAssignor}

    async def commit():
        try:
            await c.commit()
            tell("committed")
        except (errors.CommitFailedError, errors.IllegalStateError, errors.KafkaConnectionError, errors.RequestTimedOutError):
            pass

    class Listener(ConsumerRebalanceListener):
        async def on_partitions_revoked(self, partitions):
            if partitions:
                await commit()
                tell("revoked", partitions=numbers(partitions))

        async def on_partitions_assigned(self, partitions):
            tell("assigned", partitions=numbers(partitions))

    c = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=SETTINGS["bootstrap"], group_id=SETTINGS["group"], auto_offset_reset="earliest",
        enable_auto_commit=False, partition_assignment_strategy=[strategies[SETTINGS["strategy"]]], session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS, fetch_max_wait_ms=100, group_instance_id=SETTINGS.get("instance"), retry_backoff_ms=50,
        metadata_max_age_ms=1000)
    c.subscribe([TOPIC], listener=Listener())
    await c.start()
    while not closing.is_set():
        try:
            polled = await c.getmany(timeout_ms=50, max_records=100)
        except errors.KafkaError as error:
            give_up(repr(error))
        got = [(m.partition, m.offset) for some in polled.values() for m in some]
        tell_got(got)
        if got:
            await commit()
    await c.stop()
    tell("closed")


threading.Thread(target=listen, daemon=True).start()
if CLIENT == "aiokafka":
    asyncio.run(aio())
else:
    {"confluent": confluent, "kafka-python": kafka_python}[CLIENT]()
