"""What was changed of a run, in lines for people."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal
from uuid import UUID

from millrace.control.domain.runs import KeptRun
from millrace.core.items import TAKEN_ITEMS
from millrace.core.state import TAKEN_FROM, TASK_OPEN, Run, TaskRun

MOST_LINES = 100
"""The most that is told of one run."""


@dataclass(frozen=True, slots=True)
class Change:
    """A run as it stands now, and what was changed of it, a line each."""

    kept: KeptRun
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of many runs.

    Attributes:
        reason: Why it was refused.
        rerun_run_id: The run that does it again.
    """

    kept: KeptRun
    outcome: Literal["changed", "would_change", "refused"]
    changes: tuple[str, ...] = ()
    reason: str = ""
    rerun_run_id: UUID | None = None


def changes(before: Run, after: Run) -> tuple[str, ...]:
    """Return what differs between two states of a run: `run: running -> paused`, `fit: running -> cancelling`."""
    lines = [*islice(_lines(before, after), MOST_LINES + 1)]
    return tuple(lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], "and more"])


def _lines(before: Run, after: Run) -> Iterator[str]:
    if before.state != after.state:
        yield f"run: {before.state} -> {after.state}"
    yield from (f"run: keeps signal {name}" for name, _ in after.signals[len(before.signals) :])
    for name, task in after.tasks.items():
        was = before.tasks.get(name)
        if was is None:
            yield f"{name}: {_found(task)}"
        elif was.state != task.state:
            yield f"{name}: {was.state} -> {task.state}"
    yield from (
        f"{name}: {was.state} -> over"
        for name, was in before.tasks.items()
        if was.state in TASK_OPEN and name not in after.tasks
    )


def _found(task: TaskRun) -> str:
    inner = task.inner or {}
    if TAKEN_ITEMS in inner:
        return f"{task.state}, {inner[TAKEN_ITEMS]} of {inner['total']} items taken over"
    return f"taken over, {task.state}" if TAKEN_FROM in inner else str(task.state)
