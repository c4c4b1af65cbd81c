"""Events from outside and what triggers made of them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from millrace.control.domain.events import Received, happened_at, size_of
from millrace.control.domain.explain import Recorded
from millrace.control.store.rows import columns
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
#: What is kept of an event that a trigger takes, and the types of that.
_TAKEN = {
    **dict.fromkeys(("namespace", "source", "event_id", "trigger", "dedupe_key", "disposition"), "text"),
    "run_id": "uuid",
    "version": "int",
    "join_key": "text",
    "slot": "text",
    "happened_at": "timestamptz",
    "size_bytes": "int",
    "number": "int",
    "reason": "text",
}
#: What takes a key: it has started a run, or waits to.
_TAKES = "disposition <> 'duplicate' AND disposition <> 'skipped' AND disposition <> 'dropped'"


def _add_taken(first: int, join: str = "") -> str:
    """Return the statement that keeps what triggers take, its columns from a parameter on."""
    values = ", ".join(f"${first + n}::{kind}[]" for n, kind in enumerate(_TAKEN.values()))
    names = ", ".join(_TAKEN)
    return f"""
INSERT INTO trigger_match ({names}) SELECT n.{", n.".join(_TAKEN)} FROM unnest({values}) AS n({names})
{join} ORDER BY n.namespace, n.trigger, n.dedupe_key, n.number
"""


# What has not come before: anything else fails the statement.
ADD_NEW_EVENTS = f"INSERT INTO {_EVENT} SELECT {_NEW_EVENTS}"
ADD_TAKEN = _add_taken(1)
_IF_NEW = "JOIN kept k ON (k.namespace, k.source, k.id) = (n.namespace, n.source, n.event_id) AND k.fresh"
# A delivery counts once per place in the topic: what Kafka gives again after a crash is not another one.
ADD_EVENTS = f"""
WITH kept AS (
    INSERT INTO {_EVENT} SELECT {_NEW_EVENTS}
    ON CONFLICT (namespace, source, id) DO UPDATE SET deliveries = e.deliveries + 1, topic = excluded.topic,
        partition = excluded.partition, "offset" = excluded."offset"
        WHERE (e.topic, e.partition) <> (excluded.topic, excluded.partition) OR e."offset" < excluded."offset"
    RETURNING e.namespace, e.source, e.id, e.deliveries = 1 AS fresh
), taken AS (
    {_add_taken(12, _IF_NEW)} ON CONFLICT (namespace, trigger, dedupe_key) WHERE {_TAKES} DO NOTHING RETURNING number
)
SELECT namespace, source, id, array(SELECT number FROM taken) AS taken FROM kept WHERE fresh
"""
ADD_DUPLICATE = f"""
INSERT INTO trigger_match (namespace, source, event_id, trigger, dedupe_key, disposition, run_id)
SELECT $1, $2, $3, $4, $5, 'duplicate', m.run_id FROM trigger_match m
WHERE m.namespace = $1 AND m.trigger = $4 AND m.dedupe_key = $5 AND {_TAKES.replace("disposition", "m.disposition")}
ON CONFLICT DO NOTHING
"""
EVENT = "SELECT * FROM event WHERE namespace = $1 AND source = $2 AND id = $3"
FORGET_EVENTS = """
WITH old AS MATERIALIZED (
    SELECT namespace, source, id FROM event e WHERE received_at < $1 AND NOT EXISTS (
        SELECT FROM trigger_match m WHERE (m.namespace, m.source, m.event_id) = (e.namespace, e.source, e.id)
            AND m.disposition IN ('waiting', 'queued')
    ) ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
), matches AS (
    DELETE FROM trigger_match WHERE (namespace, source, event_id) IN (SELECT namespace, source, id FROM old)
)
DELETE FROM event WHERE (namespace, source, id) IN (SELECT namespace, source, id FROM old) RETURNING 1
"""
# A duplicate leads to what the event did that had taken its key.
MATCHES = f"""
SELECT m.trigger, m.disposition, m.dedupe_key, coalesce(m.run_id, h.run_id) AS run_id, m.join_key, m.slot, m.reason,
    m.version, g.due_at
FROM trigger_match m
LEFT JOIN trigger_match h ON m.disposition = 'duplicate' AND (h.namespace, h.trigger, h.dedupe_key) =
    (m.namespace, m.trigger, m.dedupe_key) AND {_TAKES.replace("disposition", "h.disposition")}
LEFT JOIN gathering g ON m.disposition = 'waiting' AND (g.namespace, g.trigger, g.version, g.key) =
    (m.namespace, m.trigger, m.version, m.join_key)
