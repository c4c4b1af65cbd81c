"""Which events have had their effect: each one once, whatever is delivered again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from millrace.runtime.transaction import Transaction

HORIZON = timedelta(days=8)
"""How long an event is remembered: the longest retention of a topic and a day."""

# Sorted, so that two transactions that claim the same events wait for one another rather than deadlock.
CLAIM = """
WITH claimed AS (
    INSERT INTO inbox (event_id) SELECT id FROM unnest($1::uuid[]) AS id ORDER BY id
    ON CONFLICT DO NOTHING RETURNING event_id
)
SELECT now() AS now, array(SELECT event_id FROM claimed) AS fresh, EXISTS (SELECT FROM parked_key) AS parked
"""
CLAIM_NEW = "INSERT INTO inbox (event_id) SELECT id FROM unnest($1::uuid[]) AS id ORDER BY id"
# A UUIDv7 begins with its time: the primary key finds the old ones.
FORGET = """
DELETE FROM inbox WHERE event_id IN (SELECT event_id FROM inbox WHERE event_id < $1 ORDER BY event_id LIMIT $2)
RETURNING true
"""


async def claim(tx: Transaction, event_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the events that have not been handled; they are, once this transaction commits."""
    return set((await tx.fetch(CLAIM, list(event_ids)))[0]["fresh"]) if event_ids else set()


async def forget(tx: Transaction, before: datetime, limit: int) -> int:
    """Forget up to `limit` events told before a moment, the oldest first; return how many."""
    return len(await tx.fetch(FORGET, first_id(before), limit))


def first_id(at: datetime) -> UUID:
    """Return the least UUIDv7 of a moment."""
    return UUID(int=int(at.timestamp() * 1000) << 80)
