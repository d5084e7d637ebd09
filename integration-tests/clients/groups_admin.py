"""groups_admin.py CLIENT BOOTSTRAP: groups and offsets through a client's own administration, and commits without a group."""
import asyncio
import sys

CLIENT, BOOTSTRAP = sys.argv[1:]
GROUP, TOPIC, WORD = f"admin-{CLIENT}", f"admin-{CLIENT}", "Grüße 1"


def confluent():
    from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(TOPIC, 2, 1)])[TOPIC].result(20)

    def listed(**filters):
        return {g.group_id: g for g in admin.list_consumer_groups(**filters).result(20).valid}

    def offsets(partitions=None):
        asked = ConsumerGroupTopicPartitions(GROUP, partitions)
        return {p.partition: p.offset for p in admin.list_consumer_group_offsets([asked])[GROUP].result(20).topic_partitions}

    # Without members: any client may commit.
    c = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": GROUP, "enable.auto.commit": False, "log_level": 3})
    p0, p1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
    c.commit(offsets=[TopicPartition(TOPIC, 0, 7, metadata=WORD), TopicPartition(TOPIC, 1, 9)], asynchronous=False)
    found = c.committed([p0, p1], timeout=20)
    assert [(p.offset, p.metadata) for p in found] == [(7, WORD), (9, None)] or found[1].metadata == "", found
    assert listed()[GROUP].state == ConsumerGroupState.EMPTY and GROUP in listed(states={ConsumerGroupState.EMPTY})
    assert GROUP not in listed(states={ConsumerGroupState.STABLE})
    assert offsets() == {0: 7, 1: 9} and offsets([p1]) == {1: 9}

    # With a member.
    c.subscribe([TOPIC])
    while not c.assignment():
        c.poll(0.1)
    described = admin.describe_consumer_groups([GROUP])[GROUP].result(20)
    assert described.state == ConsumerGroupState.STABLE and len(described.members) == 1, described.state
    assert described.partition_assignor == "range", described.partition_assignor
    member = described.members[0]
    assert sorted(p.partition for p in member.assignment.topic_partitions) == [0, 1] and member.host, member.host
    assert member.client_id == "rdkafka", member.client_id
    try:
        admin.delete_consumer_groups([GROUP])[GROUP].result(20)
        raise AssertionError("a group with a member was deleted")
    except KafkaException as error:
        assert error.args[0].name() == "NON_EMPTY_GROUP", error
    changed = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, [TopicPartition(TOPIC, 0, 3)])])[GROUP].result(20)
    assert [p.error.name() for p in changed.topic_partitions] == ["UNKNOWN_MEMBER_ID"], changed.topic_partitions
    c.close()

    changed = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, [TopicPartition(TOPIC, 0, 3)])])[GROUP].result(20)
    assert all(p.error is None for p in changed.topic_partitions), changed
    assert offsets() == {0: 3, 1: 9}, offsets()
    admin.delete_consumer_groups([GROUP])[GROUP].result(20)
    assert GROUP not in listed()
    assert offsets([p0]) in ({0: -1001}, {0: -1}), offsets([p0])
    try:
        admin.delete_consumer_groups([GROUP])[GROUP].result(20)
        raise AssertionError("a group that is gone was deleted")
    except KafkaException as error:
        assert error.args[0].name() == "GROUP_ID_NOT_FOUND", error


def kafka_python():
    from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
    from kafka.admin import NewTopic
    from kafka.structs import OffsetAndMetadata

    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(TOPIC, 2, 1)])
    p0, p1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)

    def offsets():
        return {p.partition: (o.offset, o.metadata) for p, o in admin.list_group_offsets({GROUP: None})[GROUP].items()}

    c = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=GROUP, enable_auto_commit=False)
    c.assign([p0, p1])
    c.commit({p0: OffsetAndMetadata(7, WORD, -1), p1: OffsetAndMetadata(9, "", -1)})
    assert c.committed(p0, metadata=True).metadata == WORD and c.committed(p1) == 9
    assert offsets() == {0: (7, WORD), 1: (9, "")}, offsets()
    assert GROUP in str(admin.list_groups())
    c.close()

    c = KafkaConsumer(TOPIC, bootstrap_servers=BOOTSTRAP, group_id=GROUP, enable_auto_commit=False, client_id="somebody")
    while not c.assignment():
        c.poll(100)
    described = str(admin.describe_groups([GROUP]))
    assert "Stable" in described and "somebody" in described and "range" in described, described
    deleted = str(admin.delete_groups([GROUP]))
    assert "NonEmptyGroup" in deleted, deleted
    c.close()

    altered = admin.alter_group_offsets(GROUP, {p0: OffsetAndMetadata(3, "", -1)})
    assert "Error" not in str(altered).replace("NoError", ""), altered
    assert offsets() == {0: (3, ""), 1: (9, "")}, offsets()
    admin.delete_group_offsets(GROUP, [p1])
    assert offsets() == {0: (3, "")}, offsets()
    admin.delete_groups([GROUP])
    assert GROUP not in str(admin.list_groups())
    admin.close()


async def aio():
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 2, 1)])
    p0, p1 = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
    c = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=GROUP, enable_auto_commit=False)
    await c.start()
    c.assign([p0, p1])
    await c.commit({p0: (7, WORD), p1: 9})
    assert await c.committed(p0) == 7 and await c.committed(p1) == 9
    found = await admin.list_consumer_group_offsets(GROUP)
    assert (found[p0].offset, found[p0].metadata, found[p1].offset) == (7, WORD, 9), found
    assert GROUP in str(await admin.list_consumer_groups())
    await c.stop()

    c = AIOKafkaConsumer(TOPIC, bootstrap_servers=BOOTSTRAP, group_id=GROUP, enable_auto_commit=False, client_id="somebody")
    await c.start()
    while not c.assignment():
        await c.getmany(timeout_ms=100)
    described = str(await admin.describe_consumer_groups([GROUP]))
    assert "Stable" in described and "somebody" in described and "roundrobin" in described, described
    await c.stop()
    described = str(await admin.describe_consumer_groups([GROUP]))
    assert "Empty" in described, described
    assert await admin.find_coordinator(GROUP) == 1
    await admin.close()


if CLIENT == "aiokafka":
    asyncio.run(asyncio.wait_for(aio(), 60))
else:
    {"confluent": confluent, "kafka-python": kafka_python}[CLIENT]()
print("all checks hold")