WHERE m.namespace = $1 AND m.source = $2 AND m.event_id = $3 ORDER BY m.trigger
"""
# One look for each source, of which there are few, rather than an index on ids that every event would pay for.
SOURCES_OF = """
WITH RECURSIVE known AS (
    (SELECT source FROM event WHERE namespace = $1 ORDER BY source LIMIT 1)
    UNION ALL
    SELECT (SELECT e.source FROM event e WHERE e.namespace = $1 AND e.source > k.source ORDER BY e.source LIMIT 1)
    FROM known k WHERE k.source IS NOT NULL
)
SELECT e.source FROM (SELECT source FROM known WHERE source IS NOT NULL LIMIT 10000) k
JOIN LATERAL (SELECT source FROM event WHERE namespace = $1 AND source = k.source AND id = $2) e ON true
ORDER BY e.source LIMIT 10
"""


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """One record read as an event of one namespace."""

    namespace: str
    received: Received
    record: Record


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a trigger makes of an event that it takes, unless its dedupe key is taken.

    Attributes:
        disposition: `started`, or what comes before that: `waiting` for other events, `queued` or `dropped` by a
            trigger that is paused.
        version: Since which version of the trigger events wait as this one does.
        join_key: The events with the same key wait for one another.
        slot: Which of those that a join waits for it is.
    """

    arrival: Arrival
    trigger: str
    dedupe_key: str
    run_id: UUID
    disposition: str = "started"
    version: int = 1
    join_key: str = ""
    slot: str = ""
    reason: str = ""


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
            # PostgreSQL does the parts of a statement from the last to the first: events first, as without hope, so
            # that two replicas that read the same do not lock in two orders.
            if starts:
                self.write_last(ADD_TAKEN, *self._start_columns(starts))
            self.write_last(ADD_NEW_EVENTS, *_event_columns(arrivals))
            return [*starts]
        fresh: set[Arrival] = set()
        taken: set[Start] = set()
        for some in _apart(arrivals):
            theirs = [start for start in starts if some.get(key_of(start.arrival)) is start.arrival]
            for row in await self.fetch(ADD_EVENTS, *_event_columns(some.values()), *self._start_columns(theirs)):
                fresh.add(some[row["namespace"], row["source"], row["id"]])
                taken.update(theirs[number] for number in row["taken"])
        for start in starts:
            if start.arrival in fresh and start not in taken:
                namespace, source, event_id = key_of(start.arrival)
                self.write(ADD_DUPLICATE, namespace, source, event_id, start.trigger, start.dedupe_key)
        return [start for start in starts if start in taken]

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

    async def matches(self, namespace: str, source: str, event_id: str) -> list[Recorded]:
        """Return what triggers made of an event."""
        rows = await self.fetch(MATCHES, namespace, source, event_id)
        return [
            Recorded(
                trigger=row["trigger"],
                disposition=row["disposition"],
                dedupe_key=row["dedupe_key"],
                run_id=row["run_id"],
                key=row["join_key"],
                slot=row["slot"],
                reason=row["reason"],
                waits_until=row["due_at"],
            )
            for row in rows
        ]

    async def sources_of(self, namespace: str, event_id: str) -> list[str]:
        """Return the sources of up to ten events with an id."""
        return [row["source"] for row in await self.fetch(SOURCES_OF, namespace, event_id)]

    def _start_columns(self, starts: Sequence[Start]) -> list[list[Any] | None]:
        rows = [
            (
                *(*key_of(start.arrival), start.trigger, start.dedupe_key, start.disposition),
                *(start.run_id if start.disposition == "started" else None, start.version, start.join_key, start.slot),
                # Of what starts a run at once nobody asks how much it holds.
                *(happened_at(event, self.now), 0 if start.disposition == "started" else size_of(event)),
                *(number, start.reason),
            )
            for number, start in enumerate(starts)
            for event in [start.arrival.received.event]
        ]
        return columns(rows) if rows else [None for _ in _TAKEN]


def key_of(arrival: Arrival) -> tuple[str, str, str]:
    """Return what an event is known by: namespace, source and id."""
    event = arrival.received.event
    return (arrival.namespace, event.source, event.id)


def _apart(arrivals: Sequence[Arrival]) -> list[dict[tuple[str, str, str], Arrival]]:
    """Return the arrivals in groups of which none holds an event twice: one statement changes a row once."""
    groups: list[dict[tuple[str, str, str], Arrival]] = []
    for arrival in arrivals:
        group = next((found for found in groups if key_of(arrival) not in found), None)
        if group is None:
            groups.append(group := {})
        group[key_of(arrival)] = arrival
    return groups


def _event_columns(arrivals: Iterable[Arrival]) -> list[list[Any] | None]:
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
    return columns(rows)
