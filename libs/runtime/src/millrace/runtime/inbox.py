"""Which events have had their effect: each one once, whatever is delivered again."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from millrace.runtime.transaction import Transaction, Transactions

HORIZON = timedelta(days=8)
"""How long an event is remembered: the longest retention of a topic and a day."""

# Sorted, so that two transactions that claim the same events wait for one another rather than deadlock.
CLAIM = """
INSERT INTO inbox (event_id) SELECT id FROM unnest($1::uuid[]) AS id ORDER BY id
ON CONFLICT DO NOTHING RETURNING event_id
"""
PAGE_ROWS = 10_000
PRUNE = f"""
DELETE FROM inbox WHERE event_id IN (SELECT event_id FROM inbox WHERE event_id < $1 ORDER BY event_id LIMIT {PAGE_ROWS})
RETURNING true
"""


async def claim(tx: Transaction, event_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the events that have not been handled; they are, once this transaction commits."""
    if not event_ids:
        return set()
    return {row["event_id"] for row in await tx.fetch(CLAIM, list(event_ids))}


async def prune(begin: Transactions[Any]) -> None:
    """Forget events older than the horizon, page by page: a UUIDv7 begins with its time.

    Raises:
        Unavailable: The database does not answer; what is left is forgotten the next time.
    """
    forgotten = PAGE_ROWS
    while forgotten == PAGE_ROWS:
        async with begin() as tx:
            oldest_ms = int((tx.now - HORIZON).timestamp() * 1000)
            forgotten = len(await tx.fetch(PRUNE, UUID(int=oldest_ms << 80)))
