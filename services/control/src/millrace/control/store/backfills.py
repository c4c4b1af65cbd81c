"""Backfills as they are kept: how far each is in its range."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

import asyncpg
from millrace.control.domain.schedules import backfill_queue_of
from millrace.control.store.rows import everywhere
from millrace.control.store.schedules import SHOWN_ROWS, HeldSchedule
from millrace.control.store.signals import Signals
from millrace.core.schedules import Schedule
from millrace.runtime.transaction import Transaction

BACKFILLS = f"""
SELECT b.*, (SELECT coalesce(jsonb_object_agg(state, runs), '{{}}') FROM (
    SELECT r.state, count(*) AS runs FROM schedule_fire f JOIN {everywhere("run")} AS r USING (run_id)
    WHERE f.namespace = b.namespace AND f.schedule = b.schedule AND f.backfill_id = b.backfill_id
        AND f.backfill_id <> '' AND r.ended_at IS NOT NULL GROUP BY r.state) AS s) AS ended
FROM backfill b WHERE b.namespace = $1 AND b.schedule = $2 AND ($3 = '' OR b.backfill_id = $3)
ORDER BY b.created_at DESC, b.backfill_id LIMIT $4
"""
HOLD_BACKFILLS = """
SELECT * FROM backfill WHERE namespace = $1 AND schedule = $2 AND state = 'running' ORDER BY backfill_id FOR UPDATE
"""
HOLD_BACKFILL = "SELECT * FROM backfill WHERE namespace = $1 AND schedule = $2 AND backfill_id = $3 FOR UPDATE"
ADD_BACKFILL = """
INSERT INTO backfill (namespace, schedule, backfill_id, document, principal, from_at, to_at, newest_first, at_once,
    again, state, total)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'running', $11)
"""
SAVE_BACKFILL = """
UPDATE backfill SET state = $4, decided = $5, more = $6, started = $7, skipped = $8, at_once = $9,
    ended_at = CASE WHEN $4 = 'running' THEN NULL ELSE coalesce(ended_at, now()) END
WHERE namespace = $1 AND schedule = $2 AND backfill_id = $3
"""
STOP_BACKFILLS = """
UPDATE backfill SET state = 'cancelled', ended_at = now() WHERE namespace = $1 AND schedule = $2 AND state = 'running'
RETURNING 1
"""


@dataclass(slots=True, eq=False)
class HeldBackfill:
    """A backfill whose row is held.

    Attributes:
        schedule: What it began with.
        again: Empty where only moments have a run that had none; else its id.
        decided: The last moment that was looked at, None before the first.
        more: Whether others follow.
        total: The moments in its range.
        skipped: Those that had a run already.
    """

    namespace: str
    backfill_id: str
    schedule: Schedule
    principal: str
    from_at: datetime
    to_at: datetime
    newest_first: bool
    at_once: int
    again: str
    state: str
    decided: datetime | None
    more: bool
    total: int
    started: int
    skipped: int

    @property
    def queue(self) -> str:
        """Return the queue of its runs."""
        return backfill_queue_of(self.schedule.name, self.backfill_id)


class Backfills(Transaction):
    """Backfills, held while something is decided on them."""

    signals: ClassVar[Signals]

    async def backfills(self, namespace: str, name: str, backfill_id: str = "") -> list[asyncpg.Record]:
        """Return a schedule's latest backfills with how their runs have ended, or one of them."""
        return await self.fetch(BACKFILLS, namespace, name, backfill_id, SHOWN_ROWS)

    async def hold_backfills(self, held: HeldSchedule) -> list[HeldBackfill]:
        """Return a held schedule's backfills that go on, locked."""
        return [_backfill(row) for row in await self.fetch(HOLD_BACKFILLS, *held.key)]

    async def hold_backfill(self, namespace: str, name: str, backfill_id: str) -> HeldBackfill | None:
        """Return a backfill, locked; None where there is none of the name."""
        rows = await self.fetch(HOLD_BACKFILL, namespace, name, backfill_id)
        return _backfill(rows[0]) if rows else None

    def add_backfill(self, new: HeldBackfill) -> None:
        """Keep a new backfill."""
        about = (
            new.schedule.document(),
            new.principal,
            new.from_at,
            new.to_at,
            new.newest_first,
            new.at_once,
            new.again,
        )
        self.write(ADD_BACKFILL, new.namespace, new.schedule.name, new.backfill_id, *about, new.total)
        self.on_commit(lambda: self.signals.due_in(0.0))

    def save_backfill(self, held: HeldBackfill) -> None:
        """Keep how a held backfill stands."""
        key = (held.namespace, held.schedule.name, held.backfill_id)
        counts = (held.started, held.skipped, held.at_once)
        self.write(SAVE_BACKFILL, *key, held.state, held.decided, held.more, *counts)
        if held.state == "running":
            self.on_commit(lambda: self.signals.due_in(0.0))

    async def stop_backfills(self, held: HeldSchedule) -> int:
        """Have a held schedule's backfills start no more; return how many went on."""
        return len(await self.fetch(STOP_BACKFILLS, *held.key))


def _backfill(row: Mapping[str, Any]) -> HeldBackfill:
    names = ("namespace", "backfill_id", "principal", "from_at", "to_at", "newest_first", "at_once", "again", "state")
    return HeldBackfill(
        schedule=Schedule.model_validate(row["document"]),
        **{name: row[name] for name in (*names, "decided", "more", "total", "started", "skipped")},
    )
