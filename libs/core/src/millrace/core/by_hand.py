"""Results that people set by hand, where work cannot or need not be done."""

from dataclasses import replace
from typing import Any

from millrace.core.draft import Draft
from millrace.core.paths import is_within, written
from millrace.core.state import SET_BY, AttemptEnded, Failure, ResultSet, TaskRun, TaskState

SET_BY_HAND = "SetByHand"
MAY_BE_STOPPED = frozenset(
    {TaskState.QUEUED, TaskState.DISPATCHED, TaskState.RUNNING, TaskState.RETRY_WAIT, TaskState.WAITING, TaskState.OPEN}
)


def set_result(draft: Draft, told: ResultSet) -> str | None:
    """Have a task end as somebody says, and stop what it is doing; return why that cannot be, or None."""
    if (reason := _why_not(draft, told)) is not None:
        return reason
    task = draft.change(told.name)
    task.inner = {**(task.inner or {}), SET_BY: told.cause}
    output = told.output if told.state is TaskState.SUCCEEDED else None
    stop_with(draft, task, told.state, Failure(SET_BY_HAND, told.cause, retryable=False), output)
    return None


def stop_with(draft: Draft, task: TaskRun, state: TaskState, why: Failure, output: Any = None) -> None:  # noqa: ANN401
    """Have an open task end in a state, and stop what it is doing; its workers are not waited for.

    Args:
        draft: The decision in the making.
        task: Which.
        state: How it ends.
        why: What its workers are told, and its failure where it has failed.
        output: What it hands on, JSON.
    """
    draft.ask_to_stop(task, why.message)
    if task.token is not None:
        draft.effects.append(AttemptEnded(replace(task, ended_at=draft.now), replace(why, lost=True)))
    if task.state is TaskState.WAITING:
        draft.stop_child(task, why.message)
    task.output = output
    if task.state is TaskState.OPEN:
        draft.close_task(task, state, why if state is TaskState.FAILED else None)
    elif state is TaskState.FAILED:
        draft.fail(task, why)
    else:
        task.failure = None
        draft.settle(task, state)


def _why_not(draft: Draft, told: ResultSet) -> str | None:
    known = draft.run.tasks.get(told.name)
    if known is None or draft.plan.is_scope(told.name):
        return f"run {draft.run.run_id} has no task {told.name!r} that has begun"
    if known.state not in MAY_BE_STOPPED:
        return f"task {told.name} of run {draft.run.run_id} is {known.state}: its result is not to be set any more"
    if _decided_by_people(draft, known):
        return f"task {told.name} is, or has in it, what people decide: it is not decided by setting a result"
    return None


def _decided_by_people(draft: Draft, task: TaskRun) -> bool:
    path = written(task.name)
    return any(
        step.task.approve is not None and (name == path or is_within(name, path))
        for name, step in draft.plan.steps.items()
    )
