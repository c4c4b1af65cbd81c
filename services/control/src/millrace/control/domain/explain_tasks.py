"""What tasks took from the cache or computed, and why; and which deadlines were missed."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from millrace.core.results import Slot
from millrace.core.state import CACHE, Run, TaskRun, TaskState

MAX_TASKS = 20
"""The most tasks of a run that are explained."""
_KEY_CHARS = 12


def asked_keys(run: Run) -> list[str]:
    """Return the keys of results that tasks of a run have asked for and are told nothing of yet."""
    found = (asked["key"] for task, asked in _asked(run) if task.state is TaskState.WAITING)
    return [*islice(found, MAX_TASKS)]


def explain_results(run: Run, slots: Mapping[str, Slot]) -> Iterator[str]:
    """Yield of each task of a run with a cache where its result is from, or why it was computed.

    Args:
        run: Which.
        slots: What there is under the keys of `asked_keys`.
    """
    yield from islice((_result(task, asked, slots.get(asked["key"])) for task, asked in _asked(run)), MAX_TASKS)


def explain_deadlines(run: Run) -> Iterator[str]:
    """Yield when a run and its tasks are to be done, and when they have missed that."""
    yield from _deadline("the run", run)
    told = (line for task in run.tasks.values() for line in _deadline(f"task {task.name}", task))
    yield from islice(told, MAX_TASKS)


def _asked(run: Run) -> Iterator[tuple[TaskRun, Mapping[str, Any]]]:
    for task in run.tasks.values():
        if task.inner is not None and CACHE in task.inner:
            yield task, task.inner[CACHE]


def _result(task: TaskRun, asked: Mapping[str, Any], slot: Slot | None) -> str:
    key = f"key {asked['key'][:_KEY_CHARS]}"
    match asked.get("found"):
        case "hit":
            at = _told(datetime.fromisoformat(asked["at"]))
            return (
                f"task {task.name} is from cache: {key}, computed by run {asked['run_id']} task {asked['task']} at {at}"
            )
        case "miss":
            return f"task {task.name} was not in the cache: {key}: {asked['why']}"
    if task.state is not TaskState.WAITING:
        return f"task {task.name} asked the cache for {key}, and was stopped before it was told anything"
    if slot is None or slot.computing is None:
        return f"task {task.name} has asked the cache for {key}"
    by = slot.computing
    return f"task {task.name} waits for run {by.run_id} task {by.task}, which computes the same: {key}"


def _deadline(what: str, one: Run | TaskRun) -> Iterator[str]:
    if one.missed_at is not None:
        yield f"{what} missed its deadline at {_told(one.missed_at)}"
    elif one.deadline_at is not None:
        yield f"{what} is to be done by {_told(one.deadline_at)}"


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
