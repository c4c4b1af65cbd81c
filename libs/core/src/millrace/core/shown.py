"""How a run is shown: its tasks in the workflow's order, each followed by what is in it."""

import re
from collections.abc import Callable, Iterator, Mapping

from millrace.core.paths import ROOT, inside, parent
from millrace.core.plan import Plan
from millrace.core.state import SET_BY, TaskRun, TaskState

_NUMBER = re.compile(r"(\d+)")
_BECAME = {TaskState.SKIPPED: "was skipped", TaskState.CANCELLED: "was cancelled"}


def in_order(plan: Plan, tasks: Mapping[str, TaskRun]) -> Iterator[tuple[str, TaskRun | None]]:
    """Yield the tasks and scopes of a run, each before what is in it; None for a task whose turn has not come.

    Args:
        plan: What the run does.
        tasks: Its records, with those of scopes that are over as far as they are to be shown.
    """
    scopes: dict[str, list[str]] = {}
    for name in tasks:
        if plan.is_scope(name):
            scopes.setdefault(parent(name), []).append(name)
    yield from _in_scope(ROOT, tasks, scopes, plan)


def _in_scope(
    scope: str, tasks: Mapping[str, TaskRun], scopes: dict[str, list[str]], plan: Plan
) -> Iterator[tuple[str, TaskRun | None]]:
    for own in plan.workflow.tasks if scope == ROOT else plan.block(scope).names:
        name = inside(scope, own)
        yield name, tasks.get(name)
        for inner in sorted(scopes.get(name, ()), key=_natural):
            yield inner, tasks[inner]
            yield from _in_scope(inner, tasks, scopes, plan)


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Return a key by which item 2 comes before item 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _NUMBER.split(path)]


def kind_of(name: str, plan: Plan) -> str:
    """Return what a task is: the kind of its work, or its form; `body` for a scope."""
    if plan.is_scope(name):
        return "body"
    task = plan.step(name).task
    return task.kind or task.form


def waits_for(task: TaskRun, plan: Plan) -> str:
    """Return what a task waits for that waits for a signal or an event; nothing where it waits for neither."""
    wait = plan.step(task.name).task.wait if task.state is TaskState.WAITING else None
    if wait is None or not (wait.signal or wait.event):
        return ""
    if wait.signal is not None:
        return f"waits for the signal {wait.signal}"
    key = (task.inner or {}).get("key")
    return f"waits for an event that trigger {wait.event} takes" + (f" under key {key!r}" if key else "")


def skipped_because(task: TaskRun, plan: Plan, record: Callable[[str], TaskRun | None]) -> str:
    """Return why a task was skipped, in words; nothing where it was not, or where somebody has said so by hand.

    Args:
        task: Which.
        plan: What its run does.
        record: Returns the record of a task of its scope, by its path.
    """
    if task.state is not TaskState.SKIPPED or SET_BY in (task.inner or {}):
        return ""
    spec = plan.step(task.name).task
    needed = {need: record(inside(parent(task.name), need)) for need in spec.needs}
    unmet = [
        f"{need}, which {_BECAME.get(one.state, one.state)}"
        for need, one in needed.items()
        if one is not None and one.state is not TaskState.SUCCEEDED
    ]
    if spec.run_if == "succeeded" and unmet:
        return f"it needs {' and '.join(unmet)}"
    return f"its `when` was false: {spec.when}" if spec.when is not None else ""


def fraction_of(task: TaskRun) -> float:
    """Return how far a task is, 0 to 1; of a foreach, how many of its items are over."""
    inner = task.inner or {}
    if "total" in inner:
        over = sum(inner.get(how, 0) for how in ("succeeded", "failed", "cancelled"))
        return float(over / inner["total"]) if inner["total"] else 1.0
    return task.fraction


def duration_s(task: TaskRun) -> float:
    """Return how long its latest attempt took, from dispatch; of what has none, how long it was under way."""
    began_at = task.dispatched_at or task.began_at
    if began_at is None or task.ended_at is None:
        return 0.0
    return max(0.0, (task.ended_at - began_at).total_seconds())
