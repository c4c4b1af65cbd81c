"""Tasks that wait and hold nobody: for a moment, for a signal, for an event, for people."""

import json
from datetime import datetime
from typing import Any

from millrace.core.attempts import TIMEOUT
from millrace.core.draft import Draft
from millrace.core.moments import moment, seconds
from millrace.core.parts import Approve, Pointer, Wait
from millrace.core.paths import parent
from millrace.core.plan import value_at
from millrace.core.pointer import PointerMissing
from millrace.core.state import AwaitEvent, EventCame, Failure, RunState, Signalled, TaskRun, TaskState, Voted
from millrace.core.triggers import key_text
from millrace.core.values import document_of

INVALID_WAIT, REJECTED, EXPIRED = "InvalidWait", "Rejected", "Expired"
MAX_SIGNALS = 1_000
"""The most signals that a run keeps for tasks that do not wait for them yet."""
MAX_SIGNAL_BYTES = 1024 * 1024
"""The most that comes with all of those."""
MAX_TITLE_CHARS = 2_000
MAX_NAMED = 10


def begin(draft: Draft, task: TaskRun) -> None:
    """Have a task wait, unless what it waits for is there."""
    spec = draft.plan.step(task.name).task
    task.state, task.due_at = TaskState.WAITING, draft.deadline(task)
    if spec.approve is not None:
        task.inner = {"title": _title(draft, task, spec.approve), "votes": []}
    elif spec.wait is not None and spec.wait.signal is not None:
        _take_kept(draft, task, spec.wait.signal)
    elif spec.wait is not None and spec.wait.event is not None:
        _await(draft, task, spec.wait.event, spec.wait.key)
    elif spec.wait is not None:
        _wait_until(draft, task, spec.wait)


def is_due(draft: Draft, task: TaskRun) -> None:
    """Let happen what is due of a task that waits: its moment has come, or its time is up."""
    spec = draft.plan.step(task.name).task
    until = (task.inner or {}).get("until")
    if until is not None and datetime.fromisoformat(until) <= draft.now:
        draft.settle(task, TaskState.SUCCEEDED)
    elif spec.approve is not None:
        told = Failure(EXPIRED, f"nobody decided within {spec.timeout_s:g} s", retryable=False)
        otherwise = spec.approve.expired
        _decide(draft, task, approved=otherwise == "approve", otherwise=otherwise, failure=told)
    else:
        draft.fail(task, Failure(TIMEOUT, f"not done within {spec.timeout_s:g} s in all", retryable=False))


def came(draft: Draft, happened: EventCame) -> str | None:
    """Take the event that tasks wait for; return why it is refused where none of them does, or None."""
    known = [(draft.run.tasks.get(name), task_id) for name, task_id in happened.tasks]
    waiting = [
        task
        for task, task_id in known
        if task is not None and task.task_id == task_id and task.state is TaskState.WAITING
    ]
    for task in waiting:
        _got(draft, draft.change(task.name), dict(happened.event))
    names = ", ".join(name for name, _ in happened.tasks[:MAX_NAMED])
    return None if waiting else f"of run {draft.run.run_id}, {names} waits for no event"


def told(draft: Draft, happened: Signalled | Voted) -> str | None:
    """Take what somebody has told the run; return why it is refused, or None."""
    return _signalled(draft, happened) if isinstance(happened, Signalled) else _voted(draft, happened)


def _signalled(draft: Draft, told: Signalled) -> str | None:
    """Give a signal to the task that has waited for it longest, or keep it."""
    run = draft.run
    waiting = [task for task in run.tasks.values() if _waits_for(draft, task, told.signal)]
    if waiting:
        first = min(waiting, key=lambda task: (task.began_at or draft.now, task.name))
        _got(draft, draft.change(first.name), told.payload)
        return None
    if run.state not in {RunState.PENDING, RunState.RUNNING, RunState.PAUSED}:
        return f"run {run.run_id} is {run.state}"
    if sum(len(json.dumps(payload)) for _, payload in (*run.signals, ("", told.payload))) > MAX_SIGNAL_BYTES:
        return f"run {run.run_id} keeps signals of {MAX_SIGNAL_BYTES} bytes already that no task has waited for"
    if len(run.signals) >= MAX_SIGNALS:
        return f"run {run.run_id} keeps {MAX_SIGNALS} signals already that no task has waited for"
    draft.run_changed = True
    run.signals = (*run.signals, (told.signal, told.payload))
    return None


