"""Triggers that wait, as they are kept: for other events, for a turn, for somebody who lets them go on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from millrace.control.store.events import Events
from millrace.control.store.rows import columns
from millrace.control.store.signals import Signals
from millrace.core.triggers import Event, Member, Memory, OpenRun, Trigger
from millrace.runtime.transaction import one

# Always in the order of their names, after events and before runs.
HOLD = """
SELECT t.*, w.sha256 FROM trigger t JOIN workflow w ON w.namespace = t.namespace AND w.name = t.workflow
WHERE (t.namespace, t.name) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY t.namespace, t.name
FOR UPDATE OF t
"""
SAVE = """
UPDATE trigger SET queued = $3, admitted = $4, admit_at = $5, full_at = $6, paused_at = $7, paused_by = $8,
    draining = $9, last_run = $10
WHERE namespace = $1 AND name = $2
"""
DOCUMENT = "SELECT document FROM trigger_version WHERE namespace = $1 AND name = $2 AND version = $3"
# Of each trigger the document that was in force at a moment; the first one, where it came later.
VERSIONS_AT = """
SELECT DISTINCT ON (name) name, document, applied_at FROM trigger_version WHERE namespace = $1
ORDER BY name, applied_at > $2, CASE WHEN applied_at > $2 THEN -version ELSE version END DESC
"""
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
OPEN_RUNS = """
SELECT run_id, state = 'pending' AS waits FROM run
WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND ended_at IS NULL ORDER BY place LIMIT $3
"""
WAITING_RUNS = """
SELECT run_id, true AS waits FROM run
WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND state = 'pending' ORDER BY place LIMIT $3
"""
UNDER_WAY = """
SELECT count(*) FROM (
    SELECT FROM run WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND ended_at IS NULL
        AND place < coalesce((SELECT place FROM run WHERE namespace = $1 AND trigger_name = $2
            AND place IS NOT NULL AND state = 'pending' ORDER BY place LIMIT 1), $4)
    ORDER BY place LIMIT $3
) AS first
"""
STATE = "SELECT state FROM run WHERE run_id = $1"
# How a trigger stands; at most 10,000 of anything are counted.
SHOWN = """
SELECT t.namespace, t.name, t.workflow, t.document, t.principal, t.applied_at, t.paused_at, t.paused_by, t.admit_at,
    CASE WHEN t.document->>'strategy' = 'strict_sequence' THEN
        (SELECT run_id FROM run WHERE run_id = t.last_run AND state = 'failed') END AS blocked_by,
    (SELECT count(*) FROM (SELECT FROM run r WHERE r.namespace = t.namespace AND r.trigger_name = t.name
        AND r.place IS NOT NULL AND r.state = 'pending' LIMIT 10000) AS counted) AS waiting_runs,
    (SELECT count(*) FROM (SELECT FROM trigger_match m WHERE m.namespace = t.namespace AND m.trigger = t.name
        AND m.disposition = 'queued' LIMIT 10000) AS counted) AS queued_events,
    (SELECT count(*) FROM (SELECT FROM trigger_match m WHERE m.namespace = t.namespace AND m.trigger = t.name
        AND m.disposition = 'waiting' LIMIT 10000) AS counted) AS waiting_events
FROM trigger t WHERE t.namespace = $1 AND ($2 = '' OR t.name = $2) ORDER BY t.name
"""
# Of a run that waits: how many wait before it, and the first of those that are under way.
BEFORE = """
SELECT (SELECT count(*) FROM (SELECT FROM run WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL
        AND state = 'pending' AND place < $3 LIMIT 10000) AS counted) AS waiting,
    (SELECT run_id FROM run WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND ended_at IS NULL
        AND state <> 'pending' AND place < $3 ORDER BY place LIMIT 1) AS under_way
