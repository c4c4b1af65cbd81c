"""Workflows written in Python: a function is traced once, and what it called becomes the workflow."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from millrace.core.ir import Retries, Workflow
from millrace.core.parse import CEL_RESERVED, parse_workflow
from millrace.sdk.local import LocalRun, run_locally

Body = Callable[..., dict[str, Any]]
RunIf = Literal["succeeded", "settled"]
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_tracing: ContextVar["_Trace"] = ContextVar("tracing")


class Condition:
    """A CEL expression made from Python operators: `==`, `<`, `&`, `|`, `~` on what a flow refers to."""

    def __init__(self, text: str, needs: frozenset[str] = frozenset()) -> None:
        self.text = text
        self.needs = needs

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(f"({self.text}) && ({other.text})", self.needs | other.needs)

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(f"({self.text}) || ({other.text})", self.needs | other.needs)

    def __invert__(self) -> "Condition":
        return Condition(f"!({self.text})", self.needs)

    def __bool__(self) -> bool:
        raise TypeError("a condition is known only when the workflow runs: write &, |, ~ for and, or, not")


@dataclass(frozen=True)
class _Place:
    """Where a value will be: for inputs, for conditions, and after which steps."""

    pointer: tuple[str, ...]
    expression: str
    needs: frozenset[str] = frozenset()


class Ref:
    """A value that a run will have: part of its trigger, of an earlier output or of the run itself."""

    def __init__(self, place: _Place) -> None:
        self._place = place

    def __getattr__(self, name: str) -> "Ref":
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: str | int) -> "Ref":
        at = self._place
        plain = isinstance(key, str) and _IDENTIFIER.fullmatch(key) and key not in CEL_RESERVED
        step = f".{key}" if plain else f"[{json.dumps(key)}]"
        return Ref(_Place((*at.pointer, str(key)), at.expression + step, at.needs))

    def or_default(self, value: Any) -> "Default":  # noqa: ANN401 - a JSON value is any value
        """Return the same, with a value to take when the run has none there."""
        return Default(self, value)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]  # it builds a condition, as ORMs do
        return _compare(self, "==", other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]  # likewise
        return _compare(self, "!=", other)

    def __lt__(self, other: object) -> Condition:
        return _compare(self, "<", other)

    def __le__(self, other: object) -> Condition:
        return _compare(self, "<=", other)

    def __gt__(self, other: object) -> Condition:
        return _compare(self, ">", other)

    def __ge__(self, other: object) -> Condition:
        return _compare(self, ">=", other)

    __hash__ = None  # type: ignore[assignment]  # it has no equality of its own

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self._place.expression} is known only when the workflow runs: give it to a task or to `when=`"
        )

    def __iter__(self) -> Iterator["Ref"]:
        raise TypeError(f"{self._place.expression} is known only when the workflow runs: it cannot be looped over")


def _place(ref: Ref) -> _Place:
    return ref._place  # noqa: SLF001 - a Ref has no public names of its own, so that any field can be referred to


def _compare(ref: Ref, operator: str, other: object) -> Condition:
    here = _place(ref)
    if isinstance(other, Ref):
        there = _place(other)
        return Condition(f"{here.expression} {operator} {there.expression}", here.needs | there.needs)
    return Condition(f"{here.expression} {operator} {json.dumps(other)}", here.needs)


class Default:
    """A reference with a value to take when there is nothing there."""

    def __init__(self, ref: Ref, value: Any) -> None:  # noqa: ANN401 - a JSON value is any value
        self.ref = ref
        self.value = value


class Node:
    """A task in a flow being traced.

    Attributes:
        output: What it hands on; `node["field"]` is short for `node.output.field`.
        status: What became of it: `succeeded`, `skipped` or `failed`; for conditions only.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        needs = frozenset({name})
        self.output = Ref(_Place(("tasks", name, "output"), f"outputs.{name}", needs))
        self.status = Ref(_Place((), f"status.{name}", needs))

    def __getitem__(self, key: str | int) -> Ref:
        return self.output[key]


class TaskKind:
    """A kind of work that flows can call; with a body, it also runs in this process."""

    def __init__(self, kind: str, body: Body | None, options: dict[str, Any]) -> None:
        self.kind = kind
        self.body = body
        self._options = options

    def __call__(self, body: Body | None = None, /, **inputs: Any) -> Any:  # noqa: ANN401 - a Node, or itself
        """Add a step with these inputs to the flow being traced; with a function, become its decorator."""
        if body is not None:
            return TaskKind(self.kind, body, self._options)
        return self.step()(**inputs)

    def step(
        self,
        name: str | None = None,
        *,
        after: Iterable[Node] = (),
        when: Condition | str | None = None,
        run_if: RunIf = "succeeded",
    ) -> Callable[..., Node]:
        """Return the same kind, to be called once as a step with its own name, order or condition.

        Args:
            name: The step's name; default: the body's name, or the verb of the kind.
            after: Steps that must be settled first, besides those whose outputs it is given.
            when: It is skipped when this is false.
            run_if: `settled` runs it whatever became of the steps before it.
        """
        default = self.body.__name__ if self.body is not None else self.kind.split(".", 1)[-1]

        def call(**inputs: Any) -> Node:  # noqa: ANN401 - inputs are JSON or references
            task = {"kind": self.kind, "input": inputs, "run_if": run_if, **self._options}
            return _current().add(name or default, task, after, when, self)

        return call