def _voted(draft: Draft, told: Voted) -> str | None:
    """Count what somebody has decided."""
    known = draft.run.tasks.get(told.name)
    spec = draft.plan.step(told.name).task.approve if known is not None and not draft.plan.is_scope(told.name) else None
    if known is None or spec is None or known.state is not TaskState.WAITING:
        return f"run {draft.run.run_id} has no task {told.name!r} that waits to be decided"
    votes = (known.inner or {})["votes"]
    if any(vote["by"] == told.principal for vote in votes):
        return f"{told.principal} has decided on task {told.name} already"
    task = draft.change(told.name)
    vote = {"by": told.principal, "approve": told.approves, "comment": told.comment, "form": dict(told.form or {})}
    task.inner = {**(known.inner or {}), "votes": [*votes, vote]}
    if not told.approves:
        said = f"{told.principal} rejected it" + (f": {told.comment}" if told.comment else "")
        failure = Failure(REJECTED, said, retryable=False)
        _decide(draft, task, approved=False, otherwise=spec.rejected, failure=failure)
    elif len(votes) + 1 >= spec.need:
        _decide(draft, task, approved=True)
    return None


def _decide(
    draft: Draft, task: TaskRun, *, approved: bool, otherwise: str = "", failure: Failure | None = None
) -> None:
    task.output = {"approved": approved, "votes": (task.inner or {})["votes"]}
    if failure is not None and otherwise == "failed":
        draft.fail(task, failure)
        return
    draft.settle(task, TaskState.SUCCEEDED)
    if failure is not None and otherwise == "refused":
        draft.end(RunState.REFUSED, f"task {task.name}: {failure.message}")


def _title(draft: Draft, task: TaskRun, approve: Approve) -> str:
    if not isinstance(approve.title, Pointer):
        return approve.title
    try:
        document = document_of(draft.run, draft.plan, parent(task.name))
        return str(value_at(approve.title, document))[:MAX_TITLE_CHARS]
    except PointerMissing as error:
        return f"(no title: {error})"


def _waits_for(draft: Draft, task: TaskRun, signal: str) -> bool:
    if task.state is not TaskState.WAITING:
        return False
    wait = draft.plan.step(task.name).task.wait
    return wait is not None and wait.signal == signal


def _take_kept(draft: Draft, task: TaskRun, signal: str) -> None:
    for place, (name, payload) in enumerate(draft.run.signals):
        if name == signal:
            draft.run_changed = True
            draft.run.signals = draft.run.signals[:place] + draft.run.signals[place + 1 :]
            _got(draft, task, payload)
            return


def _got(draft: Draft, task: TaskRun, payload: Any) -> None:  # noqa: ANN401 - a JSON value
    task.output = payload if payload is not None else {}
    draft.settle(task, TaskState.SUCCEEDED)


def _await(draft: Draft, task: TaskRun, trigger: str, wanted: str | Pointer | None) -> None:
    try:
        key = _key(draft, task, wanted)
    except PointerMissing as error:
        draft.fail(task, Failure(INVALID_WAIT, str(error), retryable=False))
        return
    except ValueError as error:
        draft.fail(task, Failure(INVALID_WAIT, f"its key {error}", retryable=False))
        return
    task.inner = {"event": trigger, "key": key}
    draft.effects.append(AwaitEvent(task.name, task.task_id, trigger, key))


def _key(draft: Draft, task: TaskRun, wanted: str | Pointer | None) -> str:
    if not isinstance(wanted, Pointer):
        return wanted or ""
    return key_text(value_at(wanted, document_of(draft.run, draft.plan, parent(task.name))))


def _wait_until(draft: Draft, task: TaskRun, wait: Wait) -> None:
    try:
        until = _moment(draft, task, wait)
    except (PointerMissing, ValueError, TypeError, OverflowError) as error:
        draft.fail(task, Failure(INVALID_WAIT, str(error), retryable=False))
        return
    task.inner, task.due_at = {"until": until.isoformat()}, draft.sooner(task, until)
    if until <= draft.now:
        draft.settle(task, TaskState.SUCCEEDED)


def _moment(draft: Draft, task: TaskRun, wait: Wait) -> datetime:
    given = wait.for_s if wait.for_s is not None else wait.until
    value = (
        value_at(given, document_of(draft.run, draft.plan, parent(task.name))) if isinstance(given, Pointer) else given
    )
    return draft.after(seconds(value, "for_s")) if wait.for_s is not None else moment(value, "until")
