"""Events from outside and what triggers made of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from millrace.control.domain.events import Received
from millrace.core.triggers import Event
from millrace.runtime.subscriptions import Record
from millrace.runtime.transaction import Transaction

_NEW_EVENTS = """
n.namespace, n.source, n.id, n.type, n.subject, n.time, n.data::jsonb, n.traceparent, n.topic, n.partition, n.at
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::int[], $11::bigint[])
    AS n(namespace, source, id, type, subject, time, data, traceparent, topic, partition, at)
ORDER BY n.namespace, n.source, n.id
"""
_EVENT = 'event AS e (namespace, source, id, type, subject, time, data, traceparent, topic, partition, "offset")'
_MATCH = "trigger_match (namespace, source, event_id, trigger, dedupe_key, disposition, run_id)"
# What has not come before: anything else fails the statement.
ADD_NEW_EVENTS = f"INSERT INTO {_EVENT} SELECT {_NEW_EVENTS}"
ADD_STARTED = f"""
INSERT INTO {_MATCH} SELECT n.namespace, n.source, n.event_id, n.trigger, n.dedupe_key, 'started', n.run_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[])
    AS n(namespace, source, event_id, trigger, dedupe_key, run_id)
ORDER BY n.namespace, n.trigger, n.dedupe_key
"""
# A delivery counts once per place in the topic: what Kafka gives again after a crash is not another one.
ADD_EVENTS = f"""
WITH kept AS (
    INSERT INTO {_EVENT} SELECT {_NEW_EVENTS}
    ON CONFLICT (namespace, source, id) DO UPDATE SET deliveries = e.deliveries + 1, topic = excluded.topic,
        partition = excluded.partition, "offset" = excluded."offset"
        WHERE (e.topic, e.partition) <> (excluded.topic, excluded.partition) OR e."offset" < excluded."offset"
    RETURNING e.namespace, e.source, e.id, e.deliveries = 1 AS fresh
), started AS (
    INSERT INTO {_MATCH} SELECT n.namespace, n.source, n.event_id, n.trigger, n.dedupe_key, 'started', n.run_id
    FROM unnest($12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::uuid[])
        WITH ORDINALITY AS n(namespace, source, event_id, trigger, dedupe_key, run_id, place)
    JOIN kept k ON (k.namespace, k.source, k.id) = (n.namespace, n.source, n.event_id) AND k.fresh
    ORDER BY n.namespace, n.trigger, n.dedupe_key, n.place
    ON CONFLICT (namespace, trigger, dedupe_key) WHERE disposition = 'started' DO NOTHING
    RETURNING run_id
)
SELECT namespace, source, id, array(SELECT run_id FROM started) AS started FROM kept WHERE fresh
"""
ADD_DUPLICATE = f"""
INSERT INTO {_MATCH} SELECT $1, $2, $3, $4, $5, 'duplicate', m.run_id FROM trigger_match m
WHERE m.namespace = $1 AND m.trigger = $4 AND m.dedupe_key = $5 AND m.disposition = 'started'
ON CONFLICT DO NOTHING
"""
HOLD_QUEUES = """
SELECT namespace, name, queued FROM trigger
WHERE (namespace, name) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY namespace, name FOR UPDATE
"""
SAVE_QUEUED = "UPDATE trigger SET queued = $3 WHERE namespace = $1 AND name = $2"
EVENT = "SELECT * FROM event WHERE namespace = $1 AND source = $2 AND id = $3"
FORGET_EVENTS = """
WITH old AS MATERIALIZED (
    SELECT namespace, source, id FROM event WHERE received_at < $1 ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
), matches AS (
    DELETE FROM trigger_match WHERE (namespace, source, event_id) IN (SELECT namespace, source, id FROM old)
)
DELETE FROM event WHERE (namespace, source, id) IN (SELECT namespace, source, id FROM old) RETURNING 1
"""
MATCHES = """
SELECT trigger, disposition, dedupe_key, run_id FROM trigger_match
WHERE namespace = $1 AND source = $2 AND event_id = $3 ORDER BY trigger
"""


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One record read as an event of one namespace."""

    namespace: str
    received: Received
    record: Record


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """A run that an event is to start, unless its dedupe key has started one."""

    arrival: Arrival
    trigger: str
    dedupe_key: str
    run_id: UUID


