"""What follows tasks that have succeeded: their teardown, and their compensation when what they are in has failed."""

from millrace.core.draft import Draft
from millrace.core.paths import ROOT, inside, is_within, leaf, parent, scopes_around
from millrace.core.state import TAKEN_FROM, TASK_OPEN, RunState, TaskRun, TaskState

_UNDONE = (TaskState.FAILED, TaskState.CANCELLED)


def tear_down(draft: Draft, scope: str) -> None:
    """Begin the teardown of each task of a scope that has succeeded, once all that needs it is settled."""
    for name in draft.plan.block(scope).names:
        path = inside(scope, name)
        step, task = draft.plan.step(path), draft.run.tasks.get(path)
        if (
            step.task.teardown is None
            or task is None
            or task.state is not TaskState.SUCCEEDED
            or _has(task, "teardown")
        ):
            continue
        closing = draft.state_of(scope) is TaskState.CLOSING
        if closing or all(draft.is_settled(inside(scope, follower)) for follower in step.followers):
            _begin(draft, task, "teardown")


def compensate_next(draft: Draft, scope: str, outcome: str) -> bool:
    """Begin the compensation of what in a scope succeeded last and is not compensated; return whether there was any.

    Nothing is undone when the run is to succeed: a body that an `end` has stopped has not failed.
    """
    if outcome not in {"failed", "refused", "cancelled"} or draft.run.outcome is RunState.SUCCEEDED:
        return False
    if not draft.plan.block(scope).compensates:
        return False
    done = [task for name, task in draft.run.tasks.items() if is_within(name, scope) and _can_be_undone(draft, task)]
    if not done:
        return False
    last = max(done, key=lambda task: (task.ended_at or draft.now, task.began_at or draft.now, task.name))
    _begin(draft, last, "compensate")
    return True


def puts_in_order(draft: Draft, scope: str) -> bool:
    """Begin what is to be compensated or torn down in a scope that closes; return whether there was anything."""
    outcome = draft.run.outcome if scope == ROOT else draft.run.tasks[scope].outcome
    if compensate_next(draft, scope, str(outcome)):
        return True
    tear_down(draft, scope)
    return goes_on(draft, scope)


def goes_on(draft: Draft, scope: str) -> bool:
    """Return whether a teardown or a compensation in a scope has not ended."""
    return draft.plan.cleans_up and any(
        task.state in TASK_OPEN and is_within(name, scope) for name, task in draft.run.tasks.items()
    )


def concluded(draft: Draft, record: TaskRun) -> None:
    """Take note, with its task, of how a teardown or a compensation ended."""
    task, what = draft.change(parent(record.name)), leaf(record.name)
    task.inner = {**(task.inner or {}), what: str(record.state)}
    if record.state in _UNDONE and what == "compensate" and draft.run.outcome is not None:
        draft.add_cause(f"; the compensation of {task.name} {record.state}: {record.failure or ''}")
    # The scope that it is in may be over itself, and one around it be what goes on.
    draft.todo.extend((around, ()) for around in scopes_around(parent(task.name)))


def _begin(draft: Draft, known: TaskRun, what: str) -> None:
    task = draft.change(known.name)
    task.inner = {**(task.inner or {}), what: str(TaskState.OPEN)}
    draft.open(inside(task.name, what))


def _can_be_undone(draft: Draft, task: TaskRun) -> bool:
    if task.state is not TaskState.SUCCEEDED or _has(task, "compensate") or draft.plan.is_scope(task.name):
        return False
    if _has(task, TAKEN_FROM):
        return False  # what it did belongs to the run that did it
    if draft.plan.step(task.name).task.compensate is None:
        return False
    return not any(draft.plan.block(around).follows for around in scopes_around(parent(task.name)))


def _has(task: TaskRun, what: str) -> bool:
    return what in (task.inner or {})
