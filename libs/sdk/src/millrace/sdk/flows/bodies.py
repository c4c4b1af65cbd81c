"""Steps with bodies: a function per body, called once while the flow is traced, with references to what it will see.

Every step, with bodies or without, is made by `Step`, so that what all may say, `Common`, is written once.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

from millrace.sdk.flows.refs import Condition, Node, Place, Ref, plain
from millrace.sdk.flows.trace import Trace, current

BodyFunction = Callable[..., Any]
"""Calls steps, and returns what the body hands on: JSON with references in it, a step, or nothing."""


def told(variable: str, name: str) -> Ref:
    """Return what a step tells its bodies."""
    return Ref(Place((variable, name), f"{variable}.{name}"))


def body_of(function: BodyFunction, refs: Sequence[Ref] = ()) -> tuple[Trace, dict[str, Any]]:
    """Return what a function called, and the body that this makes in the workflow's document.

    Args:
        function: Takes as many of the references as it has parameters.
        refs: What the body is told.
    """
    trace = Trace()
    taken = len(inspect.signature(function).parameters)
    with trace.following():
        returned = function(*refs[:taken])
    needs: dict[str, None] = {}
    output = plain(returned, needs)
    trace.outside |= dict.fromkeys(need for need in needs if need not in trace.tasks)
    return trace, {"tasks": trace.tasks} | ({"output": output} if output is not None else {})


def plan(function: BodyFunction) -> dict[str, Any]:
    """Return what a task hands on that plans: the steps that a function calls, to be done under it.

    The function takes nothing. What it calls may refer to its own steps, and to what was settled before the task by
    `/tasks/<task>/output` in `{"$from": …}`.

    Raises:
        ValueError: It refers to steps of another flow.
    """
    trace, body = body_of(function)
    if trace.outside:
        raise ValueError(f"a plan refers to its own steps, not to {', '.join(trace.outside)}")
    return {"$plan": body}


class Common(TypedDict, total=False):
    """What every step may say, besides its name.

    Attributes:
        after: Steps that must be settled first, besides those referred to.
        when: It is skipped when this is false.
        run_if: `settled` runs it whatever became of the steps before it; `succeeded`, the default, skips it then.
        timeout_s: How long it may take in all, with its attempts, items and waits, seconds; an `end` and a `gate` take
            no time.
        compensate: Calls what undoes it, when what it is in fails later; given a reference to its output.
        teardown: Calls what is done once nothing needs it any more, however that ended; given the same.
    """

    after: Iterable[Node]
    when: Condition | str | None
    run_if: Literal["succeeded", "settled"]
    timeout_s: float | None
    compensate: BodyFunction | None
    teardown: BodyFunction | None


class Step:
    """A step whose bodies are being traced."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.needs: dict[str, None] = {}
        self._traces: list[tuple[str, Trace]] = []

    def body(self, field: str, function: BodyFunction, *refs: Ref) -> dict[str, Any]:
        """Return a body for a field of the step."""
        trace, made = body_of(function, refs)
        self.needs |= {need: None for need in trace.outside if need != self.name}
        self._traces.append((field, trace))
        return made

    def condition(self, condition: Condition) -> str:
        """Return a condition of the step as text."""
        self.needs |= dict.fromkeys(sorted(condition.needs))
        return condition.text

    def add(self, task: dict[str, Any], common: Common) -> Node:
        """Add it to the flow."""
        made, after, when = dict(task), common.get("after", ()), common.get("when")
        plain_fields = {"run_if": common.get("run_if"), "timeout_s": common.get("timeout_s")}
        made |= {field: value for field, value in plain_fields.items() if value is not None}
        for field, function in (("compensate", common.get("compensate")), ("teardown", common.get("teardown"))):
            if function is not None:
                made[field] = self.body(field, function, Node(self.name).output)
        trace = current()
        node = trace.add(self.name, made, after=after, when=when, needs=self.needs)
        for field, body in self._traces:
            trace.include(self.name, field, body)
        return node


