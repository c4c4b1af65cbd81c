"""Open attempts of tasks for queues without topics, as their workers lease them."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import ClassVar
from uuid import UUID

import asyncpg
from millrace.contracts import SERVICES
from millrace.contracts.tasks import TaskCancelled, TaskDispatched
from millrace.control.store.definitions import Definitions

TRANSPORTS = "SELECT name, transport FROM queue WHERE name = ANY($1)"
ADD = """
INSERT INTO task_lease (task_id, attempt, token, run_id, queue, kind, dispatched, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8)
"""
CANCEL = "UPDATE task_lease SET cancelled = $3 WHERE task_id = $1 AND attempt = $2 AND ended_at IS NULL"
DROP = "DELETE FROM task_lease WHERE task_id = $1 AND attempt < $2 AND ended_at IS NULL"
DROP_UNLEASED = """
DELETE FROM task_lease WHERE task_id = $1 AND attempt = $2 AND worker IS NULL AND ended_at IS NULL RETURNING run_id
"""
LEASED_BY = "SELECT * FROM task_lease WHERE queue = $1 AND worker = $2 AND request_id = $3 AND ended_at IS NULL"
OF_OTHER_LIVES = """
SELECT * FROM task_lease WHERE queue = $1 AND worker = $2 AND life <> $3 AND ended_at IS NULL LIMIT 500
"""
# As many as fit in one answer, but one at least.
WAITING = """
SELECT task_id, attempt, run_id FROM (
    SELECT *, sum(octet_length(dispatched::text)) OVER (ORDER BY place) - octet_length(dispatched::text) AS before
    FROM (
        SELECT * FROM task_lease WHERE queue = $1 AND worker IS NULL AND ended_at IS NULL AND kind <> ALL($2)
        ORDER BY place LIMIT $3
    ) AS first
) AS sized WHERE before < $4 ORDER BY place
"""
MAX_ANSWER_BYTES = 2 * 1024 * 1024
TAKE = """
UPDATE task_lease SET worker = $3, life = $4, request_id = $5
FROM unnest($1::uuid[], $2::int[]) AS t(task_id, attempt)
WHERE task_lease.task_id = t.task_id AND task_lease.attempt = t.attempt AND worker IS NULL AND ended_at IS NULL
RETURNING task_lease.*
"""
HELD = """
SELECT task_lease.* FROM unnest($1::uuid[], $2::int[], $3::uuid[]) AS t(task_id, attempt, token)
JOIN task_lease ON task_lease.task_id = t.task_id AND task_lease.attempt = t.attempt AND task_lease.token = t.token
WHERE task_lease.worker IS NOT NULL
"""
# Who says again how it ended is told again that it counts.
END = """
UPDATE task_lease SET ended_at = now(), dispatched = '{}', cancelled = NULL
FROM unnest($1::uuid[], $2::int[]) AS t(task_id, attempt)
WHERE task_lease.task_id = t.task_id AND task_lease.attempt = t.attempt
"""
FORGET = """
DELETE FROM task_lease WHERE (task_id, attempt) IN (
    SELECT task_id, attempt FROM task_lease WHERE ended_at < $1 ORDER BY ended_at LIMIT $2) RETURNING task_id
"""

Place = tuple[UUID, int]


class Leases(Definitions):
    """Orders that workers ask for; but for reading, under the lock of their runs only.

    Attributes:
        leased: Whether the tasks of a queue are leased, which never changes, as far as this process knows.
        told_ends: The attempts of which workers have said in this transaction how they ended.
    """

    leased: ClassVar[dict[str, bool]] = dict.fromkeys(SERVICES, False)
    told_ends: frozenset[Place] = frozenset()

    async def leased_queues(self, names: Collection[str]) -> frozenset[str]:
        """Return those of some queues whose tasks are leased; each is looked up once, and a service's never."""
        known = self.leased
        if asked := [name for name in names if name not in known]:
            found = {row["name"]: row["transport"] == "grpc" for row in await self.fetch(TRANSPORTS, asked)}
            self.on_commit(lambda: self.leased.update(found))
            known = known | found
        return frozenset(name for name in names if known.get(name))

    def add_lease(self, order: TaskDispatched, traceparent: str) -> None:
        """Keep an order until its attempt is over."""
        about = (order.task_id, order.attempt, order.token, order.run_id, order.queue, order.kind)
        self.write(ADD, *about, order.model_dump_json(), traceparent)
        self.on_commit(lambda: self.signals.changed([order.queue]))

    def cancel_lease(self, order: TaskCancelled) -> None:
        """Keep that an attempt is to stop, for its worker to be told."""
        self.write(CANCEL, order.task_id, order.attempt, order.reason)

    def drop_leases(self, task_id: UUID, *, before: int) -> None:
        """Forget the orders of a task's attempts before one."""
        self.write(DROP, task_id, before)

    async def drop_unleased(self, task_id: UUID, attempt: int) -> bool:
        """Forget an order that nobody has leased; return whether it was one."""
        return bool(await self.fetch(DROP_UNLEASED, task_id, attempt))

    async def leased_by(self, queue: str, worker: str, request_id: str) -> list[asyncpg.Record]:
        """Return what was leased by one request and is still under way."""
        return await self.fetch(LEASED_BY, queue, worker, request_id)

    async def of_other_lives(self, queue: str, worker: str, life: str) -> list[asyncpg.Record]:
        """Return what a worker had leased in a former life."""
        return await self.fetch(OF_OTHER_LIVES, queue, worker, life)

    async def waiting_orders(self, queue: str, except_kinds: Sequence[str], limit: int) -> list[asyncpg.Record]:
        """Return up to `limit` orders that nobody has leased, the oldest first: as many as fit in an answer."""
        return await self.fetch(WAITING, queue, [*except_kinds], limit, MAX_ANSWER_BYTES)

    async def take_leases(
        self, places: Sequence[Place], worker: str, life: str, request_id: str
    ) -> list[asyncpg.Record]:
        """Lease orders to a worker; return those that nobody else has leased."""
        return await self.fetch(TAKE, [p[0] for p in places], [p[1] for p in places], worker, life, request_id)

    async def held_leases(self, places: Sequence[tuple[UUID, int, UUID]]) -> dict[Place, asyncpg.Record]:
        """Return leases by task and attempt; those whose token is another one are left out."""
        rows = await self.fetch(HELD, *([place[at] for place in places] for at in range(3)))
        return {(row["task_id"], row["attempt"]): row for row in rows}

    def end_leases(self, places: Sequence[Place]) -> None:
        """Keep that workers have said how attempts ended."""
        self.told_ends |= frozenset(places)
        self.write(END, [p[0] for p in places], [p[1] for p in places])

    async def forget_leases(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` leases that ended before a moment; return how many."""
        return len(await self.fetch(FORGET, before, limit))
