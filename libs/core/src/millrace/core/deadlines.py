"""Deadlines of tasks and of runs: one that is missed is told, and what was to be done by then may be stopped."""

from datetime import datetime

from millrace.core.by_hand import MAY_BE_STOPPED, stop_with
from millrace.core.draft import Draft
from millrace.core.moments import moment, seconds
from millrace.core.parts import Deadline, Pointer
from millrace.core.paths import ROOT, parent
from millrace.core.plan import value_at
from millrace.core.pointer import PointerMissing
from millrace.core.state import DeadlineMissed, Failure, RunState, TaskRun, TaskState
from millrace.core.values import document_of, missing

INVALID_DEADLINE, DEADLINE_MISSED = "InvalidDeadline", "DeadlineMissed"


def begin(draft: Draft, task: TaskRun) -> None:
    """Set when a task that begins is to be done; fail it where that cannot be said, or has passed and it says so."""
    deadline = draft.plan.step(task.name).task.deadline
    if deadline is None:
        return
    try:
        task.deadline_at = _moment(draft, parent(task.name), deadline)
    except PointerMissing as error:
        draft.fail(task, missing(error, INVALID_DEADLINE))
        return
    except (ValueError, OverflowError) as error:
        draft.fail(task, Failure(INVALID_DEADLINE, f"deadline: {error}", retryable=False))
        return
    if task.deadline_at <= draft.now:
        _miss(draft, task, deadline)


def begin_run(draft: Draft) -> None:
    """Set when a run that starts is to be done; end it where that cannot be said, or has passed and it says so."""
    deadline = draft.plan.workflow.deadline
    if deadline is None:
        return
    try:
        draft.run.deadline_at = _moment(draft, ROOT, deadline)
    except (PointerMissing, ValueError, OverflowError) as error:
        draft.end(RunState.FAILED, f"the run's deadline: {error}")
        return
    tick_run(draft)


def tick(draft: Draft, task: TaskRun) -> None:
    """Let a task miss its deadline, if that has passed."""
    if task.deadline_at is None or task.deadline_at > draft.now:
        return
    deadline = draft.plan.step(task.name).task.deadline
    if deadline is not None and task.state in MAY_BE_STOPPED:
        _miss(draft, task, deadline)
    else:
        task.deadline_at = None  # it is stopping already


def tick_run(draft: Draft) -> None:
    """Let the run miss its deadline, if that has passed."""
    run, deadline = draft.run, draft.plan.workflow.deadline
    if run.deadline_at is None or run.deadline_at > draft.now:
        return
    draft.run_changed = True
    at, run.deadline_at = run.deadline_at, None
    if deadline is None or run.outcome is not None:
        return  # how it ends is decided already
    run.missed_at = draft.now
    draft.effects.append(DeadlineMissed("", None, at, deadline.action))
    if deadline.action != "notify":
        ending = RunState.FAILED if deadline.action == "fail" else RunState.CANCELLED
        draft.end(ending, f"the run was not done by its deadline, {_told(at)}")


def _miss(draft: Draft, task: TaskRun, deadline: Deadline) -> None:
    at, task.deadline_at, task.missed_at = task.deadline_at or draft.now, None, draft.now
    draft.effects.append(DeadlineMissed(task.name, task.task_id, at, deadline.action))
    if deadline.action == "notify":
        return
    why = Failure(DEADLINE_MISSED, f"not done by its deadline, {_told(at)}", retryable=False)
    stop_with(draft, task, TaskState.FAILED if deadline.action == "fail" else TaskState.CANCELLED, why)


def _moment(draft: Draft, scope: str, deadline: Deadline) -> datetime:
    given = deadline.after_s if deadline.after_s is not None else deadline.at
    value = value_at(given, document_of(draft.run, draft.plan, scope)) if isinstance(given, Pointer) else given
    return draft.after(seconds(value, "after_s")) if deadline.after_s is not None else moment(value, "at")


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
