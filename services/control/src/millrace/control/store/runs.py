"""Runs and their tasks as they are kept: read, and held to be decided on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from millrace.control.domain.runs import KeptRun
from millrace.control.store.definitions import Definitions
from millrace.control.store.due import DUE, Turn
from millrace.control.store.hot import HotRuns
from millrace.control.store.rows import (
    kept_run,
    size_of,
    task_run,
)
from millrace.core.parts import Approve
from millrace.core.state import TaskRun
from millrace.runtime.inbox import first_id
from millrace.runtime.transaction import one

RUN = "SELECT * FROM run WHERE namespace = $1 AND run_id = $2"
HOLD_RUN = "SELECT * FROM run WHERE namespace = $1 AND run_id = $2 FOR UPDATE"
# Always in the order of their ids, so that two who hold runs wait for one another rather than deadlock.
HOLD_RUNS = "SELECT * FROM run WHERE run_id = ANY($1) ORDER BY run_id FOR UPDATE"
SEE_RUNS = "SELECT *, xmax::text::bigint AS locker FROM run WHERE run_id = ANY($1)"
HOLD_DUE = "SELECT * FROM run WHERE run_id = ANY($1) ORDER BY run_id FOR UPDATE SKIP LOCKED"
TASKS = "SELECT * FROM task WHERE run_id = ANY($1)"
LIST = """
SELECT * FROM run WHERE namespace = $1 AND ($2 = '' OR workflow = $2) AND ($3 = '' OR state = $3)
    AND ($4::uuid IS NULL OR run_id < $4) ORDER BY run_id DESC LIMIT $5
"""
PAST = "SELECT * FROM task_past WHERE run_id = $1 ORDER BY began_at, name LIMIT $2"
# Of the scopes in a task, not of what is in those.
ITEMS = """
FROM (TABLE task UNION ALL TABLE task_past) t
WHERE run_id = $1 AND starts_with(name, $2 || '[') AND right(name, 1) = ']'
    AND strpos(substr(name, length($2) + 2), '[') = 0
"""
OUTPUTS = f"SELECT output {ITEMS} ORDER BY (inner_state->>'index')::int"
OUTPUTS_BYTES = f"SELECT coalesce(sum(pg_column_size(output)), 0) {ITEMS}"
MAX_OUTPUTS_BYTES = 4 * 1024 * 1024
"""The most that the items of one foreach hand on, as it is stored, that is looked at together."""
# A run's id is a UUIDv7 and begins with its time: the primary key finds the old ones.
FORGET_RUNS = """
WITH old AS MATERIALIZED (
    SELECT run_id FROM run r WHERE run_id < $1 AND ended_at < $2
        -- What a strict sequence waits behind stays until somebody has looked at it.
        AND (state <> 'failed' OR (SELECT true FROM trigger WHERE last_run = r.run_id LIMIT 1) IS NULL
            AND (SELECT true FROM schedule WHERE last_run = r.run_id LIMIT 1) IS NULL)
    ORDER BY run_id LIMIT $3 FOR UPDATE OF r SKIP LOCKED
), tasks AS (DELETE FROM task WHERE run_id IN (SELECT run_id FROM old)
), past AS (DELETE FROM task_past WHERE run_id IN (SELECT run_id FROM old)
), plans AS (DELETE FROM run_plan WHERE run_id IN (SELECT run_id FROM old)
), mails AS (DELETE FROM mail WHERE run_id IN (SELECT run_id FROM old)
), attempts AS (DELETE FROM attempt WHERE run_id IN (SELECT run_id FROM old)
)
DELETE FROM run WHERE run_id IN (SELECT run_id FROM old) RETURNING 1
"""
WAITING = """
SELECT r.run_id, coalesce(r.planned_sha256, r.sha256) AS sha256, r.workflow, t.name, t.inner_state, t.began_at, t.due_at
FROM task t JOIN run r USING (run_id)
WHERE t.state = 'waiting' AND r.namespace = $1 AND t.inner_state ? 'votes' ORDER BY t.began_at, t.name LIMIT $2
"""
ATTEMPTS = "SELECT * FROM attempt WHERE run_id = $1 ORDER BY task_id, attempt"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits for people.

    Attributes:
        asked: What is asked, and of whom.
        inner: Its title, and the votes so far.
        due_at: When silence decides; None where it never does.
    """

    run_id: UUID
    workflow: str
    task: str
    asked: Approve
    inner: dict[str, Any]
    began_at: datetime
    due_at: datetime | None


