"""What a broker may do with records: hand them over again, late, in another order, from the start, or not at all."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from millrace.contracts.catalogue import catalogue
from millrace.runtime.testing import until

LATEST_S = 5.0
LOOK_MS = 100
GROUP_S = 40.0


@asynccontextmanager
async def administration(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open a client for what only an operator does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


class Repeater:
    """Publishes what is published once or twice more, a moment later, until the block ends.

    Attributes:
        repeated: How many records it has published.
    """

    def __init__(self, servers: str, seed: int = 16) -> None:
        self.repeated = 0
        self._random = random.Random(seed)
        self._seen: set[tuple[str, bytes, bytes]] = set()
        self._due: list[tuple[float, Any]] = []
        self._producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=4_000_000)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="latest")

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self._consumer.start()
        self._consumer.assign(places())
        await self._consumer.seek_to_end()
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await self._running
            for _, record in self._due:
                await self._again(record)
        finally:
            await self._consumer.stop()
            await self._producer.stop()

    async def _run(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=LOOK_MS)).values():
                for record in records:
                    self._plan(record)
            now = time.monotonic()
            due, self._due = [r for at, r in self._due if at <= now], [(at, r) for at, r in self._due if at > now]
            for record in due:
                await self._again(record)

    def _plan(self, record: Any) -> None:
        name = name_of(record)
        if name in self._seen:
            return  # it is one of ours
        self._seen.add(name)
        for _ in range(self._random.randint(0, 2)):
            self._due.append((time.monotonic() + self._random.uniform(0, LATEST_S), record))

    async def _again(self, record: Any) -> None:
        self.repeated += 1
        await send(self._producer, record)


async def send(producer: AIOKafkaProducer, record: Any) -> None:
    """Publish a record as it was."""
    await producer.send_and_wait(record.topic, record.value, key=record.key, headers=list(record.headers))


def name_of(record: Any) -> tuple[str, bytes, bytes]:
    """Return what tells an event from all others: its topic, source and id."""
    headers = dict(record.headers)
    return record.topic, headers.get("ce_source") or b"", headers.get("ce_id") or b""


def places(topics: Iterable[str] | None = None) -> list[TopicPartition]:
    """Return the partitions of some topics of the catalogue, or of all."""
    wanted = set(topics) if topics is not None else {topic.name for topic in catalogue()}
    return [TopicPartition(t.name, n) for t in catalogue() if t.name in wanted for n in range(t.partitions)]


async def ends_of(servers: str, wanted: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Return where partitions end now."""
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        consumer.assign(wanted)  # or it learns of one topic at a time
        found: dict[TopicPartition, int] = await consumer.end_offsets(wanted)
        return found


def groups(service: str) -> tuple[str, str]:
    """Return by which groups a service reads: its own topics, and the foreign ones."""
    return service, f"{service}.foreign"


async def noted(servers: str, group: str) -> dict[TopicPartition, int]:
    """Return how far a group has read, by what it noted."""
    async with administration(servers) as admin:
        found = await admin.list_consumer_group_offsets(group)
    return {place: at.offset for place, at in found.items() if at.offset >= 0}


async def move(servers: str, group: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Have a group whose members are down read on from other places."""
    await dismiss(servers, group)
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign(list(offsets))

        async def moved() -> bool:
            try:
                await consumer.commit(dict(offsets))
            except KafkaError:
                await asyncio.sleep(0.5)
                return False
            return True

        await until(moved, seconds=GROUP_S)


async def dismiss(servers: str, group: str) -> None:
    """Have a group's members leave, as an operator does; who is down and static leaves when its session ends."""
    async with administration(servers) as admin:
        coordinator = await admin.find_coordinator(group)
        (answer,) = await admin.describe_consumer_groups([group])
        for member_id, *_ in answer.groups[0][5]:
            await admin._send_request(LeaveGroupRequest(group, member_id), coordinator)


async def rewind(servers: str, group: str) -> int:
    """Have a group read everything again; return how many records it had read."""
    read = await noted(servers, group)
    if not read:
        return 0
    await move(servers, group, dict.fromkeys(read, 0))
    return sum(read.values())


async def shuffle(servers: str, group: str, seed: int = 17) -> int:
    """Have a group that is down read what waits for it in another order, within and across keys; return how much."""
    since = await noted(servers, group)
    if not since:
        return 0
    waiting, ends = await between(servers, since)
    await move(servers, group, ends)
    random.Random(seed).shuffle(waiting)
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", max_request_size=4_000_000) as producer:
        for record in waiting:
            await send(producer, record)
    return len(waiting)


async def between(servers: str, since: Mapping[TopicPartition, int]) -> tuple[list[Any], dict[TopicPartition, int]]:
    """Return the records of some partitions from given offsets on, and where they end."""
    found: list[Any] = []
    async with AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        consumer.assign(list(since))
        for place, offset in since.items():
            consumer.seek(place, offset)
        ends = await consumer.end_offsets(list(since))
        while any([await consumer.position(place) < ends[place] for place in since]):
            for place, records in (await consumer.getmany(timeout_ms=LOOK_MS)).items():
                found += [record for record in records if record.offset < ends[place]]
    return found, ends


async def delete(servers: str, topic: str) -> None:
    """Delete a topic with all that is in it."""
    async with administration(servers) as admin:
        await admin.delete_topics([topic])


async def leader_of(servers: str, topic: str) -> int:
    """Return the node that leads a topic's first partition."""
    async with administration(servers) as admin:
        (found,) = await admin.describe_topics([topic])
    (first,) = [partition for partition in found["partitions"] if partition["partition"] == 0]
    return int(first["leader"])
