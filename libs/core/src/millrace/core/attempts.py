"""Attempts of work: dispatched, heard of, timed out, tried again."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from millrace.core import caching, chains, slots
from millrace.core.backoff import backoff_s
from millrace.core.draft import Draft
from millrace.core.expression import ExpressionFailed
from millrace.core.parts import Backoff
from millrace.core.paths import parent
from millrace.core.plan import fill_in
from millrace.core.planning import PLAN, splice
from millrace.core.pointer import PointerMissing
from millrace.core.state import (
    ATTEMPT_OPEN,
    TICKET,
    Admitted,
    AttemptEnded,
    AttemptFact,
    CacheAnswered,
    CancelAcknowledged,
    Dispatch,
    Failure,
    Progressed,
    Started,
    Succeeded,
    TaskRun,
    TaskState,
)
from millrace.core.values import document_of, missing, variables_of

MAX_INPUT_BYTES = 256 * 1024
"""The most that an attempt is given: larger values travel as artifacts."""

QUEUE_TIMEOUT, START_TIMEOUT, RUN_TIMEOUT, HEARTBEAT_TIMEOUT, TIMEOUT = (
    "QueueTimeout",
    "StartTimeout",
    "RunTimeout",
    "HeartbeatTimeout",
    "Timeout",
)
LARGE_INPUT = "LargeInput"


def begin(draft: Draft, task: TaskRun) -> None:
    """Begin a task's next attempt, or fail it when there is no input for it.

    It asks for its result first, where that may be known, and waits for slots then, if it takes any.
    """
    given = _input(draft, task)
    if given is None:
        return
    spec = draft.plan.step(task.name).task
    if caching.must_ask(task, spec):
        try:
            caching.ask(draft, task, spec, given)
        except PointerMissing as error:
            draft.fail(task, missing(error))
    elif spec.pool is not None:
        slots.ask(draft, task)
    else:
        _dispatch(draft, task, given)


def admitted(draft: Draft, told: Admitted) -> str | None:
    """Dispatch a task that has the slots that it waited for; return why that cannot be, or None."""
    known = draft.run.tasks.get(told.name)
    if known is None or known.state is not TaskState.QUEUED or (known.inner or {}).get(TICKET) != str(told.ticket):
        return f"run {draft.run.run_id} has no task {told.name!r} that waits for slots with ticket {told.ticket}"
    task = draft.change(told.name)
    given = _input(draft, task)
    if given is not None:
        _dispatch(draft, task, given)
    return None


def _input(draft: Draft, task: TaskRun) -> Any:  # noqa: ANN401 - a JSON object
    """Return what a task is given; None where it has failed because there is no such thing, or too much of it."""
    step = draft.plan.step(task.name)
    given = step.task.input
    try:
        if step.has_pointers:
            given = fill_in(given, document_of(draft.run, draft.plan, parent(task.name)))
    except PointerMissing as error:
        draft.fail(task, missing(error))
        return None
    if step.has_pointers and (size := len(json.dumps(given))) > MAX_INPUT_BYTES:
        told = f"its input has {size} bytes, more than {MAX_INPUT_BYTES}: hand on references"
        draft.fail(task, Failure(LARGE_INPUT, told, retryable=False))
        return None
    return given


def _dispatch(draft: Draft, task: TaskRun, given: Any) -> None:  # noqa: ANN401 - likewise
    """Hand a task's next attempt to its queue."""
    token = draft.new_id()
    draft.dispatched(task, token)
    chain = chains.links_of(draft, task, token)
    draft.effects.append(Dispatch(task.name, task.task_id, task.attempt, token, given, task.carried, chain))


def take_answer(draft: Draft, told: CacheAnswered) -> str | None:
    """Take the answer to what a task has asked of the cache; return why it changed nothing, or None."""
    task, reason = caching.answer(draft, told)
    if task is not None:
        begin(draft, task)
    return reason


def take_fact(draft: Draft, fact: AttemptFact) -> str | None:
    """Take what a worker says of an attempt; return why it changed nothing, or None."""
    reason = _take_fact(draft, fact)
    if isinstance(fact, Succeeded) and fact.went_on:
        chains.take_next(draft, fact, counts=reason is None)
    return reason


def _take_fact(draft: Draft, fact: AttemptFact) -> str | None:
    known = draft.run.tasks.get(fact.name)
    if known is None or known.task_id != fact.task_id:
        return f"run {draft.run.run_id} has no open task {fact.task_id} named {fact.name!r}"
    if known.state not in ATTEMPT_OPEN or known.attempt != fact.attempt or known.token != fact.token:
        return f"task {fact.task_id} is {known.state} at attempt {known.attempt}: attempt {fact.attempt} is over"
    if isinstance(fact, Started | Progressed):
        return _alive(draft, known, fact)
    task = draft.change(known.name)
    task.carried = fact.carried or task.carried
    if isinstance(fact, Succeeded):
        _succeeded(draft, task, fact.output)
    elif isinstance(fact, CancelAcknowledged):
        _ended(draft, task, Failure("Cancelled", "the worker stopped", lost=True))
    else:
        _ended(draft, task, fact.failure)
    return None


