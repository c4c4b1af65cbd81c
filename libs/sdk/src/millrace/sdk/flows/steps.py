"""Steps without bodies: work of some kind, waits, gates and ends."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, Unpack

from millrace.core.parts import Retries
from millrace.sdk.flows.bodies import Common, Step
from millrace.sdk.flows.refs import Condition, Default, Node, Ref
from millrace.sdk.flows.trace import current
from millrace.sdk.local import LocalBody


class TaskKind:
    """A kind of work that flows can call; with a body, it also runs in this process."""

    def __init__(self, kind: str, body: LocalBody | None, options: dict[str, Any]) -> None:
        self.kind = kind
        self.body = body
        self._options = options

    def __call__(self, body: LocalBody | None = None, /, **inputs: Any) -> Any:  # noqa: ANN401 - a Node, or itself
        """Add a step with these inputs to the flow being traced; with a function, become its decorator."""
        if body is not None:
            return TaskKind(self.kind, body, self._options)
        return self.step()(**inputs)

    @property
    def queue(self) -> str:
        """Who is asked to do it."""
        return str(self._options.get("queue") or self.kind.partition(".")[0])

    @property
    def fn(self) -> LocalBody:
        """The plain function.

        Raises:
            AttributeError: It has none.
        """
        if self.body is None:
            raise AttributeError(f'{self.kind} has no function; write @task("{self.kind}") above one')
        return self.body

    def step(
        self,
        name: str | None = None,
        *,
        priority: int | Ref | Default | None = None,
        fairness_key: str | Ref | Default | None = None,
        **common: Unpack[Common],
    ) -> Callable[..., Node]:
        """Return the same kind, to be called once as a step with its own name, order, condition or turn.

        Args:
            name: The step's name; default: the body's name, or the verb of the kind.
            priority: Of those that wait for slots of its pool, the higher goes first.
            fairness_key: Those of one priority share the pool fairly among their keys.
            common: What every step may say: `after`, `when`, `run_if`, `timeout_s`, `compensate`, `teardown`.
        """
        own = getattr(self.body, "__name__", "")
        default = own if own.isidentifier() else self.kind.split(".", 1)[-1]  # a lambda's name is no name

        def call(**inputs: Any) -> Node:  # noqa: ANN401 - inputs are JSON or references
            task = {"kind": self.kind, "input": inputs, **self._options}
            turn = {"priority": priority, "fairness_key": fairness_key}
            task |= {field: value for field, value in turn.items() if value is not None}
            if self.body is not None:
                current().local[self.kind] = self.body
            return Step(name or default).add(task, common)

        return call


def task(kind: str, **options: Any) -> TaskKind:  # noqa: ANN401 - the fields of a task, checked with the workflow
    """Return a kind of work, to be called in flows or used as a decorator of its local body.

    Args:
        kind: What work it is, `<service>.<verb>`.
        options: `queue`, `retries` and the timeouts of its steps: `queue_timeout_s`, `start_timeout_s`,
            `run_timeout_s`, `heartbeat_timeout_s`, `timeout_s`; `plans`, where it may hand on a `plan`; `cache`,
            when a result is to be taken that was computed before: `{"version": "1", "expires_s": 3600}`; `resources`,
            what a worker needs: `{"cpu": 2, "memory": "4Gi"}`; `pool`, whose slots its attempts take, `weight` of them,
            and its turn in the line for them: `priority`, `fairness_key`.
    """
    retries = options.get("retries")
    if isinstance(retries, Retries):
        options["retries"] = retries.model_dump(exclude_defaults=True)
    return TaskKind(kind, None, options)


def deadline(
    step: Node,
    *,
    after_s: float | Ref | Default | None = None,
    at: datetime | Ref | Default | None = None,
    action: Literal["notify", "fail", "cancel"] = "notify",
) -> None:
    """Say when a step of the flow being traced is to be done by, and what happens when it is not.

    Args:
        step: Which.
        after_s: Seconds from when its needs were settled; or
        at: a moment.
        action: Besides that it is told (`DeadlineMissed`): nothing, or it fails, or it is cancelled.

    Raises:
        ValueError: It is no step of this flow or body, or `at` has no offset from UTC.
    """
    current().amend(step.name, "deadline", deadline_document(after_s=after_s, at=at, action=action))


def deadline_document(
    *,
    after_s: float | Ref | Default | None = None,
    at: datetime | Ref | Default | None = None,
    action: Literal["notify", "fail", "cancel"] = "notify",
) -> dict[str, Any]:
    """Return a deadline as it stands in the workflow's document.

    Raises:
        ValueError: `at` has no offset from UTC.
    """
    given = {"after_s": after_s, "at": moment_text(at, "at"), "action": action}
    return {key: value for key, value in given.items() if value is not None}


def moment_text(given: Any, name: str) -> Any:  # noqa: ANN401 - a moment, or a reference
    """Return a moment as a workflow's document has it.

    Raises:
        ValueError: It has no offset from UTC.
    """
    if not isinstance(given, datetime):
        return given
    if given.tzinfo is None:
        raise ValueError(f"{name}={given!r} has no offset from UTC; write one, such as datetime(..., tzinfo=UTC)")
    return given.isoformat()


def end(
    state: Literal["succeeded", "refused", "failed"],
    *,
    reason: str | Ref | Default = "",
    name: str = "end",
    **common: Unpack[Common],
) -> Node:
    """Add the end of the run to the flow being traced."""
    return Step(name).add({"end": {"state": state, "reason": reason}}, common)


def gate(
    condition: Condition,
    *,
    otherwise: Literal["refused", "failed"] = "refused",
    reason: str | Ref | Default = "",
    name: str = "gate",
    **common: Unpack[Common],
) -> Node:
    """Add a condition that the run must meet: it ends as `otherwise` says when it is false."""
    step = Step(name)
    made = {"condition": step.condition(condition), "otherwise": otherwise, "reason": reason}
    return step.add({"gate": made}, common)


def subflow(
    workflow: str,
    data: Any = None,  # noqa: ANN401 - JSON with references in it
    *,
    on_stop: Literal["cancel", "abandon"] = "cancel",
    name: str = "subflow",
    **common: Unpack[Common],
) -> Node:
    """Add a run of another workflow of the namespace; it hands on what that does.

    Args:
        workflow: Its name; the version in force when its turn has come is run.
        data: What it starts with.
        on_stop: What becomes of it when this step is stopped: it is cancelled and waited for, or goes on by itself.
        name: The step's name.
        common: What every step may say; `timeout_s` is how long is waited for its end.
    """
    return Step(name).add({"subflow": {"workflow": workflow, "data": data, "on_stop": on_stop}}, common)


def wait(
    for_s: float | Ref | None = None,
    *,
    until: datetime | Ref | None = None,
    signal: str | None = None,
    event: str | None = None,
    key: str | Ref | None = None,
    name: str = "wait",
    **common: Unpack[Common],
) -> Node:
    """Add a pause of so many seconds, until a moment, or until a signal or an event comes; nobody is held up by it.

    It hands on what came with the signal, or the event: its `id`, `source`, `type`, `subject`, `time` and `data`.

    Args:
        for_s: How long.
        until: Or when it is over.
        signal: Or the name of the signal that ends it.
        event: Or the trigger, one without a workflow, whose next event does.
        key: Under which key of that trigger.
        name: The step's name.
        common: What every step may say.

    Raises:
        ValueError: `until` has no offset from UTC.
    """
    given = {"for_s": for_s, "until": moment_text(until, "until"), "signal": signal, "event": event, "key": key}
    made = {key: value for key, value in given.items() if value is not None}
    return Step(name).add({"wait": made}, common)


def approve(
    title: str | Ref | Default = "",
    *,
    assignees: Iterable[str] = (),
    role: Literal["READ", "EDIT", "MANAGE"] | None = None,
    need: int = 1,
    form: Mapping[str, Mapping[str, Any]] | None = None,
    rejected: Literal["refused", "failed", "go_on"] = "refused",
    expired: Literal["refused", "failed", "go_on", "approve"] = "failed",
    name: str = "approve",
    **common: Unpack[Common],
) -> Node:
    """Add a decision of people; it hands on `approved` and the `votes`, each with `by`, `comment` and `form`.

    Args:
        title: What is to be decided.
        assignees: Who may decide.
        role: Whoever has this role or a higher one may too; EDIT where nobody is named either.
        need: How many must approve; one who rejects is enough to reject.
        form: What is asked of each who approves: by name, `type`, `label`, `choices`, `required`.
        rejected: How the run then ends, or `go_on`.
        expired: The same when nobody has decided within `timeout_s`; `approve` takes silence for consent.
        name: The step's name.
        common: What every step may say; `timeout_s` is how long is waited for a decision.
    """
    asked = {"title": title, "assignees": [*assignees], "role": role, "need": need, "form": dict(form or {})}
    return Step(name).add({"approve": {**asked, "rejected": rejected, "expired": expired}}, common)
