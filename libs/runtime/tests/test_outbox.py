"""What leaves a database: all of it, in order per key, with effect once."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import DefaultPartitioner
from millrace.contracts.event import Event, all_events
from millrace.contracts.feature import ViewApplied
from millrace.contracts.tasks import TaskReport, TaskStarted
from millrace.runtime import outbox, sending
from millrace.runtime.database import Database, Transactions
from millrace.runtime.ids import Ids
from millrace.runtime.outbox import LOCK, POLL_S, Relay
from millrace.runtime.subscriptions import on
from millrace.runtime.tasks.attempts import about, failed
from millrace.runtime.testing import create_topics, publish, until
from millrace.runtime.transaction import _is_task_topic
from runtime_effects import ORDER, Effects, consuming, count_is, effects, settings_of, version

TESTS = Path(__file__).parent
END_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND (classid::bigint << 32 | objid::bigint) = $1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
PARTITIONS = 2  # as the catalogue has it: the tests of a session share one broker


async def records(servers: str, topic: str, key_prefix: str = "") -> list[Any]:
    """Return all records of a topic whose key begins so, in order per partition."""
    async with AIOKafkaConsumer(
        bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    ) as reader:
        places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        reader.assign(places)
        ends = await reader.end_offsets(places)
        found = []
        for place in places:
            while await reader.position(place) < ends[place]:
                for some in (await reader.getmany(place, timeout_ms=500)).values():
                    found += some
    return [record for record in found if (record.key or b"").startswith(key_prefix.encode())]


async def test_three_relays_and_twelve_writers_lose_nothing_and_keep_each_keys_order(
    service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"feature.views": PARTITIONS})
    settings = settings_of(dsn, broker.servers, tmp_path)

    async def write(writer: int) -> None:
        for n in range(25):
            async with begin() as tx:
                for key in (f"{service_name}-{(writer + n) % 5}", f"{service_name}-{writer}-own"):
                    tx.emit(ViewApplied(namespace="demo", view=key, view_hash=f"{writer}/{n}"))

    async def empty() -> bool:
        async with begin() as tx:
            return not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

    async with Database(dsn) as second, Database(dsn) as third:
        relays = [Relay(database, settings, service_name) for database in (begin.database, second, third)]
        running = [asyncio.create_task(relay.run()) for relay in relays]
        await asyncio.gather(*(write(writer) for writer in range(12)))
        await until(empty)
        for relay in relays:
            relay.stop()
        await asyncio.wait_for(asyncio.gather(*running), 20)

    sequences = defaultdict(list)
    for record in await records(broker.servers, "feature.views", service_name):
        sequences[record.key].append(int(dict(record.headers)["ce_sequence"]))
    assert sum(map(len, sequences.values())) == 12 * 25 * 2
    for numbers in sequences.values():
        assert numbers == list(range(1, len(numbers) + 1))


async def test_reports_of_attempts_that_were_ordered_together_lie_in_one_partition_however_they_leave(
    service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    topic = f"{service_name}.tasks"
    await create_topics(broker.servers, {topic: PARTITIONS})
    ids = Ids()
    ordered = [[ids.make(1_700_000_000 + 100 * moment) for _ in range(4)] for moment in range(16)]
    relay = Relay(begin.database, settings_of(dsn, broker.servers, tmp_path), service_name)

    async def report(moments: Sequence[Sequence[UUID]]) -> None:
        for tokens in zip(*moments, strict=True):
            async with begin() as tx:
                for token in tokens:
                    task = ORDER.model_copy(update={"task_id": tx.new_id(), "token": token})
                    tx.emit(TaskStarted(**about(service_name, task)))
                    tx.emit(failed(service_name, task, "Denied", "", retryable=False))

    async def empty() -> bool:
        async with begin() as tx:
            return not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

    await report(ordered[:8])  # the relay, which is not there yet, reads these
    running = asyncio.create_task(relay.run())
    await until(empty)
    await report(ordered[8:])  # and these it is given
    await until(empty)
    relay.stop()
    await asyncio.wait_for(running, 20)

    places, told = defaultdict(set), defaultdict(list)
    for record in await records(broker.servers, topic):
        places[json.loads(record.value)["token"][:13]].add(record.partition)
        told[record.key].append(dict(record.headers)["ce_type"].rpartition(b".")[2])
    assert [len(some) for some in places.values()] == [1] * 16
    assert set.union(*places.values()) == set(range(PARTITIONS))
    assert [*told.values()] == [[b"TaskStarted", b"TaskFailed"]] * 64


async def test_what_a_former_version_has_committed_goes_by_its_key(
    service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    topic, keys = f"{service_name}.tasks", [str(uuid4()) for _ in range(20)]
    await create_topics(broker.servers, {topic: PARTITIONS})
    async with begin.database.connection() as connection:
        await connection.executemany(
            "INSERT INTO outbox (topic, key, headers, value) VALUES ($1, $2, '{}', '{}')",
            [(topic, key) for key in keys],
        )
    relay = Relay(begin.database, settings_of(dsn, broker.servers, tmp_path), service_name)
    running = asyncio.create_task(relay.run())

    async def sent() -> list[Any]:
        found = await records(broker.servers, topic)
        return found if len(found) == len(keys) else []

    found = await until(sent)
    relay.stop()
    await asyncio.wait_for(running, 20)

    places, by_key = range(PARTITIONS), DefaultPartitioner()
    assert {r.key.decode(): r.partition for r in found} == {key: by_key(key.encode(), places, places) for key in keys}


def test_only_what_nothing_counts_on_the_order_of_is_sent_elsewhere_than_its_key_leads_to() -> None:
    elsewhere = {cls for cls in all_events().values() if cls.partition_key is not Event.partition_key}

    assert {cls.__mro__[1] for cls in elsewhere} == {TaskReport}
    assert all(_is_task_topic(cls.topic) for cls in elsewhere)


async def test_what_a_process_without_the_lock_commits_is_sent_without_waiting_for_the_next_look(
    service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"feature.views": PARTITIONS})
    settings = settings_of(dsn, broker.servers, tmp_path)

    async def empty() -> bool:
        async with begin() as tx:
            return not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

    async with Database(dsn) as first, Database(dsn) as second:
        relays = [Relay(database, settings, service_name) for database in (first, second)]
        running = []
        for relay in relays:
            running.append(asyncio.create_task(relay.run()))
            async with Transactions(first, Effects)() as tx:
                tx.emit(ViewApplied(namespace="demo", view=f"{service_name}-first", view_hash="h"))
            await until(empty)
        began = time.monotonic()
        for n in range(10):
            async with Transactions(second, Effects)() as tx:
                tx.emit(ViewApplied(namespace="demo", view=service_name, view_hash=str(n)))
            await until(empty)
        took_s = time.monotonic() - began
        for relay in relays:
            relay.stop()
        await asyncio.wait_for(asyncio.gather(*running), 20)

    assert took_s < 10 * POLL_S / 2
    assert len(await records(broker.servers, "feature.views", service_name)) == 12


async def test_what_a_process_without_a_relay_has_committed_is_sent_at_once_when_told_and_soon_when_it_died_before(
    service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"feature.views": PARTITIONS})
    relay = Relay(begin.database, settings_of(dsn, broker.servers, tmp_path), service_name)
    running = asyncio.create_task(relay.run())

    async def sent_after() -> float:
        began = time.monotonic()
        await until(empty)
        return time.monotonic() - began

    async def empty() -> bool:
        async with begin() as tx:
            return not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

    async with Database(dsn) as child:

        async def commit() -> None:
            async with Transactions(child, Effects)() as tx:
                tx.emit(ViewApplied(namespace="demo", view=service_name, view_hash="h"))

        await commit()
        await sent_after()
        told_s = []
        for _ in range(5):
            await commit()
            await child.announce()
            told_s.append(await sent_after())
        await commit()
        found_s = await sent_after()
    relay.stop()
    await asyncio.wait_for(running, 20)

    assert sum(told_s) < 2 * POLL_S
    assert found_s < 2 * POLL_S


async def test_what_a_process_announces_is_heard_by_every_process_whichever_relays(
    service_name: str, broker: Any, dsn: str, tmp_path: Path
) -> None:
    settings = settings_of(dsn, broker.servers, tmp_path)
    async with Database(dsn) as first, Database(dsn) as second:
        heard = [asyncio.Event(), asyncio.Event()]
        relays = []
        for database, told in zip((first, second), heard, strict=True):
            database.listeners["news"] = told.set
            relays.append(Relay(database, settings, service_name))
        running = [asyncio.create_task(relay.run()) for relay in relays]

        async def all_heard() -> bool:
            await first.announce("news")  # until both listen
            return all(told.is_set() for told in heard)

        await until(all_heard)
        for relay in relays:
            relay.stop()
        await asyncio.wait_for(asyncio.gather(*running), 20)


async def test_nothing_that_is_committed_here_is_sent_once_another_process_has_the_lock(
    service_name: str, broker: Any, dsn: str, tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"feature.views": PARTITIONS})

    async def sent() -> list[int]:
        """The numbers of what was sent, in order; what was not deleted before the session ended is sent twice."""
        found = await records(broker.servers, "feature.views", service_name)
        return list(dict.fromkeys(int(dict(record.headers)["ce_sequence"]) for record in found))

    async def as_many(count: int) -> bool:
        return len(await sent()) == count

    async with Database(dsn) as database, Database(dsn) as other:
        begin = Transactions(database, Effects)

        async def emit() -> None:
            async with begin() as tx:
                tx.emit(ViewApplied(namespace="demo", view=service_name, view_hash="h"))

        relay = Relay(database, settings_of(dsn, broker.servers, tmp_path), service_name)
        running = asyncio.create_task(relay.run())
        for _ in range(20):
            await emit()
        await until(lambda: as_many(20))

        async def knows() -> bool:
            return not database.handover._open

        # Its session ends, and another has the lock before it can have it again.
        async with other.connection() as connection:
            await connection.fetch(END_HOLDER, LOCK)
            await until(lambda: connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))
            # The lock is free a moment before the end of its session is known here.
            await until(knows)
            await emit()
            left = await connection.fetchval("SELECT count(*) FROM outbox WHERE headers->>'ce_sequence' = '21'")
            unsent = len(await sent())
            await connection.fetchval("SELECT pg_advisory_unlock($1)", LOCK)
        await until(lambda: as_many(21))
        relay.stop()
        await asyncio.wait_for(running, 20)

    assert (left, unsent) == (1, 20)
    assert await sent() == list(range(1, 22))


def start(group: str, dsn: str, servers: str, folder: Path, failpoint: str = "") -> subprocess.Popen[bytes]:
    """Start a process that reacts to versions, with its relay; it dies at the place named."""
    folders = os.pathsep.join(str(path) for path in (TESTS, *sys.path) if path)
    return subprocess.Popen(
        [sys.executable, str(TESTS / "effect_process.py"), group, dsn, servers, str(folder), "0"],
        env=os.environ | {"MILLRACE_FAILPOINTS": f"{failpoint}=kill" if failpoint else "", "PYTHONPATH": folders},
    )


@pytest.mark.parametrize("place", ["outbox.after_send", "consume.after_commit"])
async def test_a_process_killed_between_an_effect_and_its_mark_has_each_effect_once(
    place: str, service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"feature.views": PARTITIONS, "data.versions": PARTITIONS})
    events = [version(service_name, f"{n:02}") for n in range(10)]
    await publish(broker.servers, events)
    before = await sent_again(broker.servers)

    killed = start(service_name, dsn, broker.servers, tmp_path, place)
    assert await asyncio.to_thread(killed.wait, 60) == -9

    process = start(service_name, dsn, broker.servers, tmp_path)
    try:

        async def all_told() -> bool:
            async with begin() as tx:
                done = len([name for name in await tx.names() if name.startswith(service_name)]) >= len(events)
                return done and not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

        await until(all_told)
    finally:
        process.kill()
        process.wait(10)

    async with begin() as tx:
        assert [n for n in await tx.names() if n.startswith(service_name)] == [
            f"{service_name}/{n:02}" for n in range(10)
        ]
    told = await records(broker.servers, "feature.views", service_name)
    assert len({dict(record.headers)["ce_id"] for record in told}) == len(events)
    # The page that it had sent may hold what it made of other tests' versions.
    assert (await sent_again(broker.servers) > before) == (place == "outbox.after_send")

    await _heard_once(service_name, broker, begin, tmp_path)


async def sent_again(servers: str) -> int:
    """Return how many records of the views' topic are there a second time."""
    told = await records(servers, "feature.views", "")
    return len(told) - len({dict(record.headers)["ce_id"] for record in told})


