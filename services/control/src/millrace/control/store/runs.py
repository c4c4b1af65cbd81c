"""Runs and their tasks as they are kept: read, and held to be decided on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
from millrace.control.domain.runs import KeptRun
from millrace.control.store.definitions import Definitions
from millrace.control.store.due import LOOK, Turn, look_of
from millrace.control.store.hot import HotRuns
from millrace.control.store.rows import everywhere, kept_run, size_of, task_run
from millrace.core.parts import Approve
from millrace.core.paths import ROOT, scopes_around
from millrace.core.plan import Plan
from millrace.core.state import RunState, TaskRun
from millrace.runtime.transaction import one

RUN = "SELECT * FROM run WHERE namespace = $1 AND run_id = $2"
HOLD_RUN = "SELECT * FROM run WHERE namespace = $1 AND run_id = $2 FOR UPDATE"
# Always in the order of their ids, so that two who hold runs wait for one another rather than deadlock.
HOLD_RUNS = "SELECT * FROM run WHERE run_id = ANY($1) ORDER BY run_id FOR UPDATE"
SEE_RUNS = "SELECT *, xmax::text::bigint AS locker FROM run WHERE run_id = ANY($1)"
ARCHIVED_RUN = "SELECT * FROM run_archive WHERE namespace = $1 AND run_id = $2"
# Held there too: of two who do the same runs again, one sees what the other has begun.
HOLD_ARCHIVED = "SELECT * FROM run_archive WHERE run_id = ANY($1) ORDER BY run_id FOR UPDATE"
HOLD_DUE = "SELECT * FROM run WHERE run_id = ANY($1) ORDER BY run_id FOR UPDATE SKIP LOCKED"
TASKS = "SELECT * FROM task WHERE run_id = ANY($1)"
# Of runs that have ended, which are moved between two looks.
ALL_TASKS = f"SELECT * FROM {everywhere('task')} AS t WHERE run_id = ANY($1)"
LIST = """
SELECT * FROM {runs} AS r WHERE namespace = $1 AND ($2 = '' OR workflow = $2) AND {state}
    AND ($3::uuid IS NULL OR run_id < $3) ORDER BY run_id DESC LIMIT $4
"""
# By state, in so many words: the planner is to see which index finds them, and how few there are.
LISTS = {
    state: LIST.format(
        runs="run" if state and not RunState(state).ended else everywhere("run"),
        state=f"state = '{state}'" if state else "true",
    )
    for state in ("", *map(str, RunState))
}
# Of items and iterations that are over, which a page has; `before` are the records of those before it on the page.
# What a record is in, or is, is its name up to the last `]`: keys have none.
_ITEM = r"substring(name FROM '^.*\]')"
PAST_ITEMS = f"""
WITH past AS MATERIALIZED (
    SELECT name, state, coalesce(began_at, 'epoch') AS began_at, {_ITEM} AS item
    FROM {everywhere("task_past")} AS t WHERE run_id = $1 AND strpos(name, ']') > 0
), page AS (
    SELECT name, (state <> 'failed')::int AS fine, began_at FROM past
    WHERE name = item AND ($3 = '' OR state = $3)
        AND ($4::int IS NULL OR ((state <> 'failed')::int, began_at, name) > ($4, $5::timestamptz, $6::text))
    ORDER BY fine, began_at, name LIMIT $2
)
SELECT page.*, sum(records) OVER (ORDER BY fine, page.began_at, name) - records AS before
FROM page JOIN (SELECT item, count(*) AS records FROM past GROUP BY item) AS c ON c.item = name
ORDER BY fine, began_at, name
"""
PAST = f"""
SELECT * FROM {everywhere("task_past")} AS t WHERE run_id = $1 AND coalesce({_ITEM}, '') = ANY($2)
ORDER BY began_at, name
"""
MOST_RECORDS = 1_000
"""A page of items has no further one once it has so many records."""
# Of the scopes in a task, not of what is in those.
_ITEMS = """
FROM ({tables}) AS t
WHERE run_id = $1 AND starts_with(name, $2 || '[') AND right(name, 1) = ']'
    AND strpos(substr(name, length($2) + 2), '[') = 0
"""
ITEMS = _ITEMS.format(tables="TABLE task UNION ALL TABLE task_past")
ALL_ITEMS = _ITEMS.format(tables=f"{everywhere('task')} UNION ALL {everywhere('task_past')}")
OUTPUTS = f"SELECT output {ITEMS} ORDER BY (inner_state->>'index')::int"
OUTPUTS_BYTES = f"SELECT coalesce(sum(pg_column_size(output)), 0) {ITEMS}"
MAX_OUTPUTS_BYTES = 4 * 1024 * 1024
"""The most that the items of one foreach hand on, as it is stored, that is looked at together."""
WAITING = """
SELECT r.run_id, coalesce(r.planned_sha256, r.sha256) AS sha256, r.workflow, t.name, t.inner_state, t.began_at, t.due_at
FROM task t JOIN run r USING (run_id)
WHERE t.state = 'waiting' AND r.namespace = $1 AND t.inner_state ? 'votes'
    AND ($3::timestamptz IS NULL OR (t.began_at, r.run_id, t.name) > ($3, $4::uuid, $5::text))
