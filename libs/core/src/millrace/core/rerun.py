"""Running again what an earlier run did not come to, with the results of what it did.

A run that is done again is a new run: how the earlier one ended has been told and stays so. It takes over the tasks of
the workflow itself, not of bodies, that

- succeeded or were skipped,
- need nothing that is done again, near or far,
- have not been undone (compensated), and have not been torn down while something that needs them is done again.

A task with bodies is taken over or done again as a whole, but for a `foreach` that came to no good end while all that
it needs did: its list is the same, so that the items that succeeded are taken over by their places in it. Gates and
ends are always decided anew, on what was taken over. What was taken over belongs to the earlier run: the new one does
not undo it.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from millrace.core.difference import changed_fields
from millrace.core.items import taken_up
from millrace.core.paths import ROOT, first_task, is_within, item, parent, scopes_around
from millrace.core.plan import Plan
from millrace.core.state import TAKEN_FROM, Run, TaskRun, TaskState

_DONE = frozenset({TaskState.SUCCEEDED, TaskState.SKIPPED})
#: What may be otherwise in the next version without the result being another one.
_NOT_OF_THE_RESULT = frozenset(
    {"queue", "retries", "queue_timeout_s", "start_timeout_s", "run_timeout_s", "heartbeat_timeout_s", "timeout_s"}
    | {"pool", "weight", "priority", "fairness_key"}
    | {"deadline", "cache", "resources", "compensate", "teardown"}
)


class CannotRerun(ValueError):
    """The run cannot be done again as asked; the text says why, and what can be done."""


def taken_over(
    origin: Run, before: Plan, plan: Plan, start: str = "", items: Mapping[str, Sequence[int]] = MappingProxyType({})
) -> dict[str, TaskRun]:
    """Return the records with which a run begins that does `origin` again.

    Args:
        origin: A run that has ended.
        before: The version that it ran.
        plan: The version that the new run is to run.
        start: A task of the workflow to do again with all that needs it, besides what has failed or was not reached.
        items: Of those of `part_done`, the indexes of the items that succeeded, ascending.

    Raises:
        CannotRerun: There is no such task, nothing is to be done again, or `plan` does otherwise what would be taken
            over.
    """
    if start and start not in plan.block(ROOT).names:
        known = ", ".join(plan.block(ROOT).names)
        raise CannotRerun(f"workflow {plan.workflow.name} itself has no task {start!r}; from one of: {known}")
    again = _again(origin, plan, start)
    if not again:
        raise CannotRerun(f"run {origin.run_id} has left nothing undone: name the task to do again from")
    kept = [name for name in plan.block(ROOT).names if name not in again and not _decides(plan, name)]
    if misfits := [f"{name} ({', '.join(fields)})" for name in kept if (fields := [*_changes(name, before, plan)])]:
        raise CannotRerun(
            f"workflow {plan.workflow.name} does otherwise now what would be taken over: {'; '.join(misfits)}; "
            "rerun from there, or the version that the run had"
        )
    taken = {name: _taken(origin.tasks[name], origin) for name in kept}
    for name in items:
        if name in again and name != start and again.isdisjoint(plan.steps[name].task.needs):
            taken |= _part(origin, before, plan, name, items[name])
    return taken


def part_done(origin: Run, plan: Plan) -> list[str]:
    """Return the tasks that go over a list and have not succeeded, of whose items some may have."""
    return [
        name
        for name in plan.block(ROOT).names
        if plan.steps[name].task.foreach is not None and name in origin.tasks and not _is_done(origin, name)
    ]


def _again(origin: Run, plan: Plan, start: str) -> set[str]:
    """Return the tasks that are done again."""
    names = plan.block(ROOT).names
    undone = {first_task(path) for path, task in origin.tasks.items() if "compensate" in (task.inner or {})}
    left = [name for name in names if name in undone or not _is_done(origin, name)]
    again: set[str] = set()
    waiting = [*left, start] if start else left
    while waiting:
        for name in waiting:
            again |= {name, *plan.steps[name].followers}
        waiting = [name for name in names if name not in again and _torn_down(origin, plan, name, again)]
    return again


def _is_done(origin: Run, name: str) -> bool:
    return name in origin.tasks and origin.tasks[name].state in _DONE


def _torn_down(origin: Run, plan: Plan, name: str, again: set[str]) -> bool:
    """Whether what a task has set up is gone, and something that is done again needs it."""
    return "teardown" in (origin.tasks[name].inner or {}) and not again.isdisjoint(plan.steps[name].followers)


def _decides(plan: Plan, name: str) -> bool:
    task = plan.steps[name].task
    return task.gate is not None or task.end is not None


def _changes(name: str, before: Plan, plan: Plan) -> Iterator[str]:
    """Yield what of a task, and of what is in it, would lead to another result."""
    for path in sorted({*_within(before, name), *_within(plan, name)}):
        where = path.removeprefix(name).lstrip(".")
        if path not in before.steps or path not in plan.steps:
            yield where
            continue
        fields = changed_fields(before.steps[path].task, plan.steps[path].task)
        yield from (f"{where} {field}".lstrip() for field in sorted({*fields} - _NOT_OF_THE_RESULT))


def _within(plan: Plan, name: str) -> Iterator[str]:
    """Yield a task and all in it that makes its result: not what follows it."""
    for path in plan.steps:
        follows = any(plan.block(around).follows for around in scopes_around(parent(path)))
        if (path == name or is_within(path, name)) and not follows:
            yield path


def _part(origin: Run, before: Plan, plan: Plan, name: str, done: Sequence[int]) -> dict[str, TaskRun]:
    """Return the record of a task that goes over a list of which some items are done; none where all is done again."""
    known, inner = origin.tasks[name], origin.tasks[name].inner or {}
    if not done or next(_changes(name, before, plan), None) is not None:
        return {}
    if plan.steps[name].task.compensate is not None or plan.block(item(name, "")).compensates:
        return {}  # what is to be undone together is done together
    taken_up_at = taken_up(inner["total"], done)
    if taken_up_at is None:
        return {}
    return {name: TaskRun(name, known.task_id, TaskState.OPEN, inner=taken_up_at)}


def _taken(task: TaskRun, origin: Run) -> TaskRun:
    taken = task.copy()
    taken.inner = {TAKEN_FROM: str(origin.run_id), **(task.inner or {})}
    return taken
