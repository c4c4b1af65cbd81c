import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.jars import HASHES, cache_folder, kafka_jars
from millrace.sdk.stack.kafka import Kafka


async def _make_topic(servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()


async def _send(servers: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def _read_one(servers: str, topic: str) -> bytes | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    try:
        value: bytes | None = (await consumer.getone()).value
        return value
    finally:
        await consumer.stop()


async def test_an_acknowledged_record_survives_kill_9_of_the_broker(broker: Kafka) -> None:
    await _make_topic(broker.servers, "stack.kept")
    await _send(broker.servers, "stack.kept", b"kept")

    broker.kill()
    broker.start()

    assert await _read_one(broker.servers, "stack.kept") == b"kept"


async def test_a_topic_is_not_made_by_writing_to_it(broker: Kafka) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.servers, request_timeout_ms=1000)
    await producer.start()

    with pytest.raises(UnknownTopicOrPartitionError):
        await producer.client._wait_on_metadata("stack.never_made")

    await producer.stop()


@pytest.fixture
def own_jars(tmp_path: Path) -> Iterator[Path]:
    """A copy of the fetched jars that a test may damage."""
    kafka_jars(cache_folder())
    shutil.copytree(cache_folder(), tmp_path / "cache", ignore=shutil.ignore_patterns(".kafka-*"))
    yield tmp_path / "cache"
    shutil.rmtree(tmp_path / "cache")


def test_a_corrupt_jar_is_refused_with_what_to_do(own_jars: Path) -> None:
    jar = kafka_jars(own_jars)[0]
    with jar.open("r+b") as content:
        content.seek(100)
        content.write(b"\0\0\0\0")

    with pytest.raises(CannotStart, match=rf"{jar.name} is corrupt .* delete .* and start again"):
        kafka_jars(own_jars)


def test_jars_of_another_list_are_never_used(own_jars: Path, tmp_path: Path) -> None:
    first, *others = HASHES.read_text().splitlines()
    changed = tmp_path / "hashes"
    changed.write_text("\n".join([f"{'0' * 64}{first[64:]}"]))
    assert others

    with pytest.raises(CannotStart, match="nothing was kept"):
        kafka_jars(own_jars, hashes=changed)
    assert len(list(own_jars.glob("kafka-*"))) == 1