async def _heard_once(service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path) -> None:
    async def hear(event: ViewApplied, tx: Effects) -> None:
        tx.add(f"heard {event.view}/{event.view_hash}")

    row = on(ViewApplied, hear, start="earliest")
    async with consuming(f"{service_name}-listener", broker, begin, tmp_path, row):
        await until(count_is(begin, f"heard {service_name}", 10))
    heard = await effects(begin, f"heard {service_name}")
    assert heard == [f"heard {service_name}/{n:02}" for n in range(10)]


async def test_a_frozen_relay_loses_its_lock_and_another_goes_on(
    service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"feature.views": PARTITIONS, "data.versions": PARTITIONS})
    process = start(service_name, dsn, broker.servers, tmp_path)

    async def locked() -> Any:
        async with begin() as tx:
            return await tx.fetch(
                "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database "
                "WHERE locktype = 'advisory' AND granted AND datname = current_database()"
            )

    async def empty() -> bool:
        async with begin() as tx:
            return not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

    second = Relay(begin.database, settings_of(dsn, broker.servers, tmp_path), service_name)
    try:
        await until(locked)
        psutil.Process(process.pid).suspend()
        async with begin() as tx:
            tx.emit(ViewApplied(namespace="demo", view=service_name, view_hash="h"))
        running = asyncio.create_task(second.run())
        await until(empty)
        second.stop()
        await asyncio.wait_for(running, 20)
    finally:
        process.kill()
        process.wait(10)

    assert len(await records(broker.servers, "feature.views", service_name)) == 1


