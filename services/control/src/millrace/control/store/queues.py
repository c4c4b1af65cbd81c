"""Queues of teams as they are kept."""

from collections.abc import Sequence

import asyncpg
from millrace.runtime.transaction import Transaction

ADD = """
INSERT INTO queue (name, namespace, principal) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING name
"""
FOUND = "SELECT name, namespace, principal, applied_at, live FROM queue WHERE name = $1"
OF_NAMESPACE = "SELECT name, namespace, principal, applied_at, live FROM queue WHERE namespace = $1 ORDER BY name"
ALL = "SELECT name, live FROM queue ORDER BY name"
LIVE = "UPDATE queue SET live = true WHERE name = ANY($1) AND NOT live"


class Queues(Transaction):
    """The queues that teams have asked for."""

    async def add_queue(self, namespace: str, name: str, principal: str) -> bool:
        """Keep a queue; return whether nobody had one of this name."""
        return bool(await self.fetch(ADD, name, namespace, principal))

    async def queue(self, name: str) -> asyncpg.Record:
        """Return a queue that is there."""
        return (await self.fetch(FOUND, name))[0]

    async def queues(self, namespace: str) -> list[asyncpg.Record]:
        """Return the queues of a namespace, by name."""
        return await self.fetch(OF_NAMESPACE, namespace)

    async def all_queues(self) -> dict[str, bool]:
        """Return every queue: whether its topics are known to be there."""
        return {row["name"]: row["live"] for row in await self.fetch(ALL)}

    def save_live(self, names: Sequence[str]) -> None:
        """Keep that the topics of some queues are there."""
        self.write(LIVE, [*names])