class Flow:
    """A traced workflow.

    Attributes:
        workflow: What was traced: equal to the same workflow written in YAML.
    """

    def __init__(self, workflow: Workflow, bodies: dict[str, Body]) -> None:
        self.workflow = workflow
        self.bodies = bodies

    def run_local(self, data: Any = None, *, now: datetime | None = None, **trigger: str) -> LocalRun:  # noqa: ANN401 - a JSON value
        """Run it in this process, its tasks being their Python bodies and time being virtual.

        Args:
            data: What `trigger.data` is.
            now: When the run starts.
            trigger: `id`, `source`, `type`, `subject` and `time` of the event that starts it.
        """
        return run_locally(self.workflow, self.bodies, {**trigger, "data": data}, now)


def task(kind: str, **options: Any) -> TaskKind:  # noqa: ANN401 - the fields of a task, checked with the workflow
    """Return a kind of work, to be called in flows or used as a decorator of its local body.

    Args:
        kind: What work it is, `<service>.<verb>`.
        options: `queue`, `retries`, `queue_timeout_s`, `run_timeout_s`, `heartbeat_timeout_s` of its steps.
    """
    retries = options.get("retries")
    if isinstance(retries, Retries):
        options["retries"] = retries.model_dump(exclude_defaults=True)
    return TaskKind(kind, None, options)


def end(
    state: Literal["succeeded", "refused", "failed"],
    *,
    reason: str | Ref | Default = "",
    name: str = "end",
    after: Iterable[Node] = (),
    when: Condition | str | None = None,
    run_if: RunIf = "succeeded",
) -> Node:
    """Add the end of the run to the flow being traced."""
    ending = {"end": {"state": state, "reason": reason}, "run_if": run_if}
    return _current().add(name, ending, after, when, None)


def flow(name: str, *, timeout_s: float | None = None, description: str = "") -> Callable[[Callable[..., None]], Flow]:
    """Return a decorator that traces a function into a workflow.

    The function is called once, with a reference to the trigger (and, if it takes two arguments, to the run).

    Raises:
        InvalidDocument: What it called is not a valid workflow; raised where the flow is defined.
    """

    def trace(function: Callable[..., None]) -> Flow:
        tracing = _Trace()
        token = _tracing.set(tracing)
        try:
            refs = (Ref(_Place(("trigger",), "trigger")), Ref(_Place(("run",), "run")))
            function(*refs[: function.__code__.co_argcount])
        finally:
            _tracing.reset(token)
        document: dict[str, Any] = {"name": name, "tasks": tracing.tasks}
        if timeout_s is not None:
            document["timeout_s"] = timeout_s
        if description:
            document["description"] = description
        return Flow(parse_workflow(document), tracing.bodies)

    return trace


class _Trace:
    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.bodies: dict[str, Body] = {}

    def add(
        self,
        name: str,
        task: dict[str, Any],
        after: Iterable[Node],
        when: Condition | str | None,
        kind: TaskKind | None,
    ) -> Node:
        if name in self.tasks:
            raise ValueError(f"the flow has a step {name!r} already; give this one its own: .step(name=...)(...)")
        needs = dict.fromkeys(node.name for node in after)
        made = {key: _plain(value, needs) for key, value in task.items()}
        if isinstance(when, Condition):
            needs |= dict.fromkeys(sorted(when.needs))
            made["when"] = when.text
        elif when is not None:
            made["when"] = when
        made["needs"] = list(needs)
        self.tasks[name] = made
        if kind is not None and kind.body is not None:
            self.bodies[kind.kind] = kind.body
        return Node(name)


def _plain(value: Any, needs: dict[str, None]) -> Any:  # noqa: ANN401 - JSON with references in it
    """Return JSON for `value`, adding to `needs` the steps that it refers to."""
    if isinstance(value, Node):
        value = value.output
    if isinstance(value, Default):
        return {**_plain(value.ref, needs), "default": value.value}
    if isinstance(value, Ref):
        at = _place(value)
        if not at.pointer:
            raise ValueError(f"{at.expression} is for conditions only; it cannot be an input")
        needs.update(dict.fromkeys(sorted(at.needs)))
        return {"$from": "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in at.pointer)}
    if isinstance(value, dict):
        return {key: _plain(item, needs) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, needs) for item in value]
    return value


def _current() -> _Trace:
    try:
        return _tracing.get()
    except LookupError:
        raise RuntimeError("tasks are called inside a function decorated with @flow(...)") from None