ORDER BY t.began_at, r.run_id, t.name LIMIT $2
"""
ATTEMPTS = f"""
SELECT * FROM (
    SELECT * FROM {everywhere("attempt")} AS a WHERE run_id = $1 ORDER BY ended_at DESC, task_id, attempt DESC LIMIT $2
) AS latest
ORDER BY task_id, attempt
"""


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


@dataclass(frozen=True, slots=True)
class Past:
    """A page of what is over in a run that goes on, or of one that has ended.

    Attributes:
        records: The items and iterations with all that is in them and that they are in, and what is in none.
        next_after: Where the next page begins; empty after the last.
    """

    records: list[TaskRun]
    next_after: str


class Runs(Definitions):
    """Runs: read, and held to be decided on.

    Attributes:
        hot: Those that this process has changed last.
    """

    hot: ClassVar[HotRuns] = HotRuns()

    async def run(self, namespace: str, run_id: UUID) -> KeptRun:
        """Return a run with its tasks."""
        return await self._one(RUN, namespace, run_id)

    async def hold_run(self, namespace: str, run_id: UUID) -> KeptRun:
        """Return a run with its tasks, locked, or from the archive, where it never changes."""
        return await self._one(HOLD_RUN, namespace, run_id)

    async def hold_runs(self, run_ids: Iterable[UUID], *, skip_locked: bool = False) -> list[KeptRun]:
        """Return runs with their tasks, locked; those that do not exist or are in the archive are left out."""
        held = await self._kept(await self.fetch(HOLD_DUE if skip_locked else HOLD_RUNS, list(set(run_ids))))
        self.hot.compare(held)
        return held

    async def hold_runs_anywhere(self, run_ids: Iterable[UUID]) -> list[KeptRun]:
        """Return runs with their tasks, locked, also those in the archive; those that do not exist are left out."""
        held = await self.hold_runs(wanted := set(run_ids))
        if archived := wanted - {kept.run.run_id for kept in held}:
            held += await self._kept(await self.fetch(HOLD_ARCHIVED, list(archived)))
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
        rows = await self.fetch(LISTS[state], namespace, workflow, before, limit)
        plans = await self._plans(rows)
        return [kept_run(row, plans, {}) for row in rows]

    async def attempts(self, run_id: UUID, limit: int = 200) -> list[asyncpg.Record]:
        """Return up to `limit` of a run's attempts that ended without a result, those that ended last."""
        return await self.fetch(ATTEMPTS, run_id, limit)

    async def waiting(
        self, namespace: str, limit: int, after: tuple[datetime, UUID, str] | None = None
    ) -> list[Waiting]:
        """Return up to `limit` tasks that wait for people, the oldest first, after one's time, run and name."""
        rows = await self.fetch(WAITING, namespace, limit, *(after or (None, None, None)))
        plans = await self.plans((row["sha256"] for row in rows), (row["run_id"] for row in rows))
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

    async def due(self) -> tuple[Sequence[UUID], Sequence[Turn]]:
        """Return the runs, and the triggers, schedules and pools, of which something is due."""
        look = look_of((await self.fetch(LOOK))[0])
        return look.runs, look.turns

    async def past(
        self, run_id: UUID, limit: int, state: str = "", after: tuple[int, datetime, str] | None = None
    ) -> Past:
        """Return up to `limit` items of a run that are over, with what is in them: those that failed first.

        Args:
            run_id: Which run.
            limit: How many at most, as they began; fewer where they have more than `MOST_RECORDS` records.
            state: Only those in this one.
            after: Whether the last one of the page before had not failed, when it began, and its path.
        """
        rows = await self.fetch(PAST_ITEMS, run_id, limit + 1, state, *(after or (None, None, None)))
        page = [row for row in rows[:limit] if row["before"] < MOST_RECORDS]
        last = page[-1] if len(page) < len(rows) else None
        scopes = {ROOT, *(scope for row in page for scope in scopes_around(row["name"]))}
        records = [task_run(row) for row in await self.fetch(PAST, run_id, list(scopes))]
        return Past(records, f"{last['fine']} {last['began_at'].isoformat()} {last['name']}" if last else "")

    async def outputs(self, run_id: UUID, name: str) -> list[Any] | None:
        """Return what the items of a foreach handed on, in their order; None when it is too much to be read."""
        ((size,),) = await self.fetch(OUTPUTS_BYTES, run_id, name)
        if size > MAX_OUTPUTS_BYTES:
            return None
        return [row["output"] for row in await self.fetch(OUTPUTS, run_id, name)]

    async def _one(self, sql: str, namespace: str, run_id: UUID) -> KeptRun:
        # Who does not find it here any more finds it there: it is moved in one transaction.
        rows = await self.fetch(sql, namespace, run_id) or await self.fetch(ARCHIVED_RUN, namespace, run_id)
        return (await self._kept([one(rows, f"run {run_id} in namespace {namespace}")]))[0]

    async def _kept(self, rows: Sequence[asyncpg.Record]) -> list[KeptRun]:
        if not rows:
            return []
        tasks: dict[UUID, dict[str, TaskRun]] = {row["run_id"]: {} for row in rows}
        ended = any(row["ended_at"] is not None for row in rows)
        for row in await self.fetch(ALL_TASKS if ended else TASKS, list(tasks)):
            tasks[row["run_id"]][row["name"]] = task_run(row)
        plans = await self._plans(rows)
        return [kept_run(row, plans, tasks[row["run_id"]]) for row in rows]

    async def _plans(self, rows: Sequence[asyncpg.Record]) -> dict[str, Plan]:
        return await self.plans(
            (row["planned_sha256"] or row["sha256"] for row in rows),
            (row["run_id"] for row in rows if row["planned_sha256"]),
        )
