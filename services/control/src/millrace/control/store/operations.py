"""Runs that something is to be done with, found by a filter."""

from collections.abc import Iterable
from uuid import UUID

from millrace.control.commands.operations import ChangeRuns
from millrace.control.domain.runs import KeptRun
from millrace.control.store.rows import columns, everywhere, task_row
from millrace.control.store.runs import ALL_ITEMS
from millrace.control.store.saved import SAVE_TASKS
from millrace.core.items import TAKEN_ITEMS
from millrace.core.state import TAKEN_FROM
from millrace.runtime.inbox import first_id
from millrace.runtime.transaction import Transaction

LOOKED_AT_FOR_EACH = 20
"""How many runs a page looks at for each that it has, whether they match or not."""
# A run's id is a UUIDv7 and begins with its time: the primary key's order is theirs.
LOOK = """
SELECT run_id, ($4 = '' OR workflow = $4) AND ($5 = '' OR trigger_name = $5) AND state = ANY($6) AS matches
FROM {runs} AS r WHERE namespace = $1 AND run_id >= $2 AND run_id < $3 ORDER BY run_id DESC LIMIT $7
"""
LOOK_OPEN, LOOK_ALL = LOOK.format(runs="run"), LOOK.format(runs=everywhere("run"))
RERUNS = f"""
SELECT DISTINCT ON (rerun_of) rerun_of, run_id FROM {everywhere("run")} AS r
WHERE rerun_of = ANY($1) ORDER BY rerun_of, run_id DESC
"""
# What a list has come to so far; what is in its items is not needed any more.
ITEMS_DONE = f"SELECT (inner_state->>'index')::int AS index {ALL_ITEMS} AND state = 'succeeded' ORDER BY 1"
TAKE_ITEMS = f"""
INSERT INTO task_past (run_id, name, task_id, state, began_at, attempt, failures, losses, ended_at, output, fraction,
    message, inner_state)
SELECT $3::uuid, name, task_id, state, began_at, attempt, failures, losses, ended_at, output, fraction, message,
    jsonb_build_object('{TAKEN_FROM}', run_id) || inner_state
{ALL_ITEMS} AND state = 'succeeded'
"""

_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)


class Operations(Transaction):
    """Runs found for what is done with many."""

    async def runs_matching(self, asked: ChangeRuns) -> tuple[list[UUID], UUID | None]:
        """Return the newest runs of a filter, as many as one page has, and before which run the next page begins."""
        since = first_id(asked.since) if asked.since is not None else _FIRST
        until = first_id(asked.until) if asked.until is not None else _LAST
        before = min(until, asked.before_run_id or _LAST)
        most = asked.limit * LOOKED_AT_FOR_EACH
        filtered = (asked.workflow, asked.trigger, list(asked.wanted))
        look = LOOK_ALL if any(state.ended for state in asked.wanted) else LOOK_OPEN
        rows = await self.fetch(look, asked.namespace, since, before, *filtered, most)
        found = [row["run_id"] for row in rows if row["matches"]]
        if len(found) > asked.limit:
            return found[: asked.limit], found[asked.limit - 1]
        return found, rows[-1]["run_id"] if len(rows) == most else None

    async def items_done(self, run_id: UUID, name: str) -> list[int]:
        """Return the indexes of the items of a foreach that succeeded, ascending."""
        return [row["index"] for row in await self.fetch(ITEMS_DONE, run_id, name)]

    def take_over(self, kept: KeptRun) -> None:
        """Keep the records that a new run takes over, and of lists of which it has some items, those."""
        if rows := [task_row(kept.run.run_id, task) for task in kept.run.tasks.values()]:
            self.write(SAVE_TASKS, *columns(rows))
        for name, task in kept.run.tasks.items():
            if TAKEN_ITEMS in (task.inner or {}):
                self.write(TAKE_ITEMS, kept.rerun_of, name, kept.run.run_id)

    async def reruns(self, run_ids: Iterable[UUID]) -> dict[UUID, UUID]:
        """Return, of those of some runs that were done again, the newest run that does so."""
        return {row["rerun_of"]: row["run_id"] for row in await self.fetch(RERUNS, list(run_ids))}