def foreach(
    items: Ref | Sequence[Any],
    *,
    key: str | None = None,
    concurrency: int | None = None,
    tolerate: Mapping[str, float] | None = None,
    name: str | None = None,
    **common: Unpack[Common],
) -> Callable[[BodyFunction], Node]:
    """Return a decorator that makes a function the body for each item of a list.

    The function is given a reference to the item and, if it takes two arguments, to its index. The step's output has
    `total`, `succeeded`, `failed` and, where the function returns something, `items`: one for each, in order.

    Args:
        items: The list, or where it will be.
        key: JSON pointer into an item to what names it in the run; by default its index.
        concurrency: How many items are under way at once.
        tolerate: `count` or `percent` of items that may fail.
        name: The step's name; default: the function's.
        common: What every step may say; `timeout_s` is for all items together.
    """

    def trace(function: BodyFunction) -> Node:
        step = Step(name or function.__name__)
        body = step.body("foreach.do", function, told("item", step.name), told("index", step.name))
        more = {"key": key, "concurrency": concurrency, "tolerate": tolerate}
        made = {"items": items, **{k: value for k, value in more.items() if value is not None}, "do": body}
        return step.add({"foreach": made}, common)

    return trace


def loop(
    goes_on: Callable[[Ref, Ref], Condition],
    *,
    max_iterations: int | None = None,
    name: str | None = None,
    **common: Unpack[Common],
) -> Callable[[BodyFunction], Node]:
    """Return a decorator that makes a function the body of a loop.

    `goes_on` and the function are given references to how often it has run, and to what the last time handed on (none
    before the first). The step hands on what its last time did.

    Args:
        goes_on: Returns the condition on which it is done once more.
        max_iterations: The step fails when it would go on after so many.
        name: The step's name; default: the function's.
        common: What every step may say; `timeout_s` is for all iterations together.
    """

    def trace(function: BodyFunction) -> Node:
        step = Step(name or function.__name__)
        refs = (told("index", step.name), told("last", step.name))
        condition = step.condition(goes_on(*refs))
        limit = {"max_iterations": max_iterations} if max_iterations is not None else {}
        made = {"condition": condition, **limit, "do": step.body("while.do", function, *refs)}
        return step.add({"while": made}, common)

    return trace


def switch(
    cases: Mapping[str, tuple[Condition, BodyFunction]],
    default: BodyFunction | None = None,
    *,
    name: str = "switch",
    **common: Unpack[Common],
) -> Node:
    """Add a step that does the first case whose condition holds, else the default, and hands on what that did."""
    step = Step(name)
    made: dict[str, Any] = {
        "cases": [
            {"name": case, "when": step.condition(on), "do": step.body(f"switch.cases.{n}.do", do)}
            for n, (case, (on, do)) in enumerate(cases.items())
        ]
    }
    if default is not None:
        made["default"] = step.body("switch.default", default)
    return step.add({"switch": made}, common)


def parallel(
    branches: Mapping[str, BodyFunction],
    *,
    quorum: int | None = None,
    name: str = "parallel",
    **common: Unpack[Common],
) -> Node:
    """Add a step that does all branches at once, and hands on what each did by its name.

    With a quorum, the others are stopped as soon as so many have succeeded.
    """
    step = Step(name)
    made = {branch: step.body(f"parallel.branches.{branch}", do) for branch, do in branches.items()}
    limit = {"quorum": quorum} if quorum is not None else {}
    return step.add({"parallel": {"branches": made, **limit}}, common)


@dataclass(frozen=True)
class Catch:
    """What is done about a failure: `do` is given a reference to it, with `error`, `message` and `task`.

    Attributes:
        errors: Classes of errors; all when there are none.
        when: Returns the condition on which it is done, given the same reference.
    """

    do: BodyFunction
    errors: Sequence[str] = ()
    when: Callable[[Ref], Condition] | None = None


def attempt(
    do: BodyFunction,
    *,
    catch: Sequence[Catch] = (),
    last: BodyFunction | None = None,
    name: str = "attempt",
    **common: Unpack[Common],
) -> Node:
    """Add a step that does something, then the first catch that applies when that fails, and `last` in any case.

    It hands on what was done, or what the catch did. `last` is done even when the step is stopped.
    """
    step = Step(name)
    error = told("error", name)
    made: dict[str, Any] = {"do": step.body("try.do", do)}
    catches = []
    for number, one in enumerate(catch):
        text = {"when": step.condition(one.when(error))} if one.when is not None else {}
        body = step.body(f"try.catch.{number}.do", one.do, error)
        catches.append({"errors": [*one.errors], **text, "do": body})
    made |= {"catch": catches} if catches else {}
    if last is not None:
        made["finally"] = step.body("try.finally", last, error)
    return step.add({"try": made}, common)
