"""Tasks that wait for events that triggers take, as they are kept; who hands events out holds the trigger's row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from millrace.control.store.gatherings import Gatherings
from millrace.control.store.triggers import HeldTrigger
from millrace.core.state import AwaitEvent

ADD = "INSERT INTO awaited (namespace, trigger, key, run_id, name, task_id) VALUES ($1, $2, $3, $4, $5, $6)"
# Before they are read: what is added meanwhile stays fresh, and is looked at once more.
TAKE_UP = """
WITH first AS (SELECT DISTINCT key FROM awaited WHERE namespace = $1 AND trigger = $2 AND fresh LIMIT $3)
UPDATE awaited SET fresh = false WHERE namespace = $1 AND trigger = $2 AND key IN (TABLE first) AND fresh RETURNING key
"""
_WAITS = """EXISTS (SELECT FROM task t WHERE (t.run_id, t.name, t.task_id) = (a.run_id, a.name, a.task_id)
    AND t.state = 'waiting')"""
AWAITED = f"""
SELECT awaited_id, key, run_id, name, task_id FROM awaited a
WHERE namespace = $1 AND trigger = $2 AND key = ANY($3) AND {_WAITS} ORDER BY awaited_id
"""
REMOVE = "DELETE FROM awaited WHERE awaited_id = ANY($1)"
FORGET = f"""
DELETE FROM awaited WHERE awaited_id IN (
    SELECT awaited_id FROM awaited a WHERE NOT {_WAITS} ORDER BY awaited_id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1
"""
THERE = """
SELECT name, document->>'key' AS key FROM trigger WHERE namespace = $1 AND name = ANY($2) AND workflow IS NULL
"""


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A task that waits for an event."""

    awaited_id: int
    run_id: UUID
    name: str
    task_id: UUID

    @property
    def place(self) -> tuple[str, UUID]:
        """Return the task's path and id."""
        return self.name, self.task_id


class Awaited(Gatherings):
    """Tasks that wait for events, by the triggers that take those."""

    def add_awaited(self, namespace: str, run_id: UUID, asked: AwaitEvent) -> None:
        """Keep that a task waits; the trigger is looked at for it at once."""
        self.write(ADD, namespace, asked.trigger, asked.key, run_id, asked.name, asked.task_id)
        self.wake(None)

    async def take_up_awaited(self, held: HeldTrigger, limit: int) -> list[str]:
        """Return up to `limit` keys under which tasks have begun to wait for events of a held trigger."""
        return sorted({row["key"] for row in await self.fetch(TAKE_UP, *held.key, limit)})

    async def awaiting(self, held: HeldTrigger, keys: Sequence[str]) -> dict[str, list[Awaiting]]:
        """Return the tasks that wait for events of a held trigger, by key, in the order in which they began to."""
        found: dict[str, list[Awaiting]] = {}
        for row in await self.fetch(AWAITED, *held.key, list(keys)):
            made = Awaiting(row["awaited_id"], row["run_id"], row["name"], row["task_id"])
            found.setdefault(row["key"], []).append(made)
        return found

    def remove_awaited(self, told: Sequence[Awaiting]) -> None:
        """Keep that tasks wait no more."""
        self.write(REMOVE, [one.awaited_id for one in told])

    async def forget_awaited(self, _: datetime, limit: int) -> int:
        """Delete up to `limit` of what tasks no longer wait for; return how many."""
        return len(await self.fetch(FORGET, limit))

    async def handing_triggers(self, namespace: str, names: Iterable[str]) -> dict[str, str | None]:
        """Return those of some triggers that are there and hand their events to tasks, each with where its key is."""
        return {row["name"]: row["key"] for row in await self.fetch(THERE, namespace, [*names])}
