"""Results that are kept under their keys: who takes one, who computes it, and who waits for that."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from millrace.core.cache_key import differing
from millrace.core.state import AskCache, CacheAnswered, TellCache

Wakes = Literal["nobody", "next", "all"]
"""Who of those that wait under a key is to ask again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a task has come to.

    Attributes:
        run_id: The run in which it was computed, and the task's path there.
        at: When it was.
        expires_at: When it may go.
        parts: What its key is made of.
    """

    output: Any
    run_id: UUID
    task: str
    at: datetime
    expires_at: datetime
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Computing:
    """A task that computes what others wait for."""

    run_id: UUID
    task: str
    task_id: UUID


@dataclass(frozen=True, slots=True)
class Slot:
    """What there is under one key."""

    result: Result | None = None
    computing: Computing | None = None


def ask(
    slot: Slot, run_id: UUID, asked: AskCache, now: datetime, latest: Result | None = None
) -> tuple[Slot, CacheAnswered | None]:
    """Return what is under a key after a task has asked for it, and what that is told; None: it is to wait.

    Args:
        slot: What there was.
        run_id: The run of the task.
        asked: What it asks.
        now: When.
        latest: The latest result of the same kind of work, for why there is none of this key.
    """
    found = slot.result
    fresh = found is not None and now - found.at < timedelta(seconds=asked.expires_s)
    if found is not None and fresh and not asked.refresh:
        source = {"run_id": str(found.run_id), "task": found.task, "at": found.at.isoformat()}
        return slot, CacheAnswered(asked.name, asked.task_id, "hit", output=found.output, source=source)
    mine = Computing(run_id, asked.name, asked.task_id)
    others = slot.computing is not None and slot.computing != mine
    if others and not asked.refresh:
        return slot, None
    why = _why_not(asked, found, latest)
    return slot if others else replace(slot, computing=mine), CacheAnswered(asked.name, asked.task_id, "miss", why=why)


def tell(slot: Slot, run_id: UUID, told: TellCache, now: datetime) -> tuple[Slot, Wakes]:
    """Return what is under a key after a task that has asked for it is settled, and who is to ask again."""
    computed = slot.computing is not None and slot.computing.task_id == told.task_id
    left = replace(slot, computing=None) if computed else slot
    if told.kept_s is None:
        return left, "next" if computed else "nobody"
    expires_at = now + timedelta(seconds=told.kept_s)
    return replace(left, result=Result(told.output, run_id, told.name, now, expires_at, told.parts)), "all"


def _why_not(asked: AskCache, found: Result | None, latest: Result | None) -> str:
    if asked.refresh:
        return "the run computes all of it anew"
    if found is not None:
        of = f"that of run {found.run_id}, task {found.task}, at {found.at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{of}, is older than {asked.expires_s:g} s"
    if latest is None:
        return f"no result of {asked.kind} is kept"
    other = ", ".join(differing(asked.parts, latest.parts))
    return f"the latest result of {asked.kind}, of run {latest.run_id}, task {latest.task}, differs in {other}"


class Results:
    """Results of runs in one process, with who waits for them."""

    def __init__(self) -> None:
        self._slots: defaultdict[str, Slot] = defaultdict(Slot)
        self._latest: dict[str, Result] = {}
        self._waiting: defaultdict[str, deque[tuple[UUID, AskCache]]] = defaultdict(deque)

    def ask(self, run_id: UUID, asked: AskCache, now: datetime) -> list[tuple[UUID, CacheAnswered]]:
        """Take what a task asks; return what is to be told to whom now."""
        slot, answered = ask(self._slots[asked.key], run_id, asked, now, self._latest.get(asked.kind))
        self._slots[asked.key] = slot
        if answered is not None:
            return [(run_id, answered)]
        self._waiting[asked.key].append((run_id, asked))
        return []

    def tell(self, run_id: UUID, told: TellCache, now: datetime) -> list[tuple[UUID, CacheAnswered]]:
        """Take what a task came to; return what is to be told to whom now."""
        waiting = self._waiting[told.key]
        self._waiting[told.key] = waiting = deque(one for one in waiting if one[1].task_id != told.task_id)
        self._slots[told.key], wakes = tell(self._slots[told.key], run_id, told, now)
        if told.kept_s is not None and (kept := self._slots[told.key].result) is not None:
            self._latest[told.kind] = kept
        again = [waiting.popleft() for _ in range({"nobody": 0, "next": 1, "all": len(waiting)}[wakes]) if waiting]
        return [answer for who, asked in again for answer in self.ask(who, asked, now)]

    def waits(self) -> bool:
        """Return whether anybody computes, or waits for who does."""
        return any(slot.computing for slot in self._slots.values()) or any(self._waiting.values())
