"""What goes when it is past its time, as rules: those of the tables that every service has."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from millrace.runtime import inbox
from millrace.runtime.database import Transactions
from millrace.runtime.failpoints import failpoint
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.transaction import Transaction

S = TypeVar("S", bound=Transaction)

BATCH_ROWS = 500

Forget = Callable[[S, datetime, int], Awaitable[int]]
"""Deletes at most so many things from before a moment, and returns how many: 0 when none is left."""

FORGET_HELD = """
DELETE FROM held WHERE (consumer, topic, partition, "offset") IN (
    SELECT consumer, topic, partition, "offset" FROM held
    WHERE state = 'dead' AND held_at < $1 ORDER BY held_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""
FORGET_REQUESTS = """
DELETE FROM request WHERE (namespace, principal, method, request_id) IN (
    SELECT namespace, principal, method, request_id FROM request
    WHERE time < $1 ORDER BY time LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""
# A task's id is a UUIDv7 and begins with its time: the primary key finds the old ones.
FORGET_JOBS = """
DELETE FROM job WHERE (task_id, attempt) IN (
    SELECT task_id, attempt FROM job WHERE task_id < $1 AND state <> 'leased' AND heartbeat_at < $2
    ORDER BY task_id, attempt LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING true
"""
FORGET_STREAMS = """
DELETE FROM stream WHERE (topic, key) IN (
    SELECT topic, key FROM stream WHERE told_on < $1 ORDER BY told_on LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING true
"""


@dataclass(frozen=True)
class Rule:
    """Something that goes when it is past its time.

    Attributes:
        what: Names it in the metrics.
        batches: Removes one small batch each time it is asked for the next, says how much that was, and ends when
            nothing is left to remove.
    """

    what: str
    batches: Callable[[], AsyncIterator[int]]


def older_than(keep: timedelta, what: str, forget: Forget[S], begin: Transactions[S]) -> Rule:
    """Return a rule by which rows of a service's own tables go once they are older than `keep`."""

    async def batches() -> AsyncIterator[int]:
        gone = 1
        while gone:
            async with begin() as tx:
                gone = await forget(tx, tx.now - keep, BATCH_ROWS)
                await failpoint("housekeeping.removed")
            yield gone

    return Rule(what, batches)


def runtime_rules(settings: ServiceSettings, begin: Transactions[Any]) -> tuple[Rule, ...]:
    """Return the rules of the runtime's own tables; what is parked and what is leased stays whatever its age."""
    return (
        older_than(settings.inbox_horizon, "inbox", inbox.forget, begin),
        older_than(settings.held_retention, "held", forget_held, begin),
        older_than(settings.request_retention, "request", forget_requests, begin),
        older_than(settings.job_retention, "job", forget_jobs, begin),
        older_than(settings.stream_retention, "stream", forget_streams, begin),
    )


async def forget_held(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete events that were given up, not those that wait behind their key."""
    return len(await tx.fetch(FORGET_HELD, before, limit))


async def forget_requests(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete stored answers, which are the audit rows as well."""
    return len(await tx.fetch(FORGET_REQUESTS, before, limit))


async def forget_jobs(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete attempts that have ended."""
    return len(await tx.fetch(FORGET_JOBS, inbox.first_id(before), before, limit))


async def forget_streams(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete the counts of keys that have long had no event, such as those of runs."""
    return len(await tx.fetch(FORGET_STREAMS, before.date(), limit))
