"""Tasks that start runs of other workflows, and wait for their ends."""

import json
from uuid import UUID

from millrace.core.attempts import LARGE_INPUT, MAX_INPUT_BYTES, TIMEOUT
from millrace.core.draft import CHILD, Draft
from millrace.core.parts import Subflow
from millrace.core.paths import parent
from millrace.core.plan import fill_in
from millrace.core.pointer import PointerMissing
from millrace.core.state import ChildEnded, Failure, RunState, StartChild, TaskRun, TaskState
from millrace.core.values import document_of, missing

MAX_CHAIN = 8
"""How many runs may have started one another."""
TOO_DEEP = f"runs start one another more than {MAX_CHAIN} deep"


def begin(draft: Draft, task: TaskRun, subflow: Subflow) -> None:
    """Start a run of another workflow, or fail when there is nothing to start it with."""
    try:
        data = fill_in(subflow.data, document_of(draft.run, draft.plan, parent(task.name)))
    except PointerMissing as error:
        draft.fail(task, missing(error))
        return
    if (size := len(json.dumps(data))) > MAX_INPUT_BYTES:
        told = f"its data has {size} bytes, more than {MAX_INPUT_BYTES}: hand on references"
        draft.fail(task, Failure(LARGE_INPUT, told, retryable=False))
        return
    run_id = draft.new_id()
    task.state, task.due_at, task.inner = TaskState.WAITING, draft.deadline(task), {CHILD: str(run_id)}
    draft.effects.append(StartChild(task.name, task.task_id, run_id, subflow.workflow, data))


def is_due(draft: Draft, task: TaskRun) -> None:
    """Wait no longer: for an end that was asked for, or because the task's time is up."""
    if task.state is TaskState.CLOSING:
        draft.give_up(task)
        return
    limit_s = draft.plan.step(task.name).task.timeout_s
    draft.stop_child(task, "its time is up")
    draft.fail(task, Failure(TIMEOUT, f"not done within {limit_s:g} s in all", retryable=False))


def ended(draft: Draft, told: ChildEnded) -> str | None:
    """Take how a run ended that a task has started; return why that changed nothing, or None."""
    known = draft.run.tasks.get(told.name)
    if known is None or known.task_id != told.task_id or known.state not in {TaskState.WAITING, TaskState.CLOSING}:
        return f"run {draft.run.run_id} has no task {told.task_id} named {told.name!r} that waits for a run"
    task = draft.change(told.name)
    task.outcome = None
    if told.state is RunState.SUCCEEDED:
        task.output = told.output
        draft.settle(task, TaskState.SUCCEEDED)
    elif task.state is TaskState.CLOSING:
        draft.settle(task, TaskState.CANCELLED)
    else:
        error = f"Subflow{told.state.capitalize()}"
        draft.fail(task, Failure(error, f"run {_child(task)} {told.state}: {told.cause}", retryable=False))
    return None


def _child(task: TaskRun) -> UUID:
    return UUID((task.inner or {})[CHILD])