@dataclass(frozen=True, slots=True)
class Match:
    """What a trigger made of an event."""

    trigger: str
    disposition: str
    dedupe_key: str
    run_id: UUID


@dataclass(frozen=True, slots=True)
class Kept:
    """An event as it was kept.

    Attributes:
        deliveries: How often it came.
    """

    event: Event
    topic: str
    deliveries: int
    received_at: datetime


class Events(Transaction):
    """The events that came, once each."""

    async def add_events(self, arrivals: Sequence[Arrival], starts: Sequence[Start]) -> list[Start]:
        """Keep events, and which of them start runs.

        Returns:
            The starts of events that had not come before and whose key had not started a run, in their order.
        """
        if self.hopes and arrivals:
            self.write_last(ADD_NEW_EVENTS, *_event_columns(arrivals))
            if starts:
                self.write_last(ADD_STARTED, *_start_columns(starts))
            return [*starts]
        fresh: set[Arrival] = set()
        taken: set[UUID] = set()
        for some in _apart(arrivals):
            theirs = [start for start in starts if some.get(_key(start.arrival)) is start.arrival]
            for row in await self.fetch(ADD_EVENTS, *_event_columns(some.values()), *_start_columns(theirs)):
                fresh.add(some[row["namespace"], row["source"], row["id"]])
                taken.update(row["started"])
        for start in starts:
            if start.arrival in fresh and start.run_id not in taken:
                namespace, source, event_id = _key(start.arrival)
                self.write(ADD_DUPLICATE, namespace, source, event_id, start.trigger, start.dedupe_key)
        return [start for start in starts if start.run_id in taken]

    async def hold_queues(self, triggers: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Lock some triggers' queues; return how many runs each has queued so far."""
        columns = [[namespace for namespace, _ in triggers], [name for _, name in triggers]]
        rows = await self.fetch(HOLD_QUEUES, *columns)
        return {(row["namespace"], row["name"]): row["queued"] for row in rows}

    def save_queued(self, namespace: str, trigger: str, queued: int) -> None:
        """Keep how many runs a trigger has queued so far."""
        self.write(SAVE_QUEUED, namespace, trigger, queued)

    async def event(self, namespace: str, source: str, event_id: str) -> Kept | None:
        """Return an event as it was kept; None when it has not come."""
        rows = await self.fetch(EVENT, namespace, source, event_id)
        if not rows:
            return None
        row = rows[0]
        event = Event(row["id"], row["source"], row["type"], row["subject"], row["time"], row["data"])
        return Kept(event, row["topic"], row["deliveries"], row["received_at"])

    async def forget_events(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` events that came before a moment, with what was made of them; return how many."""
        return len(await self.fetch(FORGET_EVENTS, before, limit))

    async def matches(self, namespace: str, source: str, event_id: str) -> list[Match]:
        """Return what triggers made of an event."""
        rows = await self.fetch(MATCHES, namespace, source, event_id)
        return [Match(row["trigger"], row["disposition"], row["dedupe_key"], row["run_id"]) for row in rows]


def _key(arrival: Arrival) -> tuple[str, str, str]:
    event = arrival.received.event
    return (arrival.namespace, event.source, event.id)


def _apart(arrivals: Sequence[Arrival]) -> list[dict[tuple[str, str, str], Arrival]]:
    """Return the arrivals in groups of which none holds an event twice: one statement changes a row once."""
    groups: list[dict[tuple[str, str, str], Arrival]] = []
    for arrival in arrivals:
        group = next((found for found in groups if _key(arrival) not in found), None)
        if group is None:
            groups.append(group := {})
        group[_key(arrival)] = arrival
    return groups


def _start_columns(starts: Sequence[Start]) -> list[list[Any]]:
    keys = [_key(start.arrival) for start in starts]
    return [
        *([key[n] for key in keys] for n in range(3)),
        [start.trigger for start in starts],
        [start.dedupe_key for start in starts],
        [start.run_id for start in starts],
    ]


def _event_columns(arrivals: Iterable[Arrival]) -> list[list[Any]]:
    rows = [
        (
            arrival.namespace,
            event.source,
            event.id,
            event.type,
            event.subject,
            event.time,
            json.dumps(event.data),
            arrival.received.traceparent,
            arrival.record.topic,
            arrival.record.partition,
            arrival.record.offset,
        )
        for arrival in arrivals
        for event in [arrival.received.event]
    ]
    return [list(column) for column in zip(*rows, strict=True)]
