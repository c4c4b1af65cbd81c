"""Workflows written in Python: a function is traced once, and what it called becomes the workflow."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from millrace.core.errors import InvalidDocument
from millrace.core.ir import Workflow
from millrace.core.parse import parse_workflow
from millrace.sdk.flows.bodies import Catch, attempt, body_of, foreach, loop, parallel, plan, switch
from millrace.sdk.flows.refs import Condition, Default, Node, Place, Ref
from millrace.sdk.flows.steps import TaskKind, approve, end, gate, subflow, task, wait
from millrace.sdk.flows.trace import LocalBody, pointed
from millrace.sdk.local import LocalRun, run_locally

__all__ = [
    "Catch",
    "Condition",
    "Default",
    "Flow",
    "Node",
    "Ref",
    "TaskKind",
    "approve",
    "attempt",
    "end",
    "flow",
    "foreach",
    "gate",
    "loop",
    "parallel",
    "plan",
    "subflow",
    "switch",
    "task",
    "wait",
]


class Flow:
    """A traced workflow.

    Attributes:
        workflow: What was traced: equal to the same workflow written in YAML.
        bodies: What does each kind of its work in this process.
    """

    def __init__(self, workflow: Workflow, bodies: dict[str, LocalBody]) -> None:
        self.workflow = workflow
        self.bodies = bodies

    def run_local(
        self,
        data: Any = None,  # noqa: ANN401 - a JSON value
        *,
        now: datetime | None = None,
        flows: Iterable["Flow"] = (),
        kinds: Iterable[TaskKind] = (),
        **trigger: str,
    ) -> LocalRun:
        """Run it in this process, its tasks being their Python bodies and time being virtual.

        Args:
            data: What `trigger.data` is.
            now: When the run starts.
            flows: Those that its steps start runs of.
            kinds: Work that its steps may plan, besides that which it calls itself.
            trigger: `id`, `source`, `type`, `subject` and `time` of the event that starts it.
        """
        others = {flow.workflow.name: flow.workflow for flow in flows}
        bodies = {one.kind: one.body for one in kinds if one.body is not None}
        bodies |= {kind: body for flow in (*flows, self) for kind, body in flow.bodies.items()}
        return run_locally(self.workflow, bodies, {**trigger, "data": data}, now, others)


def flow(name: str, *, timeout_s: float | None = None, description: str = "") -> Callable[[Callable[..., Any]], Flow]:
    """Return a decorator that traces a function into a workflow.

    The function is called once, with a reference to the trigger (and, if it takes two arguments, to the run). What it
    returns is the workflow's output.

    Raises:
        InvalidDocument: What it called is not a valid workflow; raised where the flow is defined, with the lines in
            which the steps were called.
    """

    def trace(function: Callable[..., Any]) -> Flow:
        refs = (Ref(Place(("trigger",), "trigger")), Ref(Place(("run",), "run")))
        traced, body = body_of(function, refs)
        document: dict[str, Any] = {"name": name, **body}
        if timeout_s is not None:
            document["timeout_s"] = timeout_s
        if description:
            document["description"] = description
        try:
            return Flow(parse_workflow(document), traced.local)
        except InvalidDocument as error:
            raise pointed(error, traced.lines) from None

    return trace
