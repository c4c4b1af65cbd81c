"""Events that wait, for one another or for a trigger that is paused, as they are kept; the trigger's row is held."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from millrace.control.store.rows import columns
from millrace.control.store.triggers import HeldTrigger, Triggers
from millrace.core.triggers import Event, Member, Memory

GATHERINGS = "SELECT * FROM gathering WHERE namespace = $1 AND trigger = $2 AND version = $3 AND key = ANY($4)"
DUE_GATHERINGS = """
SELECT version, key FROM gathering WHERE namespace = $1 AND trigger = $2 AND due_at <= now()
ORDER BY due_at, version, key LIMIT $3
"""
PUT_GATHERING = """
INSERT INTO gathering (namespace, trigger, version, key, opened_at, last_at, fired, until_at, run_id, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (namespace, trigger, version, key) DO UPDATE SET opened_at = excluded.opened_at,
    last_at = excluded.last_at, fired = excluded.fired, until_at = excluded.until_at, run_id = excluded.run_id,
    due_at = excluded.due_at
"""
DROP_GATHERING = "DELETE FROM gathering WHERE namespace = $1 AND trigger = $2 AND version = $3 AND key = $4"
WAITING = """
SELECT join_key, source, event_id, slot, taken_at, happened_at, size_bytes FROM trigger_match
WHERE namespace = $1 AND trigger = $2 AND disposition = 'waiting' AND version = $3 AND join_key = ANY($4)
"""
QUEUED = """
SELECT m.source, m.event_id, m.dedupe_key, m.happened_at, m.size_bytes, e.type, e.subject, e.time, e.data,
    e.traceparent, e.topic
FROM trigger_match m JOIN event e ON (e.namespace, e.source, e.id) = (m.namespace, m.source, m.event_id)
WHERE m.namespace = $1 AND m.trigger = $2 AND m.disposition = 'queued'
ORDER BY m.version, m.join_key, m.taken_at, m.number LIMIT $3
"""
SETTLE = """
UPDATE trigger_match m SET disposition = n.disposition, run_id = n.run_id, reason = n.reason, version = n.version,
    join_key = n.join_key, slot = n.slot,
    taken_at = CASE WHEN m.disposition = 'queued' AND n.disposition = 'waiting' THEN now() ELSE m.taken_at END
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::int[], $9::text[],
    $10::text[]) AS n(namespace, source, event_id, trigger, disposition, run_id, reason, version, join_key, slot)
WHERE (m.namespace, m.source, m.event_id, m.trigger) = (n.namespace, n.source, n.event_id, n.trigger)
"""
EVENTS = """
SELECT * FROM event WHERE (namespace, source, id) IN (SELECT $1, * FROM unnest($2::text[], $3::text[]))
"""


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event that came while its trigger was paused."""

    event: Event
    topic: str
    dedupe_key: str
    happened_at: datetime
    size_bytes: int
    traceparent: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of an event that a trigger took.

    Attributes:
        waits: By which version, under which key and in which slot it waits for others, or did.
    """

    source: str
    event_id: str
    disposition: str
    run_id: UUID | None = None
    reason: str = ""
    waits: tuple[int, str, str] = (0, "", "")


@dataclass(frozen=True, slots=True)
class KeptMemory:
    """What is remembered of a gathering.

    Attributes:
        run_id: The run that it started last.
    """

    memory: Memory
    run_id: UUID | None = None


class Gatherings(Triggers):
    """Events that wait, by the triggers that they wait in."""

    async def gatherings(self, held: HeldTrigger, version: int, keys: Sequence[str]) -> dict[str, KeptMemory]:
        """Return what is remembered of a held trigger's gatherings."""
        rows = await self.fetch(GATHERINGS, *held.key, version, list(keys))
        return {row["key"]: KeptMemory(_memory(row), row["run_id"]) for row in rows}

    async def due_gatherings(self, held: HeldTrigger, limit: int) -> list[tuple[int, str]]:
        """Return the version and the key of gatherings of which something is due."""
        return [(row["version"], row["key"]) for row in await self.fetch(DUE_GATHERINGS, *held.key, limit)]

    def save_gathering(
        self, held: HeldTrigger, version: int, key: str, kept: KeptMemory, due_at: datetime | None
    ) -> None:
        """Keep a gathering until it is due; one that never is, is over."""
        if due_at is None:
            self.write(DROP_GATHERING, *held.key, version, key)
            return
        memory = kept.memory
        times = (memory.opened_at, memory.last_at, sorted(memory.fired), memory.until)
        self.write(PUT_GATHERING, *held.key, version, key, *times, kept.run_id, due_at)
        self.wake(due_at)

    async def waiting_members(self, held: HeldTrigger, version: int, keys: Sequence[str]) -> dict[str, list[Member]]:
        """Return the events that wait for one another, by their keys."""
        found: dict[str, list[Member]] = {}
        for row in await self.fetch(WAITING, *held.key, version, list(keys)):
            made = Member(
                time=row["happened_at"],
                source=row["source"],
                id=row["event_id"],
                at=row["taken_at"],
                slot=row["slot"],
                size_bytes=row["size_bytes"],
            )
            found.setdefault(row["join_key"], []).append(made)
        return found

    async def queued_events(self, held: HeldTrigger, limit: int) -> list[QueuedEvent]:
        """Return the first events that came while a held trigger was paused."""
        return [
            QueuedEvent(
                event=Event(row["event_id"], row["source"], row["type"], row["subject"], row["time"], row["data"]),
                topic=row["topic"],
                dedupe_key=row["dedupe_key"],
                happened_at=row["happened_at"],
                size_bytes=row["size_bytes"],
                traceparent=row["traceparent"],
            )
            for row in await self.fetch(QUEUED, *held.key, limit)
        ]

    def settle_matches(self, trigger: tuple[str, str], settled: Sequence[Settled]) -> None:
        """Keep what became of events that a trigger took, by its namespace and name; it is held, or is not there."""
        namespace, name = trigger
        if settled:
            rows = [
                (namespace, s.source, s.event_id, name, s.disposition, s.run_id, s.reason, *s.waits) for s in settled
            ]
            self.write(SETTLE, *columns(rows))

    async def events(self, namespace: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[Event, str]]:
        """Return events with their traces, by source and id."""
        rows = await self.fetch(EVENTS, namespace, [source for source, _ in keys], [name for _, name in keys])
        return {
            (row["source"], row["id"]): (
                Event(row["id"], row["source"], row["type"], row["subject"], row["time"], row["data"]),
                row["traceparent"],
            )
            for row in rows
        }


def _memory(row: Any) -> Memory:  # noqa: ANN401 - a row
    return Memory(row["opened_at"], row["last_at"], frozenset(row["fired"]), row["until_at"])
