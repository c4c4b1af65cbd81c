"""A workflow made ready to run: order, conditions and inputs worked out once per version."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from millrace.core.expression import Condition, compile_condition
from millrace.core.ir import Body, Task, Workflow
from millrace.core.parse import VARIABLES, topological_order
from millrace.core.parts import Pointer, pointers_in
from millrace.core.paths import ROOT, inside, written
from millrace.core.pointer import KeptElsewhere, PointerMissing, parse_pointer, resolve


@dataclass(frozen=True, slots=True)
class Step:
    """One task of a plan.

    Attributes:
        name: Its own name.
        dependents: The tasks that need it, in the workflow's order.
        followers: They, those that need them, and so on.
        condition: Its `when`.
        conditions: Those of its rules for retries, gate, loop, cases or catches, in order; None where there is none.
        recovered: Some task behind it runs `settled`, so its failure does not end what it is in at once.
        has_pointers: Its input takes values from elsewhere.
        input_bytes: How large its input is as it is written, as JSON.
        chained: The task that is chained to it; see `chains`.
        chained_to: The one that it is chained to.
        field: Where it stands in the workflow's document.
    """

    name: str
    task: Task
    dependents: tuple[str, ...]
    followers: frozenset[str]
    condition: Condition | None
    conditions: tuple[Condition | None, ...]
    recovered: bool
    has_pointers: bool
    input_bytes: int
    chained: str | None
    chained_to: str | None
    field: str


@dataclass(frozen=True, slots=True)
class Block:
    """The tasks of one body, or of the workflow.

    Attributes:
        names: Their names, each after its needs.
        first: Those that need none.
        output: What it hands on.
        cleans_up: It is done however what it follows has ended, even when that is stopped.
        follows: It follows a task that has succeeded: its compensation or its teardown.
        compensates: Something in it can be compensated, so that it is not let go of once it has succeeded.
    """

    names: tuple[str, ...]
    first: tuple[str, ...]
    output: Any
    cleans_up: bool
    follows: bool
    compensates: bool


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A compiled workflow.

    Attributes:
        steps: Its tasks by their paths as written.
        blocks: Its bodies by their paths as written; the workflow's own tasks are at the empty path.
        cleans_up: It has a body that does.
        may_last: It may take a while to stop: something cleans up, or a run of another workflow is to end.
        queues: Those that its work is for.
    """

    workflow: Workflow
    steps: Mapping[str, Step]
    blocks: Mapping[str, Block]
    cleans_up: bool
    may_last: bool
    queues: frozenset[str]

    def step(self, path: str) -> Step:
        """Return what a task of a run does."""
        return self.steps[written(path)]

    def block(self, scope: str) -> Block:
        """Return what a scope of a run consists of."""
        return self.blocks[written(scope)]

    def is_scope(self, path: str) -> bool:
        """Return whether a path is a scope's, not a task's."""
        return written(path) in self.blocks


#: Bodies that are done whatever becomes of what is around them; and those of them that follow a task that succeeded.
_LAST, _AFTER = ("finally", "compensate", "teardown"), ("compensate", "teardown")
tokens_of = lru_cache(maxsize=8192)(parse_pointer)


@lru_cache(maxsize=1024)
def _compiled(workflow: "_ByHash") -> Plan:
    flow = workflow.workflow
    steps: dict[str, Step] = {}
    blocks: dict[str, Block] = {}
    for path, field, what, body in bodies_of(Body(tasks=flow.tasks, output=flow.output)):
        order = topological_order(body.tasks)
        first = tuple(name for name in order if not body.tasks[name].needs)
        compensates = any(task.compensate for *_, inner in bodies_of(body) for task in inner.tasks.values())
        blocks[path] = Block(order, first, body.output, what in _LAST, what in _AFTER, compensates)
        for name, step in _steps(body.tasks, order, field).items():
            steps[inside(path, name)] = step
    cleans_up = any(block.cleans_up for block in blocks.values())
    queues = frozenset(step.task.work_queue for step in steps.values() if step.task.kind is not None)
    may_last = cleans_up or any(step.task.subflow for step in steps.values())
    return Plan(flow, steps, blocks, cleans_up, may_last, queues)


def bodies_of(body: Body, path: str = ROOT, at: str = "", what: str = "") -> Iterator[tuple[str, str, str, Body]]:
    """Yield a body and all that lie in it, outer ones first: its path as written, its field, what it is, and itself.

    What it is: `finally`, `compensate` or `teardown`, or nothing of the kind.
    """
    yield path, at, what, body
    for name, task in body.tasks.items():
        for suffix, field, inner in task.bodies():
            last = field.removeprefix("try.")
            here = f"{at}tasks.{name}.{field}."
            yield from bodies_of(inner, inside(path, name) + suffix, here, last if last in _LAST else "")


def _steps(tasks: Mapping[str, Task], order: tuple[str, ...], at: str) -> dict[str, Step]:
    dependents: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for need in task.needs:
            dependents[need].append(name)
    recovered: dict[str, bool] = {}
    followers: dict[str, frozenset[str]] = {}
    for name in reversed(order):
        followers[name] = frozenset(dependents[name]).union(*(followers[other] for other in dependents[name]))
        recovered[name] = any(tasks[d].run_if == "settled" or recovered[d] for d in dependents[name])
    chained = {n: some[0] for n, some in dependents.items() if len(some) == 1 and _is_chained(tasks[some[0]], tasks[n])}
    chained_to = {name: before for before, name in chained.items()}
    return {
        name: Step(
            name=name,
            task=tasks[name],
            dependents=tuple(dependents[name]),
            followers=followers[name],
            condition=_condition(tasks[name].when),
            conditions=tuple(_condition(text) for _, text in tasks[name].conditions()),
            recovered=recovered[name],
            has_pointers=next(pointers_in(tasks[name].input), None) is not None,
            input_bytes=len(json.dumps(tasks[name].input)),
            chained=chained.get(name),
            chained_to=chained_to.get(name),
            field=f"{at}tasks.{name}",
        )
        for name in order
    }


def _is_chained(task: Task, before: Task) -> bool:
    """Return whether a task certainly begins, as work of the same queue, once the one that it needs has succeeded."""
    if len(task.needs) != 1 or task.kind is None or before.kind is None or before.plans:
        return False
    certain = task.run_if == "succeeded" and task.when is None
    # Others wait for its success, or its time is up, while its worker has gone on and that is not told yet.
    waits = (one for each in (task, before) for one in (each.pool, each.cache, each.deadline))
    return certain and task.work_queue == before.work_queue and all(one is None for one in waits)


def _condition(text: str | None) -> Condition | None:
    return compile_condition(text, VARIABLES) if text is not None else None


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
        return resolve(document, tokens_of(pointer))
    except PointerMissing as error:
        if "default" in given and not isinstance(error, KeptElsewhere):
            return given["default"]
        raise
