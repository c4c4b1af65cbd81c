"""A workflow made ready to run: order, conditions and inputs worked out once per version."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from millrace.core.expression import Condition, compile_condition
from millrace.core.ir import Pointer, Task, Workflow, pointers_in
from millrace.core.parse import WHEN_VARIABLES, topological_order
from millrace.core.pointer import PointerMissing, parse_pointer, resolve


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a plan.

    Attributes:
        dependents: The tasks that need it, in the workflow's order.
        recovered: Some task behind it runs `settled`, so its failure does not end the run at once.
        has_pointers: Its input takes values from elsewhere.
    """

    name: str
    task: Task
    dependents: tuple[str, ...]
    condition: Condition | None
    recovered: bool
    has_pointers: bool


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A compiled workflow: its steps by name, each after its needs."""

    workflow: Workflow
    steps: Mapping[str, Step]


_tokens = lru_cache(maxsize=8192)(parse_pointer)


@lru_cache(maxsize=1024)
def _compiled(workflow: "_ByHash") -> Plan:
    flow = workflow.workflow
    dependents: dict[str, list[str]] = {name: [] for name in flow.tasks}
    for name, task in flow.tasks.items():
        for need in task.needs:
            dependents[need].append(name)
    order = topological_order(flow)
    recovered: dict[str, bool] = {}
    for name in reversed(order):
        recovered[name] = any(flow.tasks[d].run_if == "settled" or recovered[d] for d in dependents[name])
    return Plan(flow, {name: _step(name, flow.tasks[name], dependents[name], recovered[name]) for name in order})


def _step(name: str, task: Task, dependents: list[str], recovered: bool) -> Step:  # noqa: FBT001 - both are computed
    condition = compile_condition(task.when, WHEN_VARIABLES) if task.when is not None else None
    has_pointers = next(pointers_in(task.input), None) is not None
    return Step(name, task, tuple(dependents), condition, recovered, has_pointers)


@dataclass(frozen=True, slots=True, eq=False)
class _ByHash:
    workflow: Workflow

    def __hash__(self) -> int:
        return hash(self.workflow.sha256)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByHash) and other.workflow.sha256 == self.workflow.sha256


def compile_plan(workflow: Workflow) -> Plan:
    """Return the plan of a checked workflow; equal workflows share one."""
    return _compiled(_ByHash(workflow))


def fill_in(template: Any, document: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON value is any value
    """Return `template` with each `{"$from": pointer}` replaced by what `document` has there, or by its default.

    Raises:
        PointerMissing: There is nothing there, and no default.
    """
    if isinstance(template, dict):
        if "$from" in template:
            return _value(template["$from"], document, template)
        return {key: fill_in(value, document) for key, value in template.items()}
    if isinstance(template, list):
        return [fill_in(value, document) for value in template]
    return template


def value_at(pointer: Pointer, document: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON value is any value
    """Return what `document` has at the pointer, or its default.

    Raises:
        PointerMissing: There is nothing there, and no default.
    """
    given = {"default": pointer.default} if "default" in pointer.model_fields_set else {}
    return _value(pointer.pointer, document, given)


def _value(pointer: str, document: Mapping[str, Any], given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - likewise
    try:
        return resolve(document, _tokens(pointer))
    except PointerMissing:
        if "default" in given:
            return given["default"]
        raise