class Runs(Definitions):
    """Runs: read, and held to be decided on.

    Attributes:
        hot: Those that this process has changed last.
    """

    hot: ClassVar[HotRuns] = HotRuns()

    async def run(self, namespace: str, run_id: UUID) -> KeptRun:
        """Return a run with its tasks."""
        return (await self._kept([one(await self.fetch(RUN, namespace, run_id), _named(namespace, run_id))]))[0]

    async def hold_run(self, namespace: str, run_id: UUID) -> KeptRun:
        """Return a run with its tasks, locked."""
        return (await self._kept([one(await self.fetch(HOLD_RUN, namespace, run_id), _named(namespace, run_id))]))[0]

    async def hold_runs(self, run_ids: Iterable[UUID], *, skip_locked: bool = False) -> list[KeptRun]:
        """Return runs with their tasks, locked; those that do not exist are left out."""
        held = await self._kept(await self.fetch(HOLD_DUE if skip_locked else HOLD_RUNS, list(set(run_ids))))
        self.hot.compare(held)
        return held

    async def runs_at_hand(self, run_ids: Iterable[UUID]) -> list[KeptRun]:
        """Return runs with their tasks, to be decided on; those that do not exist are left out.

        In hope they are as this process knows them or finds them without a lock: `save_decisions` finds out whether
        they are so still. Otherwise they are locked.
        """
        if not self.hopes:
            return await self.hold_runs(run_ids)
        wanted = set(run_ids)
        known = self.hot.take(wanted)
        if unknown := wanted - {kept.run.run_id for kept in known}:
            for kept in await self._kept(await self.fetch(SEE_RUNS, list(unknown))):
                kept.size_bytes = sum(map(size_of, kept.run.tasks.values()))
                known.append(kept)
        return sorted(known, key=lambda kept: kept.run.run_id)

    async def list_runs(
        self, namespace: str, workflow: str, state: str, before: UUID | None, limit: int
    ) -> list[KeptRun]:
        """Return runs without their tasks, newest first."""
        rows = await self.fetch(LIST, namespace, workflow, state, before, limit)
        plans = await self.plans(row["planned_sha256"] or row["sha256"] for row in rows)
        return [kept_run(row, plans, {}) for row in rows]

    async def attempts(self, run_id: UUID) -> list[asyncpg.Record]:
        """Return a run's attempts that ended without a result."""
        return await self.fetch(ATTEMPTS, run_id)

    async def waiting(self, namespace: str, limit: int) -> list[Waiting]:
        """Return up to `limit` tasks that wait for people, the oldest first."""
        rows = await self.fetch(WAITING, namespace, limit)
        plans = await self.plans(row["sha256"] for row in rows)
        return [
            Waiting(
                run_id=row["run_id"],
                workflow=row["workflow"],
                task=row["name"],
                asked=plans[row["sha256"]].step(row["name"]).task.approve or Approve(),
                inner=row["inner_state"],
                began_at=row["began_at"],
                due_at=row["due_at"],
            )
            for row in rows
        ]

    async def forget_runs(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` runs that ended before a moment, with their tasks and attempts; return how many."""
        return len(await self.fetch(FORGET_RUNS, first_id(before), before, limit))

    async def due(self) -> tuple[list[UUID], list[Turn]]:
        """Return the runs, and the triggers, schedules and pools, of which something is due."""
        rows = await self.fetch(DUE)
        turns = [Turn(row["namespace"], row["trigger_name"]) for row in rows if row["namespace"]]
        return [row["run_id"] for row in rows if not row["namespace"]], turns

    async def past(self, run_id: UUID, limit: int) -> list[TaskRun]:
        """Return up to `limit` records of a run's scopes that are over, in the order in which they began."""
        return [task_run(row) for row in await self.fetch(PAST, run_id, limit)]

    async def outputs(self, run_id: UUID, name: str) -> list[Any] | None:
        """Return what the items of a foreach handed on, in their order; None when it is too much to be read."""
        ((size,),) = await self.fetch(OUTPUTS_BYTES, run_id, name)
        if size > MAX_OUTPUTS_BYTES:
            return None
        return [row["output"] for row in await self.fetch(OUTPUTS, run_id, name)]

    async def _kept(self, rows: Sequence[asyncpg.Record]) -> list[KeptRun]:
        if not rows:
            return []
        tasks: dict[UUID, dict[str, TaskRun]] = {row["run_id"]: {} for row in rows}
        for row in await self.fetch(TASKS, list(tasks)):
            tasks[row["run_id"]][row["name"]] = task_run(row)
        plans = await self.plans(row["planned_sha256"] or row["sha256"] for row in rows)
        return [kept_run(row, plans, tasks[row["run_id"]]) for row in rows]


def _named(namespace: str, run_id: UUID) -> str:
    return f"run {run_id} in namespace {namespace}"
