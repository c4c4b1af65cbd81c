"""How work is done: a coroutine on the service's loop, a plain function in a child process."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import grpc
import structlog
from millrace.contracts.tasks import Carried, TaskDispatched
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.client import Channels
from millrace.runtime.database import Transactions
from millrace.runtime.errors import MillraceError, Preempted
from millrace.runtime.tasks.attempts import Attempt, Ended, raised
from millrace.runtime.tasks.child import PREEMPTED, Child, Lost
from millrace.runtime.tasks.computing import Talk
from millrace.runtime.tasks.job import WaitingJob
from millrace.runtime.tasks.slots import Slots
from millrace.runtime.traceparent import current_traceparent
from pydantic import TypeAdapter

log = structlog.get_logger()


Keep = Callable[[Attempt, Carried], asyncio.Future[None]]
"""Keeps what an attempt leaves to the next one; done once it is kept."""


class Doing:
    """Does the work of attempts; at most so many compute at once.

    Args:
        service: Whose.
        at_once: How many.
        keep: Keeps what an attempt leaves to the next one.
        waiting: Makes what a coroutine gets beside its input.
        computing: Makes what a plain function gets, in its own process.
    """

    def __init__(
        self,
        service: str,
        at_once: int,
        keep: Keep,
        waiting: Callable[[Attempt], Any],
        computing: Callable[[Talk, TaskDispatched], Any],
    ) -> None:
        self._service = service
        self._slots = Slots(at_once)
        self._keep = keep
        self._waiting = waiting
        self._computing = computing

    async def do(self, attempt: Attempt) -> Ended:
        """Do the work of an attempt and return how it ended, whatever it raises."""
        seconds = [0.0]
        try:
            step = attempt.kind.input.model_validate(attempt.task.input)
            if inspect.iscoroutinefunction(attempt.kind.work):
                attempt.begun = time.monotonic()
                result = await _Measured(attempt.kind.work(step, self._waiting(attempt)), seconds)
            else:
                async with self._slots.place(attempt.task.namespace):
                    result = await self._compute(attempt, step, seconds)
        except Preempted:
            return Ended(attempt, seconds[0], error=PREEMPTED, message="the worker has to go")
        except Lost:
            return Ended(attempt, seconds[0], error="lost", message="the worker process ended before its work")
        except MillraceError as error:
            return raised(attempt, seconds[0], error)
        except BaseException as error:
            if isinstance(error, GeneratorExit) or (attempt.stopped and isinstance(error, asyncio.CancelledError)):
                raise
            log.exception("task_failed", kind=attempt.task.kind, task_id=str(attempt.task.task_id), exc_info=error)
            return raised(attempt, seconds[0], error)
        return Ended(attempt, seconds[0], result=result)

    async def _compute(self, attempt: Attempt, step: Any, seconds: list[float]) -> Any:  # noqa: ANN401 - work's own types
        if attempt.preempted:
            raise Preempted
        attempt.begun = time.monotonic()

        def progressed(fraction: float, message: str) -> None:
            attempt.fraction, attempt.message = fraction, message

        keep = partial(self._keep, attempt)
        child = Child(self._service, self._computing, attempt.kind.work, attempt.task, step, progressed, keep)
        attempt.tells_child = child.preempt
        try:
            result = await child.run(current_traceparent())
        finally:
            seconds[0] = child.cpu_s
        given = inspect.signature(attempt.kind.work, eval_str=True).return_annotation
        return TypeAdapter(Any if given is inspect.Signature.empty else given).validate_json(result)


class LoopJob(WaitingJob):
    """The job of a service's work that only waits, on the service's own loop."""

    def __init__(
        self, attempt: Attempt, keep: Keep, artifacts: Artifacts, channels: Channels, begin: Transactions[Any]
    ) -> None:
        super().__init__(attempt, keep)
        self.artifacts = artifacts
        self._channels = channels
        self._begin = begin

    def channel(self, service: str) -> grpc.aio.Channel:
        """Return a channel to another service, on behalf of the run's principal."""
        return self._channels.to(service, on_behalf_of=self.task.principal)

    def begin(self) -> Any:  # noqa: ANN401 - opened by `async with`
        """Open a short transaction of the service's own Store."""
        return self._begin()

    def wait(self, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - see Job
        """Refuse: a coroutine awaits."""
        raise TypeError(f"{self.task.kind} is a coroutine: it awaits, and does not wait for {awaitable}")


class _Measured:
    """A coroutine whose own processor time is added up, step by step: the loop has others between."""

    def __init__(self, work: Coroutine[Any, Any, Any], seconds: list[float]) -> None:
        self._work = work
        self._seconds = seconds

    def __await__(self) -> Any:  # noqa: ANN401 - a generator of whatever the loop is asked for
        send, throw = self._work.send, self._work.throw
        value: Any = None
        error: BaseException | None = None
        while True:
            began = time.thread_time()
            try:
                asked = throw(error) if error is not None else send(value)
            except StopIteration as stop:
                return stop.value
            finally:
                self._seconds[0] += time.thread_time() - began
            value, error = None, None
            try:
                value = yield asked
            except BaseException as raised:  # noqa: BLE001 - passed on to the work
                error = raised
