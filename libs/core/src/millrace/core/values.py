"""What conditions, inputs and outputs of a run can see: what is settled in a scope and around it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from millrace.core.expression import Condition, LooksIntoArtifact
from millrace.core.ir import Foreach
from millrace.core.parse import TOLD
from millrace.core.parts import Pointer
from millrace.core.paths import inside, leaf, parent, scopes_around
from millrace.core.plan import Plan, value_at
from millrace.core.pointer import KeptElsewhere, PointerMissing
from millrace.core.references import ITEMS, ItemsElsewhere, has_references, is_reference, looked_into, told
from millrace.core.state import TASK_OPEN, Failure, Run, TaskRun, TaskState

MISSING_INPUT, LARGE_VALUE = "MissingInput", "LargeValue"


def missing(error: PointerMissing, otherwise: str = MISSING_INPUT) -> Failure:
    """Return the failure of a task that takes a value from where there is none, or from within an artifact."""
    return Failure(LARGE_VALUE if isinstance(error, KeptElsewhere) else otherwise, str(error), retryable=False)


def variables_of(
    run: Run, plan: Plan, scope: str, condition: Condition, within: str = "", failure: Failure | None = None
) -> dict[str, Any]:
    """Return what a condition in a scope reads, and no more: converting values is most of its cost.

    Args:
        run: The run.
        plan: What it does.
        scope: Which.
        condition: What is to be evaluated.
        within: A task of the scope, when the condition also sees what that tells its bodies.
        failure: What has just failed in that.

    Raises:
        LooksIntoArtifact: It reads what is kept as an artifact, or might.
    """
    variables: dict[str, Any] = {}
    if "outputs" in condition.variables or "status" in condition.variables:
        settled = _settled(run, plan, scope)
        if "outputs" in condition.variables:
            variables["outputs"] = {
                name: task.output
                for name, task in settled.items()
                if task.state is TaskState.SUCCEEDED and (condition.outputs is None or name in condition.outputs)
            }
        if "status" in condition.variables:
            variables["status"] = {name: str(task.state) for name, task in settled.items()}
    if "trigger" in condition.variables:
        variables["trigger"] = run.trigger
    if told := condition.variables.intersection(TOLD):
        found = _told(run, plan, scope, within)
        if failure is not None:
            found["error"][leaf(within)] = asdict(failure)
        variables |= {name: found[name] for name in told}
    if has_references(variables) and (place := looked_into(condition.text, variables)):
        raise LooksIntoArtifact(f"{condition.text!r} cannot be evaluated: {place}")
    return variables


def document_of(run: Run, plan: Plan, scope: str) -> dict[str, Any]:
    """Return what pointers in a scope lead into."""
    return {
        "trigger": run.trigger,
        "tasks": {
            name: {"output": task.output}
            for name, task in _settled(run, plan, scope).items()
            if task.state is TaskState.SUCCEEDED and task.output is not None
        },
        "run": {"id": str(run.run_id), "started_at": run.started_at.isoformat() if run.started_at else None},
        **(_told(run, plan, scope) if scope else {}),
    }


def items_of(run: Run, plan: Plan, task: str, foreach: Foreach) -> Sequence[Any]:
    """Return the list that a foreach goes over; of one that is kept as an artifact, a reference to each item.

    Raises:
        PointerMissing: There is nothing where it should be; `KeptElsewhere`: it is in an artifact that is no list of
            its own, or items in one are to be named by what is in them.
        TypeError: It is no list.
    """
    items = foreach.items
    if isinstance(items, Pointer):
        found = value_at(items, document_of(run, plan, parent(task)))
        if is_reference(found):
            return _elsewhere(task, items.pointer, found, foreach)
        if not isinstance(found, list):
            raise TypeError(f"{items.pointer} is {type(found).__name__}, not a list")
        return found
    return items


def _elsewhere(task: str, pointer: str, reference: dict[str, Any], foreach: Foreach) -> ItemsElsewhere:
    if ITEMS not in reference:
        raise KeptElsewhere(f"foreach {task} cannot go over it: {told(pointer, reference)}")
    if foreach.key is not None:
        named = f"foreach {task} cannot name its items by `key` {foreach.key}"
        raise KeptElsewhere(f"{named}: {told(pointer, reference)}, or leave `key` out")
    return ItemsElsewhere(reference)


def _settled(run: Run, plan: Plan, scope: str) -> dict[str, TaskRun]:
    """Return what is settled of the tasks that a scope sees, by their own names."""
    if not scope:
        return {name: task for name, task in run.tasks.items() if task.state not in TASK_OPEN and name in plan.steps}
    found: dict[str, TaskRun] = {}
    for around in scopes_around(scope):
        for name in plan.block(around).names:
            task = run.tasks.get(inside(around, name))
            if task is not None and task.state not in TASK_OPEN:
                found[name] = task
    return found


def _told(run: Run, plan: Plan, scope: str, within: str = "") -> dict[str, dict[str, Any]]:
    """Return what the tasks whose bodies a scope lies in have told it, by their own names."""
    found: dict[str, dict[str, Any]] = {name: {} for name in TOLD}
    for around in scopes_around(scope):
        told = (run.tasks[around].inner or {}) if around else {}
        for name in TOLD:
            if name in told:
                found[name][leaf(parent(around))] = told[name]
    if within:
        name, task, spec = leaf(within), run.tasks[within], plan.step(within).task
        inner = task.inner or {}
        if spec.while_ is not None:
            found["index"][name], found["last"][name] = inner.get("iteration", 0), task.output
        if spec.try_ is not None and inner.get("error"):
            found["error"][name] = inner["error"]
    return found
