"""Schedules as they are kept: in force, and what they have started."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from millrace.control.domain.schedules import queue_of
from millrace.control.store.rows import columns, holds_up
from millrace.control.store.signals import Signals
from millrace.core.schedules import Kind, Schedule
from millrace.runtime.transaction import Transaction, one

# Always in the order of their names, and before runs. One of the same name may have been before, whose runs go on.
HOLD = """
SELECT s.*, w.sha256 FROM schedule s JOIN workflow w ON w.namespace = s.namespace AND w.name = s.workflow
WHERE (s.namespace, s.name) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY s.namespace, s.name
FOR UPDATE OF s
"""
PUT = """
INSERT INTO schedule (namespace, name, workflow, document, principal, decided_until, next_at, queued)
VALUES ($1, $2, $3, $4, $5, $6, $7, coalesce((SELECT max(place) FROM run
    WHERE namespace = $1 AND trigger_name = $8 AND place IS NOT NULL AND ended_at IS NULL), 0))
ON CONFLICT (namespace, name) DO UPDATE SET workflow = excluded.workflow, document = excluded.document,
    principal = excluded.principal, applied_at = now(), decided_until = excluded.decided_until,
    next_at = excluded.next_at
"""
SAVE = """
UPDATE schedule SET decided_until = $3, next_at = $4, paused_at = $5, paused_by = $6, queued = $7, waits = $8,
    last_run = $9
WHERE namespace = $1 AND name = $2
"""
DELETE = "DELETE FROM schedule WHERE namespace = $1 AND name = $2"
_SHOWN = f"""
SELECT s.*, CASE WHEN s.document->>'strategy' = 'strict_sequence' AND {holds_up("s.last_run")}
    THEN s.last_run END AS blocked_by
