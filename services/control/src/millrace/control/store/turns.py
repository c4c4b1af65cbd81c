"""Whose turn it is: the runs of one trigger, schedule or backfill, its queue, in their places."""

from uuid import UUID

from millrace.control.store.rows import holds_up
from millrace.core.triggers import OpenRun
from millrace.runtime.transaction import Transaction

OPEN = """
SELECT run_id, started_at IS NULL AS waits FROM run
WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND ended_at IS NULL
    AND (NOT $3 OR started_at IS NULL) ORDER BY place LIMIT $4
"""
BEGUN = """
SELECT count(*) FROM (
    SELECT FROM run WHERE namespace = $1 AND trigger_name = $2 AND place IS NOT NULL AND ended_at IS NULL
        AND place < coalesce((SELECT place FROM run WHERE namespace = $1 AND trigger_name = $2
            AND place IS NOT NULL AND started_at IS NULL AND ended_at IS NULL ORDER BY place LIMIT 1), $4)
    ORDER BY place LIMIT $3
) AS first
"""
FAILED = f"SELECT {holds_up('$1')}"
MAX_THERE = 1_000
"""How many open runs are looked at where a new one stands in their place."""


class Turns(Transaction):
    """Runs in the queue of what starts them."""

    async def open_in(
        self, namespace: str, queue: str, *, limit: int = MAX_THERE, waiting: bool = False
    ) -> list[OpenRun]:
        """Return the first runs of a queue that have not ended, or of those that wait."""
        rows = await self.fetch(OPEN, namespace, queue, waiting, limit)
        return [OpenRun(row["run_id"], row["waits"]) for row in rows]

    async def begun_in(self, namespace: str, queue: str, queued: int, at_most: int) -> int:
        """Return how many runs of a queue, of `queued` so far, have begun and not ended; not more than `at_most`."""
        ((count,),) = await self.fetch(BEGUN, namespace, queue, at_most, queued + 1)
        return int(count)

    async def has_failed(self, run_id: UUID) -> bool:
        """Return whether a run has failed, and still has."""
        ((failed,),) = await self.fetch(FAILED, run_id)
        return bool(failed)
