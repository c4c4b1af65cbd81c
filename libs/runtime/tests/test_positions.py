"""What is said and done when what was to be read is gone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from millrace.contracts.data import VersionPublished
from millrace.runtime.consume import Listener
from millrace.runtime.database import Transactions
from millrace.runtime.subscriptions import Record, on
from millrace.runtime.telemetry import EVENTS_EXPIRED, OFFSETS_OUT_OF_RANGE, TOPIC_MISSING
from millrace.runtime.testing import create_topics, publish, until
from runtime_effects import Effects, consuming, count_is, effects, is_assigned, version

pytestmark = pytest.mark.usefixtures("versions_topic")


async def note(event: VersionPublished, tx: Effects) -> None:
    tx.add(f"{event.dataset}/{event.partition}")


@asynccontextmanager
async def administration(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def exists(admin: AIOKafkaAdminClient) -> bool:
    return "data.versions" in await admin.list_topics()


async def test_events_that_expired_before_they_were_read_are_counted_and_the_rest_is_read(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    row = on(VersionPublished, note, start="now")
    async with consuming(service_name, broker, begin, tmp_path, row) as consumer:
        await until(is_assigned(consumer))
        await publish(broker.servers, [version(service_name, "read")])
        await until(count_is(begin, service_name, 1))
    await publish(broker.servers, [version(service_name, f"{n}") for n in range(10)])
    async with administration(broker.servers) as admin:
        everything = {TopicPartition("data.versions", n): RecordsToDelete(-1) for n in range(2)}
        await admin.delete_records(everything)
    await publish(broker.servers, [version(service_name, "left")])

    async with consuming(service_name, broker, begin, tmp_path, row):
        await until(count_is(begin, service_name, 2))

    assert await effects(begin, service_name) == [f"{service_name}/read", f"{service_name}/left"]
    assert OFFSETS_OUT_OF_RANGE.labels(service_name, "data.versions")._value.get() >= 1
    assert EVENTS_EXPIRED.labels(service_name, "data.versions")._value.get() >= 10


async def test_a_topic_that_was_deleted_is_reported_made_again_and_read_from_its_beginning(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    row = on(VersionPublished, note, start="now")
    async with consuming(service_name, broker, begin, tmp_path, row) as consumer:

        async def missing() -> bool:
            return bool(TOPIC_MISSING.labels(service_name, "data.versions")._value.get())

        await until(is_assigned(consumer))
        async with administration(broker.servers) as admin:
            await admin.delete_topics(["data.versions"])
            await until(missing, seconds=60)
            await until(lambda: exists(admin))
        await publish(broker.servers, [version(service_name, f"{n}") for n in range(3)])
        await until(count_is(begin, service_name, 3))

    assert await effects(begin, service_name) == [f"{service_name}/{n}" for n in range(3)]


async def test_what_comes_once_a_service_leaves_is_for_whoever_reads_on(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    row = on(VersionPublished, note, start="now")
    async with consuming(service_name, broker, begin, tmp_path, row) as leaving:

        async def gone() -> bool:
            return not leaving.progress.assigned

        await until(is_assigned(leaving))
        getmany, asking = leaving._consumer.getmany, asyncio.Event()

        async def stopped_as_it_comes(**asked: Any) -> Any:
            asking.set()
            if found := await getmany(**asked):
                leaving.stop()
            return found

        leaving._consumer.getmany = stopped_as_it_comes
        await asyncio.wait_for(asking.wait(), 10)
        await publish(broker.servers, [version(service_name, "late")])
        await until(gone)
    assert await effects(begin, service_name) == []

    async with consuming(service_name, broker, begin, tmp_path, row):
        await until(count_is(begin, service_name, 1))


async def test_what_a_service_cannot_take_for_now_waits_in_kafka(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    full = [False]
    row = replace(on(VersionPublished, note, start="now"), full=lambda: full[0])
    async with consuming(service_name, broker, begin, tmp_path, row) as consumer:
        await until(is_assigned(consumer))
        await publish(broker.servers, [version(service_name, "before")])
        await until(count_is(begin, service_name, 1))
        full[0], rounds = True, consumer.progress.rounds

        async def looked_twice_more() -> bool:
            return consumer.progress.rounds >= rounds + 3

        await until(looked_twice_more)
        await publish(broker.servers, [version(service_name, f"{n}") for n in range(5)])
        rounds = consumer.progress.rounds
        await until(looked_twice_more)
        assert await effects(begin, service_name) == [f"{service_name}/before"]
        full[0] = False
        await until(count_is(begin, service_name, 6))

    assert await effects(begin, service_name) == [f"{service_name}/{n}" for n in ("before", *range(5))]


async def test_what_comes_in_partitions_that_are_added_later_is_read_from_their_start(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    topic = f"{service_name}.grown"

    async def keep(records: Sequence[Record], tx: Effects) -> None:
        for record in records:
            tx.add(f"{service_name}/{record.value.decode()}")

    async def told(partition: int, text: str) -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.servers) as producer:
            await producer.send_and_wait(topic, text.encode(), partition=partition)

    async with administration(broker.servers) as admin:

        async def grown() -> bool:
            return len((await admin.describe_topics([topic]))[0]["partitions"]) == 2

        await create_topics(broker.servers, {topic: 1})
        await told(0, "before")
        listener = Listener(lambda: [topic], keep, "now")
        async with consuming(service_name, broker, begin, tmp_path, listener=listener) as consumer:

            async def assigned() -> bool:
                return consumer.progress.assigned and consumer._consumer.assignment()

            await until(assigned)
            await told(0, "first")
            await until(count_is(begin, service_name, 1))
            await admin.create_partitions({topic: NewPartitions(2)})
            await until(grown)
            await told(1, "before it was seen")
            await consumer._consumer.refresh()
            await until(count_is(begin, service_name, 2))

    assert await effects(begin, service_name) == [f"{service_name}/first", f"{service_name}/before it was seen"]
