"""Workflows written in Python: a function is traced once, and what it called becomes the workflow."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from millrace.core.errors import InvalidDocument
from millrace.core.ir import Workflow
from millrace.core.misfits import check_fits
from millrace.core.parse import parse_workflow
from millrace.sdk.flows.bodies import Catch, attempt, body_of, foreach, loop, parallel, plan, switch
from millrace.sdk.flows.refs import Condition, Default, Node, Place, Ref, plain
from millrace.sdk.flows.starts import Starts, event, moment, text
from millrace.sdk.flows.steps import TaskKind, approve, deadline, deadline_document, end, gate, subflow, task, wait
from millrace.sdk.flows.trace import pointed
from millrace.sdk.local import LocalBody, LocalRun
from millrace.sdk.local.clock import Clock
from millrace.sdk.local.play import Options, play
from millrace.sdk.local.program import run_program

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
    "deadline",
    "end",
    "event",
    "flow",
    "foreach",
    "gate",
    "loop",
    "moment",
    "parallel",
    "plan",
    "subflow",
    "switch",
    "task",
    "text",
    "wait",
]


class Flow(Starts):
    """A traced workflow, with what starts it.

    Attributes:
        workflow: What was traced: equal to the same workflow written in YAML.
        bodies: What does each kind of its work in this process.

    Raises:
        InvalidDocument: Something in it could never be as it says, so that it could not be applied either.
    """

    def __init__(self, workflow: Workflow, bodies: dict[str, LocalBody]) -> None:
        check_fits(workflow)
        super().__init__(workflow)
        self.bodies = bodies

    def run_local(
        self,
        data: Any = None,  # noqa: ANN401 - a JSON value
        *,
        flows: Iterable["Flow"] = (),
        kinds: Iterable[TaskKind] = (),
        skip_waits: bool = False,
        workers: int = 8,
        processes: bool = False,
        quiet: bool = False,
        check: bool = True,
        now: datetime | None = None,
        **trigger: str,
    ) -> LocalRun:
        """Run it in this process to its end, and return what happened; how it goes is shown on stderr.

        Args:
            data: What `trigger.data` is.
            flows: Those that its steps start runs of.
            kinds: Work that its steps may plan, besides that which it calls itself.
            skip_waits: While nothing is worked on, waits and pauses between attempts take no time.
            workers: How many plain functions are under way at once; coroutines only wait, and 1,000 of them may.
            processes: Do plain functions in processes, which are killed when they are to stop, rather than in threads.
            quiet: Show nothing.
            check: Raise when it has failed or was cancelled.
            now: When it starts on its own clock; default: now.
            trigger: `id`, `source`, `type`, `subject` and `time` of the event that starts it.

        Raises:
            RunFailed: It has failed or was cancelled; raised from what the task raised that failed.
            LookupError: A kind of its work has no function here, or a flow that it starts was not given.
            KeyboardInterrupt: Somebody has interrupted it: it was cancelled, and its work asked to stop.
        """
        every = (*flows, self)
        run = play(
            self.workflow,
            bodies_of(every, kinds),
            {**trigger, "data": data},
            [flow.workflow for flow in flows],
            clock=Clock(now),
            options=Options(skip_waits, workers, processes, quiet),
        )
        return run.checked() if check else run

    def main(self, arguments: Sequence[str] | None = None, *, flows: Iterable["Flow"] = ()) -> NoReturn:
        """Run it in this process as the command line says, and leave: with 0, 3 when it was refused, 1 otherwise.

        Each field of `trigger.data` that it refers to is an option: `python flow.py --year 2013`; `--help` tells all.

        Args:
            arguments: The command line; default: the program's own.
            flows: Those that its steps start runs of.
        """
        run_program(self, arguments, flows)


def bodies_of(flows: Iterable[Flow], kinds: Iterable[TaskKind] = ()) -> dict[str, LocalBody]:
    """Return what does each kind of work of some flows, and of some kinds besides."""
    bodies = {one.kind: one.body for one in kinds if one.body is not None}
    return bodies | {kind: body for flow in flows for kind, body in flow.bodies.items()}


def flow(
    name: str,
    *,
    timeout_s: float | None = None,
    description: str = "",
    deadline: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Flow]:
    """Return a decorator that traces a function into a workflow.

    The function is called once, with a reference to the trigger (and, if it takes two arguments, to the run). What it
    returns is the workflow's output.

    Args:
        name: What it is called.
        timeout_s: How long a run may take.
        description: What it is for.
        deadline: When a run is to be done by, counted from its start: `{"after_s": 3600, "action": "notify"}`.

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
        if deadline is not None:
            document["deadline"] = plain(deadline_document(**deadline), {})
        try:
            return Flow(parse_workflow(document), traced.local)
        except InvalidDocument as error:
            raise pointed(error, traced.lines) from None

    return trace