def is_due(draft: Draft, task: TaskRun) -> None:
    """Let happen what is due of a task of work."""
    if task.state is TaskState.CANCELLING:
        draft.give_up(task)
        return
    limits = draft.plan.step(task.name).task
    if (deadline := draft.deadline(task)) is not None and deadline <= draft.now:
        failure = Failure(TIMEOUT, f"not done within {limits.timeout_s:g} s in all", retryable=False)
    elif task.state is TaskState.RETRY_WAIT:
        if not draft.holds_back(task):
            begin(draft, task)
        return
    elif task.state is TaskState.WAITING:
        return  # for what the cache tells it
    elif task.started_at is None and _not_started_in_time(draft, task):
        failure = Failure(START_TIMEOUT, f"not started within {limits.start_timeout_s:g} s of its dispatch", lost=True)
    elif task.started_at is None:
        failure = Failure(QUEUE_TIMEOUT, f"not started within {limits.queue_timeout_s:g} s", lost=True)
    elif task.started_at + timedelta(seconds=limits.run_timeout_s) <= draft.now:
        failure = Failure(RUN_TIMEOUT, f"not finished within {limits.run_timeout_s:g} s")
    else:
        failure = Failure(HEARTBEAT_TIMEOUT, f"not heard of for {limits.heartbeat_timeout_s:g} s", lost=True)
    draft.ask_to_stop(task, str(failure))
    _ended(draft, task, failure)


def _not_started_in_time(draft: Draft, task: TaskRun) -> bool:
    limit_s = draft.plan.step(task.name).task.start_timeout_s
    return (
        limit_s is not None
        and task.dispatched_at is not None
        and task.dispatched_at + timedelta(seconds=limit_s) <= draft.now
    )


def _alive(draft: Draft, known: TaskRun, fact: Started | Progressed) -> str | None:
    if known.state is TaskState.CANCELLING:
        return f"task {fact.task_id} is being cancelled"
    if isinstance(fact, Started) and known.started_at is not None:
        return f"attempt {fact.attempt} of task {fact.task_id} has started already"
    task = draft.change(known.name)
    task.state = TaskState.RUNNING
    task.started_at = task.started_at or draft.now
    task.seen_at = draft.now
    task.carried = fact.carried or task.carried
    if isinstance(fact, Progressed) and fact.fraction is not None:
        task.fraction, task.message = fact.fraction, fact.message
    limits = draft.plan.step(task.name).task
    silent = draft.after(limits.heartbeat_timeout_s)
    task.due_at = draft.sooner(task, min(task.started_at + timedelta(seconds=limits.run_timeout_s), silent))
    return None


def _ended(draft: Draft, task: TaskRun, failure: Failure) -> None:
    """Retry a task whose attempt ended without a result, if its budgets allow, else fail it."""
    if task.token is not None:
        draft.effects.append(AttemptEnded(replace(task, ended_at=draft.now), failure))
    task.failure = failure
    if task.state is TaskState.CANCELLING:
        draft.settle(task, TaskState.CANCELLED)
        return
    retries = draft.plan.step(task.name).task.retries
    policy: Backoff = retries
    if failure.lost:
        task.losses += 1
        again, used = task.losses <= retries.lost, task.losses
    else:
        task.failures += 1
        try:
            policy = _policy(draft, task, failure)
        except ExpressionFailed as error:
            draft.fail(task, replace(failure, message=f"{failure.message}; a rule for retries: {error}"))
            return
        again, used = failure.retryable and task.failures < policy.max_attempts, task.failures
    if not again:
        draft.fail(task, failure)
        return
    draft.free(task)
    task.state, task.token = TaskState.RETRY_WAIT, None
    wait_s = backoff_s(policy, used, task.task_id, task.attempt)
    task.due_at = draft.sooner(task, draft.after(wait_s))


def _succeeded(draft: Draft, task: TaskRun, output: Any) -> None:  # noqa: ANN401 - a JSON value
    plans = draft.plan.step(task.name).task.plans and isinstance(output, dict) and output.keys() == {PLAN}
    if plans and task.state is TaskState.CANCELLING:
        draft.settle(task, TaskState.CANCELLED)  # what it planned is not begun
    elif plans:
        draft.free(task)
        splice(draft, task, output[PLAN])
    else:
        task.output = output
        if task.carried is not None:
            task.carried = replace(task.carried, checkpoint=None)  # nobody goes on from there
        draft.settle(task, TaskState.SUCCEEDED)


def _policy(draft: Draft, task: TaskRun, failure: Failure) -> Backoff:
    """Return how often a task is tried after a failure: as the first rule that applies says, else as the task does."""
    step, scope = draft.plan.step(task.name), parent(task.name)
    for rule, condition in zip(step.task.retries.rules, step.conditions, strict=True):
        if rule.errors and failure.error not in rule.errors:
            continue
        if condition is None or condition.holds(
            variables_of(draft.run, draft.plan, scope, condition, task.name, failure)
        ):
            return rule
    return step.task.retries
