"""The workflow's intermediate representation: what YAML and Python flows both become, and what control runs."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from millrace.core.parts import (
    MAX_WAIT_S,
    WORKFLOW_NAME,
    Approve,
    Cache,
    Deadline,
    End,
    FormField,
    Gate,
    Name,
    Part,
    Pointer,
    Resources,
    Retries,
    RetryRule,
    Subflow,
    Wait,
    canonical_json,
)
from millrace.core.pointer import resolve
from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

SCHEMA_VERSION = 1
#: Tasks written in a workflow, those in bodies included; a run may have any number of them.
MAX_TASKS = 500
#: How deep bodies may lie in one another.
MAX_DEPTH = 8
MAX_WORKFLOW_BYTES = 256 * 1024
MAX_ITERATIONS = 1_000_000
MAX_AT_ONCE = 1_000
#: The most slots that a pool has, and that a task takes.
MAX_SLOTS = 10_000
MAX_PRIORITY = 1_000
MAX_KEY_CHARS = 200
KIND = r"^[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}$"

Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]


class Body(Part):
    """Tasks within a task: they see one another, and whatever is settled before the task that they are in.

    Attributes:
        output: What it hands on once all of it is settled: JSON, `$from` in it leading into its own tasks' outputs too.
    """

    tasks: Annotated[dict[Name, "Task"], Field(min_length=1)]
    output: JsonValue = None


class Tolerate(Part):
    """How many items may fail: `count` of them, or `percent` of them all, whichever is more."""

    count: Annotated[int, Field(ge=0)] = 0
    percent: Annotated[float, Field(ge=0, le=100)] = 0.0


class Foreach(Part):
    """A body for each item of a list that is known when its turn has come.

    Attributes:
        items: The list, or where it will be.
        key: JSON pointer into an item, to a text or number that names it in the run; by default its index.
        concurrency: How many items are under way at once; the others are not even begun.
        tolerate: How many may fail before the rest is stopped and the task fails.
    """

    items: list[JsonValue] | Pointer
    key: str | None = None
    concurrency: Annotated[int, Field(ge=1, le=MAX_AT_ONCE)] = 20
    tolerate: Tolerate = Tolerate()
    do: Body


class While(Part):
    """A body that is repeated for as long as a condition holds.

    Attributes:
        condition: CEL; besides what `when` reads, `index.<task>` is how often it has run and `last.<task>` what the
            last one handed on, null before the first.
        max_iterations: The task fails when the condition still holds after so many.
    """

    condition: str
    max_iterations: Annotated[int, Field(ge=1, le=MAX_ITERATIONS)] = 1_000
    do: Body


class Case(Part):
    """One of the ways that a switch may take, when its condition holds and none before it does."""

    name: Name
    when: str
    do: Body


class Switch(Part):
    """The first case that applies, else the default, else nothing."""

    cases: Annotated[tuple[Case, ...], Field(min_length=1, max_length=MAX_TASKS)]
    default: Body | None = None


class Parallel(Part):
    """Branches at once; with a quorum, the others are stopped as soon as so many have succeeded."""

    branches: Annotated[dict[Name, Body], Field(min_length=1, max_length=MAX_TASKS)]
    quorum: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.quorum is not None and self.quorum > len(self.branches):
            raise ValueError(f"quorum {self.quorum} is more than the {len(self.branches)} branches")
        return self


class Catch(Part):
    """What is done about a failure of some class, or of which a condition holds.

    Attributes:
        errors: Classes of errors; all when there are none.
        when: CEL; besides what a task's `when` reads, `error.<task>` has `error`, `message` and `task`.
    """

    errors: tuple[str, ...] = ()
    when: str | None = None
    do: Body


class Try(Part):
    """A body; the first catch that applies when it fails; and what is done last, even when the body is stopped."""

    do: Body
    catch: tuple[Catch, ...] = ()
    finally_: Annotated[Body | None, Field(alias="finally")] = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.catch and self.finally_ is None:
            raise ValueError("a try has `catch` or `finally`, or both")
        return self


class Task(Part):
    """One node of a workflow.

    It is exactly one of: work for a worker (`kind`), the end of the run (`end`), a `wait`, a `gate`, a decision of
    people (`approve`), a run of another workflow (`subflow`), or other tasks: `foreach`, `while`, `switch`, `parallel`,
    `try`.

    Attributes:
        kind: What work it is, `<service>.<verb>`.
        queue: Who is asked to do it; by default the part of `kind` before the dot.
        needs: Tasks of the same body that must be settled first.
        run_if: `succeeded`: skipped unless every need succeeded. `settled`: whatever became of the needs.
        when: CEL over `outputs.<task>`, `status.<task>` and `trigger`; the task is skipped when it is false.
        input: A JSON object; `{"$from": <JSON pointer>}` in place of a value in it stands for the value there.
        pool: Whose slots an attempt takes, from before it is dispatched until it has ended. While it waits for them it
            holds nobody, and none of its times in the queue or the run has begun.
        weight: How many of them it takes; where the pool has fewer by then, all.
        priority: Of those that wait for slots of one pool, the higher goes first; `$from` may lead to it.
        fairness_key: Those of one priority share a pool fairly among their keys, as the pool's `shares` say, not among
            their numbers; `$from` may lead to it, such as to a team's or a tenant's name.
        queue_timeout_s: From the dispatch of an attempt until a worker has started it.
        start_timeout_s: The same, with an error of its own; a worker says that it has started after a second.
        run_timeout_s: From start until the result.
        heartbeat_timeout_s: Longest silence of a worker that has started.
        timeout_s: From when its needs were settled until its own end, all attempts, items and waits included.
        deadline: When it is to be done by, counted as `timeout_s` is, and what happens when it is not.
        cache: That a result is taken which was computed before from the same.
        resources: What a worker needs for it.
        compensate: Done when what the task is in fails or is stopped after the task has succeeded, the latest first.
        plans: Its output may be a plan, `{"$plan": <body>}`: that is done, and what it hands on is the task's output.
        planned: What was planned in a run, by the name of each; control writes it, and no author does.
        teardown: Done when the task has succeeded and all that needs it is settled, whatever became of that; how it
            ends does not decide how the run does.
    """

    kind: Annotated[str, Field(pattern=KIND)] | None = None
    queue: Name | None = None
    needs: tuple[str, ...] = ()
    run_if: Literal["succeeded", "settled"] = "succeeded"
    when: str | None = None
    input: dict[str, JsonValue] = {}  # noqa: RUF012 - pydantic copies it
    retries: Retries = Retries()
    pool: Name | None = None
    weight: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = 1
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | Pointer = 0
    fairness_key: Annotated[str, Field(max_length=MAX_KEY_CHARS)] | Pointer = ""
    queue_timeout_s: Seconds = 3_600.0
    start_timeout_s: Annotated[float, Field(ge=2, le=30 * 86_400)] | None = None
    run_timeout_s: Seconds = 3_600.0
    heartbeat_timeout_s: Seconds = 60.0
    timeout_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] | None = None
    deadline: Deadline | None = None
    cache: Cache | None = None
    resources: Resources | None = None
    end: End | None = None
    wait: Wait | None = None
    gate: Gate | None = None
    approve: Approve | None = None
    subflow: Subflow | None = None
    foreach: Foreach | None = None
    while_: Annotated[While | None, Field(alias="while")] = None
    switch: Switch | None = None
    parallel: Parallel | None = None
    try_: Annotated[Try | None, Field(alias="try")] = None
    compensate: Body | None = None
    teardown: Body | None = None
    plans: bool = False
    planned: dict[Name, Body] = {}  # noqa: RUF012 - pydantic copies it

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if "$from" in self.input:
            raise ValueError("`input` is an object; write a `$from` in place of one of its values")
        found = [name.rstrip("_") for name in FORMS if getattr(self, name) is not None]
        if len(found) != 1:
            raise ValueError(f"a task has exactly one of {', '.join(n.rstrip('_') for n in FORMS)}; this has {found}")
        if self.kind is None and (work := self.model_fields_set & _WORK_FIELDS):
            raise ValueError(f"{found[0]!r} is no work for a worker, so it has no {', '.join(sorted(work))}")
        if self.pool is None and (asked := self.model_fields_set & _SLOT_FIELDS):
            raise ValueError(f"{', '.join(sorted(asked))}: only a task that takes slots of a `pool` has that")
        if (self.end or self.gate) is not None and (self.timeout_s or self.deadline) is not None:
            raise ValueError(f"{found[0]!r} takes no time, so it has no timeout_s and no deadline")
        if self.cache is not None and (self.plans or self.compensate or self.teardown):
            raise ValueError("a result that is taken from the cache does nothing: no plans, compensate or teardown")
        if self.cache is not None and (unknown := set(self.cache.ignore) - self.input.keys()):
            raise ValueError(f"cache.ignore names {', '.join(sorted(unknown))}, which `input` does not have")
        if self.planned and not self.plans:
            raise ValueError("only a task that plans has what was planned")
        return self

    @model_serializer(mode="wrap")
    def _canonical(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = plain(self)
        if self.needs:
            document["needs"] = sorted(self.needs)
        if document.get("queue") == (self.kind or "").split(".", 1)[0]:
            del document["queue"]
        return document

    def document(self) -> dict[str, Any]:
        """Return it as JSON without what is left at its default, and without the tasks of its bodies."""
        whole = self.model_dump(mode="json", exclude_defaults=True)
        for _, field, _ in self.bodies():
            resolve(whole, tuple(field.split("."))).pop("tasks")
        return whole

    @property
    def work_queue(self) -> str:
        """The queue that its work is dispatched to."""
        return self.queue or (self.kind or "").split(".", 1)[0]

    @property
    def longest_start_s(self) -> float:
        """How long after its dispatch an attempt is waited for to start, seconds."""
        return min(self.queue_timeout_s, self.start_timeout_s or self.queue_timeout_s)

    @property
    def form(self) -> str:
        """What it is: the one of FORMS that it has, such as `kind` or `while`."""
        return next(name.rstrip("_") for name in FORMS if getattr(self, name) is not None)

    def bodies(self) -> Iterator[tuple[str, str, Body]]:
        """Yield its bodies: what follows its name in the path of one, the field it stands in, and the body itself."""
        if repeated := self.foreach or self.while_:
            yield "[]", f"{self.form}.do", repeated.do
        if self.switch is not None:
            yield from ((f".{case.name}", f"switch.cases.{n}.do", case.do) for n, case in enumerate(self.switch.cases))
            if self.switch.default is not None:
                yield ".default", "switch.default", self.switch.default
        if self.parallel is not None:
            yield from (
                (f".{name}", f"parallel.branches.{name}", body) for name, body in self.parallel.branches.items()
            )
        if self.try_ is not None:
            yield ".do", "try.do", self.try_.do
            yield from ((f".catch{n}", f"try.catch.{n}.do", catch.do) for n, catch in enumerate(self.try_.catch))
            if self.try_.finally_ is not None:
                yield ".finally", "try.finally", self.try_.finally_
        yield from ((f".{name}", f"planned.{name}", body) for name, body in self.planned.items())
        if self.compensate is not None:
            yield ".compensate", "compensate", self.compensate
        if self.teardown is not None:
            yield ".teardown", "teardown", self.teardown

    def conditions(self) -> Iterator[tuple[str, str | None]]:
        """Yield the conditions of what it does, in order, each with its field; None for a rule or catch without one."""
        yield from ((f"retries.rules.{n}.when", rule.when) for n, rule in enumerate(self.retries.rules))
        if self.gate is not None:
            yield "gate.condition", self.gate.condition
        if self.while_ is not None:
            yield "while.condition", self.while_.condition
        if self.switch is not None:
            yield from ((f"switch.cases.{n}.when", case.when) for n, case in enumerate(self.switch.cases))
        if self.try_ is not None:
            yield from ((f"try.catch.{n}.when", catch.when) for n, catch in enumerate(self.try_.catch))

    def pointers(self) -> Iterator[tuple[str, JsonValue | Pointer]]:
        """Yield what it takes from elsewhere, each with its field: a JSON value with pointers in it, or a pointer."""
        yield "input", self.input
        yield from (("priority", self.priority), ("fairness_key", self.fairness_key))
        if self.cache is not None:
            yield "cache.key", self.cache.key
        if self.end is not None:
            yield "end.reason", self.end.reason
        if self.gate is not None:
            yield "gate.reason", self.gate.reason
        if self.approve is not None:
            yield "approve.title", self.approve.title
        if self.subflow is not None:
            yield "subflow.data", self.subflow.data
        if self.wait is not None:
            yield from ((f"wait.{name}", getattr(self.wait, name)) for name in ("for_s", "until", "key"))
        if self.foreach is not None and isinstance(self.foreach.items, Pointer):
            yield "foreach.items", self.foreach.items


FORMS = ("kind", "end", "wait", "gate", "approve", "subflow", "foreach", "while_", "switch", "parallel", "try_")
_SLOT_FIELDS = {"weight", "priority", "fairness_key"}
_TIMEOUTS = {"queue_timeout_s", "start_timeout_s", "run_timeout_s", "heartbeat_timeout_s"}
_WORK_FIELDS = {"queue", "input", "retries", "plans", "cache", "resources", "pool", *_TIMEOUTS}


class Workflow(Part):
    """A workflow: named tasks and what each needs. Read one with `parse_workflow`, which also checks its graph."""

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=WORKFLOW_NAME)]
    description: Annotated[str, Field(max_length=2_000)] = ""
    timeout_s: Annotated[float, Field(gt=0, le=MAX_WAIT_S)] = 86_400.0
    deadline: Deadline | None = None
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    output: JsonValue = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON without what is left at its default: the form that is hashed, stored and exchanged."""
        return {"schema_version": self.schema_version, **self.model_dump(mode="json", exclude_defaults=True)}

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its canonical JSON, hexadecimal: equal for equal workflows, whatever they were written in."""
        return hashlib.sha256(canonical_json(self.document())).hexdigest()


def _fields(part: type[BaseModel]) -> str:
    return ", ".join(field.alias or name for name, field in part.model_fields.items())


KNOWN_FIELDS = "; ".join(
    f"of {part.__name__.lower()} {_fields(part)}"
    for part in (
        Workflow,
        Task,
        Retries,
        RetryRule,
        End,
        Wait,
        Gate,
        Approve,
        FormField,
        Subflow,
        Cache,
        Deadline,
        Resources,
        Foreach,
        While,
        Switch,
        Case,
        Parallel,
        Try,
        Catch,
        Body,
    )
)
