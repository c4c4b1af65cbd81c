"""Tasks with bodies: foreach, while, switch, parallel, try. What each opens, and what the end of that means."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from millrace.core.aftercare import concluded
from millrace.core.attempts import TIMEOUT
from millrace.core.draft import OPENED_AT_ONCE, Draft
from millrace.core.expression import ExpressionFailed, LooksIntoArtifact
from millrace.core.ir import Foreach, Parallel, Switch, Try, While
from millrace.core.items import awaits_outputs, next_items
from millrace.core.paths import inside, is_within, item, leaf, parent
from millrace.core.plan import fill_in
from millrace.core.pointer import PointerMissing
from millrace.core.state import TASK_OPEN, Failure, TaskRun, TaskState
from millrace.core.values import LARGE_VALUE, document_of, missing, variables_of

INVALID_WHEN, MISSING_OUTPUT = "InvalidWhen", "MissingOutput"
TOO_MANY_ITERATIONS, NO_QUORUM = "TooManyIterations", "NoQuorum"
NO_ERROR = asdict(Failure("", ""))
"""What a `finally` is told where nothing failed: that it can say so is no reason to fail."""


def not_evaluated(error: ExpressionFailed) -> Failure:
    """Return the failure of a task of which a condition has no truth value, or would look into an artifact."""
    what = LARGE_VALUE if isinstance(error, LooksIntoArtifact) else INVALID_WHEN
    return Failure(what, str(error), retryable=False)


def begin(draft: Draft, task: TaskRun) -> None:
    """Open what a task with bodies begins with."""
    task.state, task.due_at = TaskState.OPEN, draft.deadline(task)
    _go_on(draft, task)


def look(draft: Draft, task: TaskRun) -> None:
    """Go on with a task with bodies after one of them is over, or after it has been stopped."""
    if task.state is TaskState.OPEN:
        _go_on(draft, draft.change(task.name))
    elif task.state is TaskState.CLOSING and not _scopes_in(draft, task) and not awaits_outputs(task):
        _close(draft, draft.change(task.name))


def is_due(draft: Draft, task: TaskRun) -> None:
    """Let happen what is due of a task with bodies: its time is up, or it goes on opening."""
    spec = draft.plan.step(task.name).task
    deadline = draft.deadline(task)
    if deadline is not None and deadline <= draft.now:
        failure = Failure(TIMEOUT, f"not done within {spec.timeout_s:g} s in all", retryable=False)
        draft.close_task(task, TaskState.FAILED, failure)
        return
    if draft.holds_back(task):
        return
    task.due_at = deadline
    _go_on(draft, task)


def conclude(draft: Draft, scope: str, outcome: TaskState, failure: Failure | None) -> None:
    """Have a scope be over, and its task take note."""
    record = draft.change(scope)
    output = draft.plan.block(scope).output
    if outcome is TaskState.SUCCEEDED and output is not None:
        try:
            record.output = fill_in(output, document_of(draft.run, draft.plan, scope))
        except PointerMissing as error:
            outcome, failure = TaskState.FAILED, replace(missing(error, MISSING_OUTPUT), task=scope)
    record.state, record.outcome, record.failure = outcome, None, failure
    record.due_at, record.ended_at = None, draft.now
    block = draft.plan.block(scope)
    if block.follows:
        concluded(draft, record)
    else:
        task = draft.change(parent(scope))
        _note(draft, task, record)
        draft.todo.append((task.name, ()))
    if not block.compensates or outcome is not TaskState.SUCCEEDED:
        draft.retire(scope)


def _note(draft: Draft, task: TaskRun, scope: TaskRun) -> None:
    """Keep, with a task, how one of its scopes ended."""
    spec = draft.plan.step(task.name).task
    told = dict(task.inner or {})
    if spec.foreach is not None:
        counted = {TaskState.SUCCEEDED: "succeeded", TaskState.FAILED: "failed"}.get(scope.state, "cancelled")
        told[counted] = told.get(counted, 0) + 1
        told["open"] -= 1
        if scope.failure is not None:
            told["error"] = asdict(scope.failure)
    elif spec.parallel is not None:
        if scope.state is TaskState.SUCCEEDED:
            task.output = {**(task.output or {}), leaf(scope.name): scope.output}
        told["ended"] = [*told.get("ended", []), [leaf(scope.name), str(scope.state)]]
        if scope.failure is not None:
            told["error"] = asdict(scope.failure)
    else:
        told |= {"ended": str(scope.state), "error": asdict(scope.failure) if scope.failure else None}
        if scope.state is TaskState.SUCCEEDED and not scope.name.endswith(".finally"):
            task.output = scope.output
        if spec.while_ is not None:
            told["iteration"] += 1
    task.inner = told


def _go_on(draft: Draft, task: TaskRun) -> None:
    spec = draft.plan.step(task.name).task
    if spec.kind is not None:
        _end_as_its_scope(draft, task)  # it has planned
        return
    construct = spec.foreach or spec.while_ or spec.switch or spec.parallel or spec.try_
    try:
        _NEXT[type(construct)](draft, task, construct)
    except ExpressionFailed as error:
        draft.close_task(task, TaskState.FAILED, not_evaluated(error))


def _close(draft: Draft, task: TaskRun) -> None:
    """Have a task that is closing be over, once all in it is."""
    spec = draft.plan.step(task.name).task
    if spec.try_ is not None and _finally(draft, task, spec.try_):
        return
    match task.outcome:
        case TaskState.SUCCEEDED:
            draft.succeed(task, task.output)
        case TaskState.FAILED:
            task.outcome = None
            draft.fail(task, task.failure or Failure("Failed", ""))
        case outcome:
            task.outcome = None
            draft.settle(task, outcome or TaskState.CANCELLED)


# What each goes on with while it is open.


def _next_iteration(draft: Draft, task: TaskRun, loop: While) -> None:
    inner = task.inner or {"iteration": 0}
    if (error := inner.get("error")) is not None:
        draft.close_task(task, TaskState.FAILED, Failure(**error))
        return
    if draft.opened >= OPENED_AT_ONCE:
        task.due_at = draft.now
        return
    task.inner = {"iteration": inner["iteration"]}
    if not _holds(draft, task, 0):
        draft.succeed(task, task.output)
    elif inner["iteration"] >= loop.max_iterations:
        told = Failure(TOO_MANY_ITERATIONS, f"goes on after {loop.max_iterations} times", retryable=False)
        draft.close_task(task, TaskState.FAILED, told)
    else:
        index = inner["iteration"]
        draft.open(item(task.name, str(index)), {"index": index, "last": task.output})


def _next_case(draft: Draft, task: TaskRun, switch: Switch) -> None:
    if task.inner is not None:
        _end_as_its_scope(draft, task)
        return
    chosen = next((case.name for n, case in enumerate(switch.cases) if _holds(draft, task, n)), None)
    if chosen is None and switch.default is None:
        draft.succeed(task, None)
        return
    task.inner = {"case": chosen or "default"}
    draft.open(inside(task.name, chosen or "default"))


def _next_branches(draft: Draft, task: TaskRun, parallel: Parallel) -> None:
    if task.inner is None:
        task.inner = {"ended": []}
        for name in parallel.branches:
            draft.open(inside(task.name, name))
        return
    states = [state for _, state in task.inner["ended"]]
    quorum = parallel.quorum or len(parallel.branches)
    succeeded = states.count(TaskState.SUCCEEDED)
    if succeeded >= quorum:
        draft.close_task(task, TaskState.SUCCEEDED)
    elif len(states) - succeeded > len(parallel.branches) - quorum:
        last = Failure(**task.inner["error"])
        told = f"{quorum} of {len(parallel.branches)} branches must succeed; the last failure: {last}"
        draft.close_task(task, TaskState.FAILED, Failure(NO_QUORUM, told, retryable=False) if parallel.quorum else last)


def _next_phase(draft: Draft, task: TaskRun, attempt: Try) -> None:
    inner = dict(task.inner or {})
    if not inner:
        task.inner = {"phase": "do"}
        draft.open(inside(task.name, "do"))
        return
    failed = inner["ended"] != TaskState.SUCCEEDED
    if failed and inner["phase"] == "do":
        for number, catch in enumerate(attempt.catch):
            if (not catch.errors or inner["error"]["error"] in catch.errors) and _holds(draft, task, number):
                task.inner = {"phase": "catch", "error": inner["error"]}
                draft.open(inside(task.name, f"catch{number}"), {"error": inner["error"]})
                return
    failure = Failure(**inner["error"]) if failed else None
    task.state, task.outcome, task.failure = TaskState.CLOSING, _outcome(failure), failure
    task.due_at = None
    _close(draft, task)


def _finally(draft: Draft, task: TaskRun, attempt: Try) -> bool:
    """Open what is done last, if there is such and it has not been; take note when it has failed."""
    inner = dict(task.inner or {})
    if inner.get("phase") == "finally":
        if inner["error"] is not None:
            task.outcome, task.failure = TaskState.FAILED, Failure(**inner["error"])
        return False
    if attempt.finally_ is None:
        return False
    task.inner = {**inner, "phase": "finally", "error": inner.get("error")}
    draft.open(inside(task.name, "finally"), {"error": inner.get("error") or NO_ERROR})
    return True


_NEXT: Mapping[type, Callable[[Draft, TaskRun, Any], None]] = {
    Foreach: next_items,
    While: _next_iteration,
    Switch: _next_case,
    Parallel: _next_branches,
    Try: _next_phase,
}


def _end_as_its_scope(draft: Draft, task: TaskRun) -> None:
    error = (task.inner or {})["error"]
    if error is None:
        draft.succeed(task, task.output)
    else:
        draft.close_task(task, TaskState.FAILED, Failure(**error))


def _scopes_in(draft: Draft, task: TaskRun) -> bool:
    return any(t.state in TASK_OPEN and is_within(name, task.name) for name, t in draft.run.tasks.items())


def _holds(draft: Draft, task: TaskRun, number: int) -> bool:
    """Whether a condition of what a task does holds, seen from within it."""
    condition = draft.plan.step(task.name).conditions[number]
    if condition is None:
        return True
    return condition.holds(variables_of(draft.run, draft.plan, parent(task.name), condition, within=task.name))


def _outcome(failure: Failure | None) -> TaskState:
    return TaskState.SUCCEEDED if failure is None else TaskState.FAILED