async def test_a_relay_whose_broker_is_frozen_for_a_while_keeps_its_session_and_sends_each_event_once(
    service_name: str, lone_broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(outbox, "IDLE", "2s")
    monkeypatch.setattr(sending, "KEEP_S", 0.2)
    monkeypatch.setattr(outbox, "POLL_S", 0.5)
    monkeypatch.setattr(sending, "ANSWER_S", 1.0)
    await create_topics(lone_broker.servers, {"feature.views": PARTITIONS})
    relay = Relay(begin.database, settings_of(dsn, lone_broker.servers, tmp_path), service_name)
    # More than a batch of Kafka's client takes, so that there is no room for some of them while the first is sent.
    hashes = ["before", *(f"{n}".ljust(100_000, "x") for n in range(12))]

    async def found() -> list[str]:
        there = await records(lone_broker.servers, "feature.views", service_name)
        return [json.loads(record.value)["view_hash"] for record in there]

    async def all_there() -> bool:
        return len(await found()) >= len(hashes)

    async def one_there() -> bool:
        return len(await found()) == 1

    running = asyncio.create_task(relay.run())
    with structlog.testing.capture_logs() as logs:
        async with begin() as tx:
            tx.emit(ViewApplied(namespace="demo", view=service_name, view_hash=hashes[0]))
        await until(one_there)
        frozen = psutil.Process(lone_broker.pid)
        frozen.suspend()
        try:
            async with begin() as tx:
                for view_hash in hashes[1:]:
                    tx.emit(ViewApplied(namespace="demo", view=service_name, view_hash=view_hash))
            await asyncio.wait([running], timeout=5)
        finally:
            frozen.resume()
        await until(all_there)
        relay.stop()
        await asyncio.wait_for(running, 20)

    assert [said for said in logs if said["event"] == "relay_interrupted"] == []
    assert await found() == hashes


async def test_a_topic_that_was_deleted_is_made_again_by_who_publishes_on_it(
    service_name: str, broker: Any, dsn: str, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"data.versions": PARTITIONS})
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.servers)
    await admin.start()
    await admin.delete_topics(["data.versions"])
    await admin.close()
    relay = Relay(begin.database, settings_of(dsn, broker.servers, tmp_path), "data")
    running = asyncio.create_task(relay.run())
    async with begin() as tx:
        tx.emit(version(service_name))

    async def empty() -> bool:
        async with begin() as tx:
            return not await tx.fetch("SELECT 1 FROM outbox LIMIT 1")

    await until(empty, seconds=60)
    relay.stop()
    await asyncio.wait_for(running, 20)

    assert len(await records(broker.servers, "data.versions", service_name)) == 1
