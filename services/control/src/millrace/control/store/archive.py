"""Runs that have ended, moved out of the way of those that go on, and dropped when they were kept for long enough."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from millrace.control.domain.archive import Part, missing_parts, part_between
from millrace.control.store.rows import holds_up
from millrace.runtime.inbox import first_id
from millrace.runtime.transaction import Transaction

MOST_RUNS = 100
MOST_ROWS = 1_000
"""Of one table: a run may have any number, each may hold 64 KiB, and a statement has 30 s."""
IN_PIECES = ("task_past", "attempt", "task")
TABLES = (*IN_PIECES, "run_plan", "run")
# What a strict sequence waits behind stays until somebody has looked at it, and what does a run again stays as long as
# that. Each is looked up by its index: what is asked of all that there are once, reads them whole.
ENDED = f"""
SELECT run_id, ended_at FROM run r WHERE ended_at < $1 AND run_id <> ALL($3)
    AND (SELECT true FROM run o WHERE o.run_id = r.rerun_of) IS NULL
    AND CASE WHEN state <> 'failed' THEN true
        WHEN (SELECT true FROM trigger WHERE last_run = r.run_id LIMIT 1) IS NULL
            AND (SELECT true FROM schedule WHERE last_run = r.run_id LIMIT 1) IS NULL THEN true
        ELSE NOT {holds_up("r.run_id")} END
ORDER BY ended_at LIMIT $2 FOR UPDATE OF r SKIP LOCKED
"""
MOVE_SOME = """
WITH gone AS (
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE run_id = ANY($1) LIMIT $2)) RETURNING *
), kept AS (INSERT INTO {table}_archive SELECT * FROM gone RETURNING 1)
SELECT count(*) FROM kept
"""
MOVE = """
WITH plans AS (DELETE FROM run_plan WHERE run_id = ANY($1) RETURNING *
), kept_plans AS (INSERT INTO run_plan_archive SELECT * FROM plans
), runs AS (DELETE FROM run WHERE run_id = ANY($1) RETURNING *
), kept_runs AS (INSERT INTO run_archive SELECT * FROM runs
)
DELETE FROM mail WHERE run_id = ANY($1)
"""
PARTS = "SELECT first_id, end_id FROM archive_part ORDER BY first_id"
ALONE = "LOCK TABLE archive_part IN SHARE ROW EXCLUSIVE MODE"
ADD_PART = "INSERT INTO archive_part (first_id, end_id, last_ended_at) VALUES ($1, $2, $3)"
NOTE_ENDED = """
UPDATE archive_part p SET last_ended_at = n.at FROM (
    SELECT q.first_id, max(n.ended_at) AS at FROM unnest($1::uuid[], $2::timestamptz[]) AS n(run_id, ended_at)
    JOIN archive_part q ON n.run_id >= q.first_id AND n.run_id < q.end_id GROUP BY q.first_id
) AS n WHERE p.first_id = n.first_id AND p.last_ended_at < n.at
"""
OVER = """
DELETE FROM archive_part WHERE first_id = (
    SELECT first_id FROM archive_part WHERE end_id <= $1 AND last_ended_at < $2 ORDER BY first_id LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING first_id, end_id
"""
#: Nobody who reads the archive waits for longer than this behind who drops a part of it.
SOON = "SET LOCAL lock_timeout = '1s'"
# A run has its row in the transaction that writes it the first time: without one, it was moved.
FORGET_MAIL = """
DELETE FROM mail WHERE mail_id IN (
    SELECT mail_id FROM mail m WHERE NOT EXISTS (SELECT FROM run r WHERE r.run_id = m.run_id)
    ORDER BY mail_id LIMIT $1)
RETURNING true
"""


class Archive(Transaction):
    """The archive, which housekeeping alone writes."""

    async def ended_runs(self, before: datetime, limit: int, but: Collection[UUID] = ()) -> dict[UUID, datetime]:
        """Return some of the runs that ended before a moment, locked, each with its end: at most `limit`, and 100."""
        return {row[0]: row[1] for row in await self.fetch(ENDED, before, min(limit, MOST_RUNS), [*but])}

    async def archive(self, runs: Mapping[UUID, datetime], width: timedelta) -> None:
        """Move runs that have ended to the archive, as much of them as one transaction bears.

        Args:
            runs: When they ended; the caller has locked them.
            width: Of the parts that are made.
        """
        run_ids = [*runs]
        await self.make_parts(run_ids, width)
        self.write(NOTE_ENDED, run_ids, [*runs.values()])
        if await self._moved_all(run_ids):
            self.write(MOVE, run_ids)

    async def make_parts(self, run_ids: Sequence[UUID], width: timedelta) -> None:
        """Make the parts of the archive in which some runs are to be, where they are not there."""
        if not missing_parts(run_ids, await self._parts(), width):
            return
        await self.fetch(ALONE)
        for part in missing_parts(run_ids, await self._parts(), width):
            self.write(ADD_PART, part.first_id, part.end_id, part.ends_at)
            for table in TABLES:
                # Attached, and not made as a part: that would keep readers waiting.
                own = f"{table}_archive_{part.name}"
                await self.fetch(f"CREATE TABLE {own} (LIKE {table}_archive INCLUDING ALL)")
                await self.fetch(
                    f"ALTER TABLE {table}_archive ATTACH PARTITION {own} "
                    f"FOR VALUES FROM ('{part.first_id}') TO ('{part.end_id}')"
                )

    async def drop_archive(self, before: datetime, _: int) -> int:
        """Drop a part of the archive whose runs all ended before a moment; return how many."""
        rows = await self.fetch(OVER, first_id(before), before)
        if rows:
            await self.fetch(SOON)
            name = part_between(*rows[0]).name
            # Runs first, as they are read: whoever reads one yet is waited for before anything else is locked.
            await self.fetch(f"DROP TABLE {', '.join(f'{table}_archive_{name}' for table in reversed(TABLES))}")
        return len(rows)

    async def forget_mail(self, _: datetime, limit: int) -> int:
        """Delete up to `limit` things that runs in the archive were to be told; return how many."""
        return len(await self.fetch(FORGET_MAIL, limit))

    async def _moved_all(self, run_ids: Sequence[UUID]) -> bool:
        """Move what belongs to some runs, as much as one transaction bears; return whether nothing is left of it."""
        for table in IN_PIECES:
            ((moved,),) = await self.fetch(MOVE_SOME.format(table=table), run_ids, MOST_ROWS)
            if moved == MOST_ROWS:
                return False
        return True

    async def _parts(self) -> list[Part]:
        return [part_between(*row) for row in await self.fetch(PARTS)]
