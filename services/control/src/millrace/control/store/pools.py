"""Pools and quotas as users have put them in force, and how they stand."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import asyncpg
from millrace.control.commands.pools import ApplyPool
from millrace.control.domain.admission import Standing
from millrace.control.store.admission import lines_of, pool_of
from millrace.control.store.signals import Signals
from millrace.core.admission import Line, next_at
from millrace.runtime.transaction import Transaction, one

OPEN = "INSERT INTO admission (namespace) VALUES ($1) ON CONFLICT DO NOTHING"
PUT = """
INSERT INTO pool (namespace, name, slots, rate, shares, principal) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (namespace, name) DO UPDATE SET slots = excluded.slots, rate = excluded.rate, shares = excluded.shares,
    principal = excluded.principal, applied_at = now(),
    full_at = CASE WHEN pool.rate IS NOT DISTINCT FROM excluded.rate THEN pool.full_at END
WHERE (pool.slots, pool.rate, pool.shares) IS DISTINCT FROM (excluded.slots, excluded.rate, excluded.shares)
RETURNING name
"""
SLOTS = "SELECT name, slots FROM pool WHERE namespace = $1 AND name = ANY($2)"
# So that a workflow that names a pool is in force before somebody looks whether it may be deleted.
KEEP_SLOTS = f"{SLOTS} FOR KEY SHARE"
COUNT = "SELECT count(*) FROM pool WHERE namespace = $1"
# At most 10,000 of those that wait are counted.
SHOWN = """
SELECT p.namespace, p.name, p.name AS pool, p.slots, p.rate, p.shares, p.principal, p.applied_at, p.full_at,
    t.taken, t.leases, (SELECT count(*) FROM (SELECT FROM waiter w WHERE w.namespace = p.namespace AND w.pool = p.name
        LIMIT 10000) AS counted)::int AS waiting
FROM pool p CROSS JOIN LATERAL (SELECT coalesce(sum(weight), 0)::int AS taken, count(*)::int AS leases FROM lease l
    WHERE l.namespace = p.namespace AND l.pool = p.name) AS t
WHERE p.namespace = $1
"""
LIST = f"{SHOWN} AND p.name > $2 ORDER BY p.name LIMIT $3"
NAMED = f"{SHOWN} AND p.name = ANY($2)"
HOLDERS = """
SELECT run_id, name, weight, priority, fairness_key, since FROM lease WHERE namespace = $1 AND pool = $2
ORDER BY since, ticket LIMIT $3
"""
# Who goes first but for fairness, which the reader works out of what the flows have had.
WAITERS = """
SELECT w.pool, w.ticket, w.run_id, w.name, w.weight, w.priority, w.fairness_key, w.number, w.since, f.passed
FROM waiter w JOIN flow f USING (namespace, pool, priority, fairness_key)
WHERE w.namespace = $1 AND w.pool = $2 ORDER BY w.priority DESC, w.number LIMIT $3
"""
HOLD_POOL = "SELECT name FROM pool WHERE namespace = $1 AND name = $2 FOR UPDATE"
USED = """
SELECT (SELECT count(*) FROM lease WHERE namespace = $1 AND pool = $2) AS held,
    (SELECT count(*) FROM waiter WHERE namespace = $1 AND pool = $2) AS waiting
"""
DELETE = "DELETE FROM pool WHERE namespace = $1 AND name = $2"
DELETE_FLOWS = "DELETE FROM flow WHERE namespace = $1 AND pool = $2"
# A text in it that looks so may be another field: what is found is looked at.
MAY_NAME = """
SELECT w.name, w.sha256 FROM workflow w JOIN workflow_version v USING (namespace, sha256)
WHERE w.namespace = $1 AND strpos(v.document, $2) > 0 ORDER BY w.name
"""
PUT_QUOTA = """
INSERT INTO admission (namespace, max_leases, principal, applied_at) VALUES ($1, $2, $3, now())
ON CONFLICT (namespace) DO UPDATE SET max_leases = excluded.max_leases, principal = excluded.principal,
    applied_at = excluded.applied_at
WHERE admission.max_leases IS DISTINCT FROM excluded.max_leases RETURNING namespace
"""
QUOTA = """
SELECT a.max_leases, a.principal, a.applied_at,
    (SELECT count(*) FROM lease WHERE namespace = $1)::int AS leases,
    (SELECT count(*) FROM (SELECT FROM waiter WHERE namespace = $1 LIMIT 10000) AS counted)::int AS waiting
