"""Queues of teams as they are kept."""

from collections.abc import Sequence

import asyncpg
from millrace.runtime.transaction import Transaction

ADD = """
INSERT INTO queue (name, namespace, principal, transport, live) VALUES ($1, $2, $3, $4, $4 = 'grpc')
ON CONFLICT DO NOTHING RETURNING name
"""
FOUND = "SELECT name, namespace, principal, applied_at, live, transport FROM queue WHERE name = $1"
OF_NAMESPACE = """
SELECT name, namespace, principal, applied_at, live, transport FROM queue WHERE namespace = $1 AND name > $2
ORDER BY name LIMIT $3
"""
WITH_TOPICS = "SELECT name, live FROM queue WHERE transport = 'kafka' ORDER BY name"
LIVE = """
UPDATE queue SET live = true
WHERE name IN (SELECT name FROM queue WHERE name = ANY($1) AND NOT live ORDER BY name FOR UPDATE)
"""


class Queues(Transaction):
    """The queues that teams have asked for."""

    async def add_queue(self, namespace: str, name: str, principal: str, transport: str) -> bool:
        """Keep a queue; return whether nobody had one of this name."""
        return bool(await self.fetch(ADD, name, namespace, principal, transport))

    async def queue(self, name: str) -> asyncpg.Record:
        """Return a queue that is there."""
        return (await self.fetch(FOUND, name))[0]

    async def queues(self, namespace: str, after: str = "", limit: int | None = None) -> list[asyncpg.Record]:
        """Return up to `limit` queues of a namespace, by name, after one; all where that is not given."""
        return await self.fetch(OF_NAMESPACE, namespace, after, limit)

    async def all_queues(self) -> dict[str, bool]:
        """Return every queue that has topics: whether those are known to be there."""
        return {row["name"]: row["live"] for row in await self.fetch(WITH_TOPICS)}

    def save_live(self, names: Sequence[str]) -> None:
        """Keep that the topics of some queues are there."""
        self.write(LIVE, [*names])
