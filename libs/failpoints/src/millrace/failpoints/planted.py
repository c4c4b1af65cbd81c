"""Faults that a service can be run with: what proves the promises must find each of them."""

import os
from collections.abc import Callable, Sequence

from millrace.runtime import inbox, outbox
from millrace.runtime.consume.consumer import Consumer
from millrace.runtime.consume.items import Item
from millrace.runtime.handover import Handover, Outgoing
from millrace.runtime.rpc import answers
from millrace.runtime.tasks import workers

END_WHOEVER_ASKS = """
UPDATE job SET state = CASE WHEN t.ok THEN 'done' ELSE 'failed' END
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::bool[]) AS t(task_id, attempt, token, ok)
WHERE job.task_id = t.task_id AND job.attempt = t.attempt
RETURNING job.task_id, job.attempt
"""


def inbox_forgets() -> None:
    """Every event is new, whatever was handled before."""
    inbox.CLAIM = """
    SELECT now() AS now, array(SELECT DISTINCT id FROM unnest($1::uuid[]) AS id) AS fresh,
        EXISTS (SELECT FROM parked_key) AS parked
    """
    inbox.CLAIM_NEW = "SELECT $1::uuid[]"


def outbox_deletes_early() -> None:
    """Rows are deleted as they are read, before the broker has acknowledged them."""
    # Nothing is sent without having been read.
    Handover.take = _nothing  # type: ignore[method-assign, assignment]
    outbox.PAGE = f"""
    WITH page AS (
        DELETE FROM outbox WHERE id IN (
            SELECT id FROM outbox WHERE id <> ALL($1::bigint[]) AND id <> ALL($2::bigint[])
            ORDER BY id LIMIT {outbox.PAGE_ROWS})
        RETURNING {outbox.COLUMNS})
    SELECT * FROM page ORDER BY id
    """


def _nothing(handover: Handover) -> list[Outgoing]:
    handover.look = True
    return []


def relay_without_lock() -> None:
    """Each process has a lock of its own, so that all relays of a database send at once."""
    outbox.LOCK = os.getpid()


def finish_without_token() -> None:
    """Whoever finishes a task may keep its result, whether its lease is still there or not."""
    vars(workers)["END"] = END_WHOEVER_ASKS


def offset_committed_early() -> None:
    """Offsets are committed before the events are settled."""
    settle = Consumer._settle  # noqa: SLF001 - what is planted is inside

    async def commit_then_settle(self: Consumer, items: Sequence[Item]) -> None:
        self._advance(items, {})
        await self._commit()
        await settle(self, items)

    Consumer._settle = commit_then_settle  # type: ignore[method-assign] # noqa: SLF001 - likewise


def answer_not_stored() -> None:
    """A call's answer is not kept: who sends the call again gets nothing."""
    answers.KEEP = "SELECT $1::text, $2::text, $3::text, $4::text, $5::bytea"


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        inbox_forgets,
        outbox_deletes_early,
        relay_without_lock,
        finish_without_token,
        offset_committed_early,
        answer_not_stored,
    )
}


def plant(name: str) -> None:
    """Have this process run with a fault.

    Raises:
        ValueError: There is no such fault.
    """
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name} to plant: there are {', '.join(FAULTS)}")
    FAULTS[name]()
