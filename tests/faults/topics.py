"""Kafka's topics as any reader may read them: where they end, what was told, and what is not read yet."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from millrace.contracts import SERVICES
from millrace.contracts.catalogue import FOREIGN, catalogue

from infra.documents import subscriptions
from tests.faults.records import administration, ends_of, groups, places
from tests.journeys.shop import Told

LOOK_S = 0.1


async def ends(servers: str) -> dict[TopicPartition, int]:
    """Return where the services' topics end now."""
    return await ends_of(servers, places(topic.name for topic in catalogue() if topic not in FOREIGN))


async def _bounds_of(
    servers: str, wanted: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return where partitions begin and end now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers)
    try:
        await consumer.start()
        consumer.assign(wanted)  # or it learns of one topic at a time
        first, last = await asyncio.gather(consumer.beginning_offsets(wanted), consumer.end_offsets(wanted))
        return first, last
    finally:
        await consumer.stop()  # also one that has not started, as no broker answered


async def told_since(servers: str, begins: Mapping[TopicPartition, int]) -> list[tuple[str, Told]]:
    """Return what the services have told since, each with the namespace it belongs to."""
    async with AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        consumer.assign(list(begins))
        for place, offset in begins.items():
            consumer.seek(place, offset)
        last = await consumer.end_offsets(list(begins))
        records = [record for place in begins for record in await _records(consumer, place, last[place])]
    return [event for record in records if (event := _event(record)) is not None]


async def _records(consumer: AIOKafkaConsumer, place: TopicPartition, last: int) -> list[Any]:
    """Return a partition's records up to an offset, without those that no client of Python can read."""
    found: list[Any] = []
    while (at := await consumer.position(place)) < last:
        try:
            some = await consumer.getmany(place, timeout_ms=500)
        except UnicodeDecodeError:  # one of many has a header's name that is no text: take the first alone
            consumer.seek(place, at)
            some = await _first(consumer, place, at)
        found += some.get(place, [])
    return found


async def _first(consumer: AIOKafkaConsumer, place: TopicPartition, at: int) -> dict[TopicPartition, list[Any]]:
    try:
        some: dict[TopicPartition, list[Any]] = await consumer.getmany(place, timeout_ms=500, max_records=1)
    except UnicodeDecodeError:
        consumer.seek(place, at + 1)
        return {}
    return some


def _event(record: Any) -> tuple[str, Told] | None:
    """Return a record as an event, with its namespace; nothing for one that is no event, which no service told."""
    try:
        headers = {name: value.decode() for name, value in record.headers}
        told = Told(
            topic=record.topic,
            key=(record.key or b"").decode(),
            type=headers["ce_type"].rpartition(".")[2],
            event_id=headers["ce_id"],
            sequence=int(headers.get("ce_sequence", "0")),
            value=dict(json.loads(record.value)),
        )
        return headers["ce_namespace"], told
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None


async def caught_up(servers: str) -> None:
    """Return when each group has noted as read all that was there at the call, or once a broker answered after it."""
    bounds: tuple[dict[TopicPartition, int], dict[TopicPartition, int]] | None = None
    while True:
        with suppress(KafkaError, OSError):
            bounds = bounds or await _bounds_of(servers, places())
            if not unread(await _noted(servers), *bounds):
                return
        await asyncio.sleep(LOOK_S)


async def lag(servers: str) -> dict[str, int]:
    """Return how many records each group has not read yet, by its committed offsets; those with none left out.

    What it has noted nothing of, such as a topic that was made again, it has not read at all.
    """
    noted = await _noted(servers)
    known = sorted({place for of in (*noted.values(), *map(_own_places, SERVICES)) for place in of})
    return unread(noted, *await _bounds_of(servers, known))


async def _noted(servers: str) -> dict[str, dict[TopicPartition, int]]:
    """Return how far each group of a service has read."""
    names = [group for service in SERVICES for group in groups(service)]
    async with administration(servers) as admin:
        found = await asyncio.gather(*(admin.list_consumer_group_offsets(group) for group in names))
    return {
        name: {place: at.offset for place, at in group.items() if at.offset >= 0}
        for name, group in zip(names, found, strict=True)
    }


def unread(
    noted: Mapping[str, Mapping[TopicPartition, int]],
    first: Mapping[TopicPartition, int],
    last: Mapping[TopicPartition, int],
) -> dict[str, int]:
    """Return how many records before the last of each partition a group has not read; groups with none left out."""
    counts = {
        name: sum(
            max(0, last[place] - offsets.get(place, first[place]))
            for place in {*offsets, *(_own_places(name) if name in SERVICES else ())}
            if place in last
        )
        for name, offsets in noted.items()
    }
    return {name: count for name, count in counts.items() if count}


@cache
def _own_places(service: str) -> frozenset[TopicPartition]:
    """Return the partitions of the events that a service reads from their start."""
    rows = [row for row in subscriptions(service) if row.start == "earliest"]
    return frozenset(places(topic for row in rows for topic in row.topics))
