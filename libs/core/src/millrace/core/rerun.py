"""Running again what an earlier run did not come to, with the results of what it did.

A run that is done again is a new run: how the earlier one ended has been told and stays so. It takes over the tasks of
the workflow itself, not of bodies, that

- succeeded or were skipped,
- need nothing that is done again, near or far,
- have not been undone (compensated), and have not been torn down while something that needs them is done again.

A task with bodies is taken over or done again as a whole. Gates and ends are always decided anew, on what was taken
over. What was taken over belongs to the earlier run: the new one does not undo it.
"""

from collections.abc import Iterator

from millrace.core.difference import changed_fields
from millrace.core.paths import ROOT, first_task, is_within, parent, scopes_around
from millrace.core.plan import Plan
from millrace.core.state import TAKEN_FROM, Run, TaskRun, TaskState

_DONE = frozenset({TaskState.SUCCEEDED, TaskState.SKIPPED})
#: What may be otherwise in the next version without the result being another one.
_NOT_OF_THE_RESULT = frozenset(
    {"queue", "retries", "queue_timeout_s", "run_timeout_s", "heartbeat_timeout_s", "timeout_s"}
    | {"compensate", "teardown"}
)


class CannotRerun(ValueError):
    """The run cannot be done again as asked; the text says why, and what can be done."""


def taken_over(origin: Run, before: Plan, plan: Plan, start: str = "") -> dict[str, TaskRun]:
    """Return the records with which a run begins that does `origin` again.

    Args:
        origin: A run that has ended.
        before: The version that it ran.
        plan: The version that the new run is to run.
        start: A task of the workflow to do again with all that needs it, besides what has failed or was not reached.

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
    return {name: _taken(origin.tasks[name], origin) for name in kept}


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
    for path in sorted({*_part(before, name), *_part(plan, name)}):
        where = path.removeprefix(name).lstrip(".")
        if path not in before.steps or path not in plan.steps:
            yield where
            continue
        fields = changed_fields(before.steps[path].task, plan.steps[path].task)
        yield from (f"{where} {field}".lstrip() for field in sorted({*fields} - _NOT_OF_THE_RESULT))


def _part(plan: Plan, name: str) -> Iterator[str]:
    """Yield a task and all in it that makes its result: not what follows it."""
    for path in plan.steps:
        follows = any(plan.block(around).follows for around in scopes_around(parent(path)))
        if (path == name or is_within(path, name)) and not follows:
            yield path


def _taken(task: TaskRun, origin: Run) -> TaskRun:
    taken = task.copy()
    taken.inner = {TAKEN_FROM: str(origin.run_id), **(task.inner or {})}
    return taken