FROM schedule s WHERE s.namespace = $1
"""
SHOWN = f"{_SHOWN} AND s.name = $2"
LIST = f"{_SHOWN} AND s.name > $2 ORDER BY s.name LIMIT $3"
FIRED = """
SELECT logical_at FROM schedule_fire
WHERE namespace = $1 AND schedule = $2 AND again = $3 AND logical_at = ANY($4::timestamptz[])
"""
ADD_FIRES = """
INSERT INTO schedule_fire (namespace, schedule, logical_at, again, kind, backfill_id, run_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::uuid[])
"""
ADD_PASSED = """
INSERT INTO schedule_passed (namespace, schedule, first_at, last_at, reason, run_id) VALUES ($1, $2, $3, $4, $5, $6)
"""
FIRES = """
SELECT * FROM schedule_fire WHERE namespace = $1 AND schedule = $2 ORDER BY fired_at DESC, logical_at DESC LIMIT $3
"""
PASSED = """
SELECT * FROM schedule_passed WHERE namespace = $1 AND schedule = $2 ORDER BY decided_at DESC, last_at DESC LIMIT $3
"""
FORGET = """
WITH fires AS (
    DELETE FROM schedule_fire WHERE (namespace, schedule, logical_at, again) IN (
        SELECT namespace, schedule, logical_at, again FROM schedule_fire WHERE fired_at < $1
        ORDER BY fired_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1
), passed AS (
    DELETE FROM schedule_passed WHERE ctid IN (
        SELECT ctid FROM schedule_passed WHERE decided_at < $1 ORDER BY decided_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING 1
), backfills AS (
    DELETE FROM backfill WHERE (namespace, schedule, backfill_id) IN (
        SELECT namespace, schedule, backfill_id FROM backfill WHERE ended_at < $1
        ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1
)
SELECT 1 FROM fires UNION ALL SELECT 1 FROM passed UNION ALL SELECT 1 FROM backfills
"""
SHOWN_ROWS = 20
"""How many of what it has started and passed over are shown of a schedule."""


@dataclass(slots=True, eq=False)
class HeldSchedule:
    """A schedule whose row is held.

    Attributes:
        sha256: The version of its workflow that its runs get.
        decided_until: The last moment about which all is decided.
        next_at: When there is something to be decided again.
        queued: The place of the run that was queued last.
        waits: Whether a run of it may wait for its turn.
        last_run: Of a strict sequence, the run that the next one waits for.
    """

    namespace: str
    schedule: Schedule
    principal: str
    sha256: str
    decided_until: datetime
    next_at: datetime | None
    paused_at: datetime | None
    paused_by: str
    queued: int
    waits: bool
    last_run: UUID | None

    @property
    def key(self) -> tuple[str, str]:
        """Return its namespace and name."""
        return (self.namespace, self.schedule.name)

    @property
    def queue(self) -> str:
        """Return the queue of its runs."""
        return queue_of(self.schedule.name)


@dataclass(frozen=True, slots=True)
class NewFire:
    """A moment for which a run is started."""

    logical_at: datetime
    kind: Kind
    run_id: UUID
    backfill_id: str = ""
    again: str = ""


class Schedules(Transaction):
    """Schedules, held while something is decided on them."""

    signals: ClassVar[Signals]

    async def hold_schedules(self, schedules: Iterable[tuple[str, str]]) -> list[HeldSchedule]:
        """Return some schedules, locked; those that do not exist are left out."""
        wanted = sorted(set(schedules))
        rows = await self.fetch(HOLD, [namespace for namespace, _ in wanted], [name for _, name in wanted])
        return [_held(row) for row in rows]

    async def hold_schedule(self, namespace: str, name: str) -> HeldSchedule:
        """Return a schedule, locked."""
        return _held(one(await self.fetch(HOLD, [namespace], [name]), _named(namespace, name)))

    def put_schedule(
        self, namespace: str, schedule: Schedule, principal: str, decided_until: datetime, next_at: datetime | None
    ) -> None:
        """Put a schedule in force."""
        about = (schedule.name, schedule.workflow, schedule.document(), principal)
        self.write(PUT, namespace, *about, decided_until, next_at, queue_of(schedule.name))
        self._wake_at(next_at)

    def save_schedule(self, held: HeldSchedule) -> None:
        """Keep how a held schedule stands."""
        times = (held.decided_until, held.next_at, held.paused_at)
        self.write(SAVE, *held.key, *times, held.paused_by, held.queued, held.waits, held.last_run)
        self._wake_at(self.now if held.waits else held.next_at)

    def delete_schedule(self, held: HeldSchedule) -> None:
        """Take a held schedule out of force."""
        self.write(DELETE, *held.key)

    async def shown_schedules(self, namespace: str, after: str, limit: int) -> list[asyncpg.Record]:
        """Return up to `limit` schedules as they stand, by name, after one."""
        return await self.fetch(LIST, namespace, after, limit)

    async def shown_schedule(self, namespace: str, name: str) -> Mapping[str, Any]:
        """Return how a schedule stands."""
        shown: Mapping[str, Any] = one(await self.fetch(SHOWN, namespace, name), _named(namespace, name))
        return shown

    async def fires(self, namespace: str, name: str) -> list[asyncpg.Record]:
        """Return what a schedule has started last, newest first."""
        return await self.fetch(FIRES, namespace, name, SHOWN_ROWS)

    async def passed(self, namespace: str, name: str) -> list[asyncpg.Record]:
        """Return the last moments for which a schedule has started nothing, newest first."""
        return await self.fetch(PASSED, namespace, name, SHOWN_ROWS)

    async def fired(self, namespace: str, name: str, moments: Sequence[datetime], again: str = "") -> set[datetime]:
        """Return for which of some moments a schedule has started a run."""
        rows = await self.fetch(FIRED, namespace, name, again, list(moments))
        return {row["logical_at"] for row in rows}

    def add_fires(self, namespace: str, name: str, fires: Sequence[NewFire]) -> None:
        """Keep for which moments runs are started; the database refuses one that has one already."""
        if fires:
            rows = [(namespace, name, f.logical_at, f.again, f.kind, f.backfill_id, f.run_id) for f in fires]
            self.write(ADD_FIRES, *columns(rows))

    def add_passed(
        self, held: HeldSchedule, first_at: datetime, last_at: datetime, reason: str, run_id: UUID | None = None
    ) -> None:
        """Keep for which moments none is, and why."""
        self.write(ADD_PASSED, *held.key, first_at, last_at, reason, run_id)

    async def forget_fires(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` each of what was started, passed over and made up for before; return how many."""
        return len(await self.fetch(FORGET, before, limit))

    def _wake_at(self, due_at: datetime | None) -> None:
        if due_at is not None:
            wait_s = max(0.0, (due_at - self.now).total_seconds())
            self.on_commit(lambda: self.signals.due_in(wait_s))


def _held(row: asyncpg.Record) -> HeldSchedule:
    names = ("namespace", "principal", "sha256", "decided_until", "next_at", "paused_at", "paused_by")
    return HeldSchedule(
        schedule=Schedule.model_validate(row["document"]),
        **{name: row[name] for name in (*names, "queued", "waits", "last_run")},
    )


def _named(namespace: str, name: str) -> str:
    return f"schedule {name} in namespace {namespace}"