"""
MAX_THERE = 1_000


@dataclass(slots=True, eq=False)
class HeldTrigger:
    """A trigger whose row is held.

    Attributes:
        sha256: The version of its workflow that its runs get.
        version: Since which version events wait for one another as it says.
        queued: The place of the run that was queued last.
        admitted: No run up to this place waits.
        admit_at: When the throttle lets the next one begin.
        full_at: What the throttle is to be told.
        draining: Events that came while it was paused are still to be looked at.
        last_run: Of a strict sequence, the run that the next one waits for.
    """

    namespace: str
    trigger: Trigger
    principal: str
    sha256: str
    version: int
    queued: int
    admitted: int
    admit_at: datetime | None
    full_at: datetime | None
    paused_at: datetime | None
    paused_by: str
    draining: bool
    last_run: UUID | None

    @property
    def key(self) -> tuple[str, str]:
        """Return its namespace and name."""
        return (self.namespace, self.trigger.name)


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
class ShownTrigger:
    """How a trigger stands.

    Attributes:
        blocked_by: The run that failed, behind which those of a strict sequence wait.
        next_at: When its throttle lets the next run begin.
        waiting_runs: Those that wait for their turn; of these and the others at most 10,000 are counted.
        queued_events: Those that came while it was paused.
        waiting_events: Those that wait for others.
    """

    name: str
    workflow: str
    document: dict[str, Any]
    principal: str
    applied_at: datetime
    paused_at: datetime | None
    paused_by: str
    blocked_by: UUID | None
    next_at: datetime | None
    waiting_runs: int
    queued_events: int
    waiting_events: int


@dataclass(frozen=True, slots=True)
class KeptMemory:
    """What is remembered of a gathering.

    Attributes:
        run_id: The run that it started last.
    """

    memory: Memory
    run_id: UUID | None = None


class Triggers(Events):
    """Triggers whose rows are held while something is decided on them."""

    signals: ClassVar[Signals]

    async def hold_triggers(self, triggers: Iterable[tuple[str, str]]) -> dict[tuple[str, str], HeldTrigger]:
        """Return some triggers, locked; those that do not exist are left out."""
        wanted = sorted(set(triggers))
        rows = await self.fetch(HOLD, [namespace for namespace, _ in wanted], [name for _, name in wanted])
        return {(row["namespace"], row["name"]): _held(row) for row in rows}

    async def hold_one(self, namespace: str, name: str) -> HeldTrigger:
        """Return a trigger, locked."""
        rows = await self.fetch(HOLD, [namespace], [name])
        return _held(one(rows, f"trigger {name} in namespace {namespace}"))

    def save_trigger(self, held: HeldTrigger) -> None:
        """Keep how a held trigger stands; whoever looks for what is due looks at it at once, or when it is due."""
        times = (held.admit_at, held.full_at, held.paused_at)
        self.write(SAVE, *held.key, held.queued, held.admitted, *times, held.paused_by, held.draining, held.last_run)
        if held.draining or held.admitted < held.queued:
            self._wake(held.admit_at)

    async def shown_triggers(self, namespace: str, name: str = "") -> list[ShownTrigger]:
        """Return how the triggers of a namespace stand, or one of them."""
        return [_shown(row) for row in await self.fetch(SHOWN, namespace, name)]

    async def shown_trigger(self, namespace: str, name: str) -> ShownTrigger:
        """Return how a trigger stands."""
        return _shown(one(await self.fetch(SHOWN, namespace, name), f"trigger {name} in namespace {namespace}"))

    async def before(self, namespace: str, trigger: str, place: int) -> tuple[int, UUID | None]:
        """Return how many runs of a trigger wait before a place, and the first that is under way there."""
        ((waiting, under_way),) = await self.fetch(BEFORE, namespace, trigger, place)
        return int(waiting), under_way

    async def trigger_version(self, namespace: str, name: str, version: int) -> Trigger:
        """Return what a trigger said in one of its versions."""
        rows = await self.fetch(DOCUMENT, namespace, name, version)
        return Trigger.model_validate(one(rows, f"version {version} of trigger {name}")["document"])

    async def triggers_at(self, namespace: str, moment: datetime) -> list[tuple[Trigger, datetime]]:
        """Return what each trigger said at a moment, and since when; of one that came later, what it said first."""
        rows = await self.fetch(VERSIONS_AT, namespace, moment)
        return [(Trigger.model_validate(row["document"]), row["applied_at"]) for row in rows]

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
        self._wake(due_at)

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

    def settle_matches(self, held: HeldTrigger, settled: Sequence[Settled]) -> None:
        """Keep what became of events that a held trigger took."""
        namespace, name = held.key
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

    async def open_runs(self, held: HeldTrigger, *, waiting: bool, limit: int = MAX_THERE) -> list[OpenRun]:
        """Return the first runs of a held trigger that have not ended, or of those that wait."""
        rows = await self.fetch(WAITING_RUNS if waiting else OPEN_RUNS, *held.key, limit)
        return [OpenRun(row["run_id"], row["waits"]) for row in rows]

    async def under_way(self, held: HeldTrigger, at_most: int) -> int:
        """Return how many runs of a held trigger have begun and not ended; not more than `at_most`."""
        ((count,),) = await self.fetch(UNDER_WAY, *held.key, at_most, held.queued + 1)
        return int(count)

    async def has_failed(self, run_id: UUID) -> bool:
        """Return whether a run has failed, and still has."""
        rows = await self.fetch(STATE, run_id)
        return bool(rows) and rows[0]["state"] == "failed"

    def _wake(self, due_at: datetime | None) -> None:
        wait_s = (due_at - self.now).total_seconds() if due_at is not None else 0.0
        self.on_commit(lambda: self.signals.due_in(max(0.0, wait_s)))


def _held(row: asyncpg.Record) -> HeldTrigger:
    return HeldTrigger(
        namespace=row["namespace"],
        trigger=Trigger.model_validate(row["document"]),
        principal=row["principal"],
        sha256=row["sha256"],
        version=row["shape_version"],
        queued=row["queued"],
        admitted=row["admitted"],
        admit_at=row["admit_at"],
        full_at=row["full_at"],
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        draining=row["draining"],
        last_run=row["last_run"],
    )


def _shown(row: asyncpg.Record) -> ShownTrigger:
    return ShownTrigger(
        name=row["name"],
        workflow=row["workflow"],
        document=row["document"],
        principal=row["principal"],
        applied_at=row["applied_at"],
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        blocked_by=row["blocked_by"],
        next_at=row["admit_at"],
        waiting_runs=row["waiting_runs"],
        queued_events=row["queued_events"],
        waiting_events=row["waiting_events"],
    )


def _memory(row: Any) -> Memory:  # noqa: ANN401 - a row
    return Memory(row["opened_at"], row["last_at"], frozenset(row["fired"]), row["until_at"])
