"""Work under test: functions that are called where they are dispatched, and what stands in for them."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from millrace.contracts.tasks import Carried
from millrace.sdk import work
from millrace.sdk.local import LocalBody
from millrace.sdk.local.bodies import Raised, called_with, output_of, raised
from millrace.sdk.local.engine import Order

Came = dict[str, Any] | Raised
"""What came of an attempt: its output, or what it raised."""


@dataclass
class StandIn:
    """What is done in place of some work: one answer for each attempt, the last one from then on."""

    answers: Sequence[Any]
    takes_s: float
    asked: int = 0

    def next(self) -> Any:  # noqa: ANN401 - an output, an error or a function
        """Return the answer for the next attempt."""
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def came_of(
    order: Order,
    answer: Any,  # noqa: ANN401 - see `stub`
    moved: Callable[[float, str], None],
    left: Callable[[Carried], None],
) -> Came:
    """Return what comes of an attempt.

    Args:
        order: Which.
        answer: An output, a function that is called with the input, or an error that is raised.
        moved: Is told how far it is.
        left: Is told what it leaves to the next one.
    """
    call = order.call
    attempt = work.Attempt(
        str(order.run.run_id),
        call.task,
        call.kind,
        call.attempt,
        moved,
        task_id=str(order.task_id),
        carried=order.carried,
        keep=left,
        resources=order.needs,
    )
    with work.doing(attempt):
        if isinstance(answer, type) and issubclass(answer, BaseException):
            return raised(answer())
        if isinstance(answer, BaseException):
            return raised(answer.with_traceback(None))
        try:
            given = order.run.values.in_full(call.input) if callable(answer) else None
            output = output_of(call.kind, _returned(answer, given) if callable(answer) else answer)
            return order.run.values.by_reference(call.kind, output)
        except (Exception, work.Preempted) as error:  # noqa: BLE001 - work may raise anything
            return raised(error)


def _returned(body: LocalBody, given: Any) -> Any:  # noqa: ANN401 - whatever it returns
    arguments = called_with(body, given)
    if not inspect.iscoroutinefunction(body):
        return body(**arguments)
    here = contextvars.copy_context()  # on a loop of its own, as the test may have one that is running
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(here.run, asyncio.run, body(**arguments)).result()