FROM (SELECT $1::text AS namespace) AS asked LEFT JOIN admission a USING (namespace)
"""

SHOWN_WAITERS = 1_000
"""The most of those that wait in a pool whose order is worked out for who looks."""


class Pools(Transaction):
    """The pools and quotas of namespaces."""

    signals: ClassVar[Signals]

    def open_admission(self, namespace: str) -> None:
        """Have a namespace have an admission, which can be held from then on."""
        self.write(OPEN, namespace)

    async def put_pool(self, command: ApplyPool) -> bool:
        """Keep a pool; return whether it was not so already."""
        rate = command.rate.model_dump(exclude_none=True) if command.rate is not None else None
        about = (command.namespace, command.name, command.slots, rate, command.shares, command.principal)
        return bool(await self.fetch(PUT, *about))

    async def count_pools(self, namespace: str) -> int:
        """Return how many pools a namespace has."""
        ((count,),) = await self.fetch(COUNT, namespace)
        return int(count)

    async def slots_of(self, namespace: str, pools: Iterable[str], *, keep: bool = False) -> dict[str, int]:
        """Return how many slots some pools have, by name; with `keep`, none is deleted before this has committed."""
        rows = await self.fetch(KEEP_SLOTS if keep else SLOTS, namespace, list(pools))
        return {row["name"]: row["slots"] for row in rows}

    async def shown_pools(self, namespace: str, after: str, limit: int) -> list[asyncpg.Record]:
        """Return up to `limit` pools as they stand, by name, after one."""
        return await self.fetch(LIST, namespace, after, limit)

    async def shown_pool(self, namespace: str, name: str) -> asyncpg.Record:
        """Return a pool as it stands."""
        return one(await self.fetch(NAMED, namespace, [name]), f"pool {name} in namespace {namespace}")

    async def holders(self, namespace: str, pool: str, limit: int) -> list[asyncpg.Record]:
        """Return up to `limit` tasks that hold slots of a pool, who has had them longest first."""
        return await self.fetch(HOLDERS, namespace, pool, limit)

    async def waiters(self, namespace: str, pool: str) -> list[asyncpg.Record]:
        """Return tasks that wait in a pool with what their flows have had, the first of them."""
        return await self.fetch(WAITERS, namespace, pool, SHOWN_WAITERS)

    async def standings(self, namespace: str, pools: Iterable[str]) -> dict[str, Standing]:
        """Return how the lines of some pools stand, by name; those that are not there are left out."""
        wanted = sorted(set(pools))
        rows = await self.fetch(NAMED, namespace, wanted) if wanted else []
        if not rows:
            return {}
        quota = await self.quota(namespace)
        full = quota["max_leases"] is not None and quota["leases"] >= quota["max_leases"]
        found = {}
        for row in rows:
            pool = pool_of(row)
            line = next(iter(lines_of({pool.name: pool}, await self.waiters(namespace, pool.name))), Line(pool))
            found[pool.name] = Standing(line, next_at(pool, self.now), quota["max_leases"] if full else None)
        return found

    async def hold_pool(self, namespace: str, name: str) -> None:
        """Hold a pool, which is then named by no more workflows than are in force.

        Raises:
            NotFound: It does not exist.
        """
        one(await self.fetch(HOLD_POOL, namespace, name), f"pool {name} in namespace {namespace}")

    async def use_of(self, namespace: str, pool: str) -> tuple[int, int]:
        """Return how many tasks hold slots of a pool, and how many wait for some."""
        ((held, waiting),) = await self.fetch(USED, namespace, pool)
        return held, waiting

    async def may_name(self, namespace: str, pool: str) -> list[tuple[str, str]]:
        """Return the workflows in force that may name a pool, each with its version's hash."""
        rows = await self.fetch(MAY_NAME, namespace, f'"{pool}"')
        return [(row["name"], row["sha256"]) for row in rows]

    def delete_pool(self, namespace: str, pool: str) -> None:
        """Have a held pool no more."""
        self.write(DELETE, namespace, pool)
        self.write(DELETE_FLOWS, namespace, pool)

    async def put_quota(self, namespace: str, max_leases: int | None, principal: str) -> bool:
        """Keep a namespace's quota; return whether it was not so already."""
        return bool(await self.fetch(PUT_QUOTA, namespace, max_leases, principal))

    async def quota(self, namespace: str) -> Mapping[str, Any]:
        """Return a namespace's quota, how many tasks hold slots, and how many wait."""
        ((quota),) = await self.fetch(QUOTA, namespace)
        return dict(quota)
