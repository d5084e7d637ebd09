"""cluster_admin.py CLIENT BOOTSTRAP: what an administrator asks about brokers, partitions' places, features and the quorum, of a
cluster that is one process."""
import sys

CLIENT, BOOTSTRAP = sys.argv[1:]
TOPIC = f"places-{CLIENT}"


def confluent():
    from confluent_kafka import ElectionType, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})

    def error_of(future):
        try:
            future.result(20)
            return None
        except KafkaException as error:
            return error.args[0].name()

    def create(name, assignment):
        return error_of(admin.create_topics([NewTopic(name, num_partitions=len(assignment), replica_assignment=assignment)])[name])

    assert create(TOPIC, [[1], [1]]) is None
    assert create(f"{TOPIC}-x", [[1], [2]]) == "INVALID_REPLICA_ASSIGNMENT"
    assert create(f"{TOPIC}-x", [[1], [1, 1]]) == "INVALID_REPLICA_ASSIGNMENT"
    grown = admin.create_partitions([NewPartitions(TOPIC, 3, replica_assignment=[[1]])])
    assert error_of(grown[TOPIC]) is None
    grown = admin.create_partitions([NewPartitions(TOPIC, 4, replica_assignment=[[7]])])
    assert error_of(grown[TOPIC]) == "INVALID_REPLICA_ASSIGNMENT"
    partitions = admin.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions
    assert {n: (p.leader, p.replicas, p.isrs) for n, p in partitions.items()} == {n: (1, [1], [1]) for n in range(3)}, partitions

    asked = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 9)]
    for kind in [ElectionType.PREFERRED, ElectionType.UNCLEAN]:
        elected = admin.elect_leaders(kind, asked).result(20)
        found = {p.partition: error.name() for p, error in elected.items()}
        assert found == {0: "ELECTION_NOT_NEEDED", 9: "UNKNOWN_TOPIC_OR_PART"}, found
    assert admin.elect_leaders(ElectionType.PREFERRED).result(20) == {}

    cluster = admin.describe_cluster(include_authorized_operations=True).result(20)
    assert [n.id for n in cluster.nodes] == [1] and cluster.controller.id == 1 and cluster.cluster_id, cluster


def kafka_python():
    from kafka import KafkaAdminClient, TopicPartition
    from kafka.admin import NewTopic
    from kafka.admin import UpdateFeatureType
    import kafka.errors as errors

    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(TOPIC, replica_assignments={0: [1], 1: [1]})])
    at = TopicPartition(TOPIC, 0)

    features = admin.describe_features()
    ottla = features["ottla.version"]
    assert ottla["supported"] == (1, 1) and ottla["finalized"] == (1, 1), features

    def update(feature, level, kind=UpdateFeatureType.UPGRADE, **options):
        try:
            return admin.update_features({feature: (kind, level)}, **options)
        except errors.KafkaError as error:
            return type(error).__name__

    for options in [{}, {"validate_only": True}]:
        assert "OK" in str(update("ottla.version", 1, **options)), update("ottla.version", 1, **options)
        for refused in [update("ottla.version", 2, **options), update("nonsense", 1, **options),
                        update("ottla.version", 0, UpdateFeatureType.UNSAFE_DOWNGRADE, **options)]:
            assert "OK" not in str(refused) and ("InvalidUpdateVersion" in str(refused) or "nvalid" in str(refused)), refused
    assert admin.describe_features()["ottla.version"]["finalized"] == (1, 1)

    listed = admin.list_config_resources()
    assert TOPIC in listed["topic"] and listed["broker"] == ["1"], listed
    assert list(admin.list_config_resources(["BROKER"])) == ["broker"]
    cluster = admin.describe_cluster()
    assert cluster["cluster_id"] and [b.get("broker_id", b.get("node_id")) for b in cluster["brokers"]] == [1], cluster

    admin.elect_leaders(0, {TOPIC: [0]})
    admin.elect_leaders(0)
    try:
        admin.elect_leaders(1, {TOPIC: [9]})
        raise AssertionError("a leader of a partition that is not there was elected")
    except errors.UnknownTopicOrPartitionError:
        pass

    def move(replicas):
        return admin.alter_partition_reassignments({at: replicas})[at]

    assert move([1]) is None and admin.list_partition_reassignments() == {}
    assert admin.list_partition_reassignments({TOPIC: [0, 1]}) == {}
    assert move([1, 2]) is errors.InvalidReplicationAssignmentError, move([1, 2])
    assert move(None) is errors.NoReassignmentInProgressError, move(None)

    quorum = admin.describe_metadata_quorum()
    shown = quorum["topics"][0]["partitions"][0]
    assert shown["leader_id"] == 1 and [v["replica_id"] for v in shown["current_voters"]] == [1] and not shown["observers"], quorum
    admin.close()


{"confluent": confluent, "kafka-python": kafka_python}[CLIENT]()
print("all checks hold")
