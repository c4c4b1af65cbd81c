"""What work gets beside its input."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
from millrace.contracts.tasks import Carried, TaskDispatched
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.tasks.attempts import Attempt


class Begun(Protocol):
    """A transaction that opens by `async with` on the loop, or by `with` in computing work."""

    async def __aenter__(self) -> Any: ...  # noqa: ANN401 - the service's own Store
    async def __aexit__(self, *error: object) -> None: ...
    def __enter__(self) -> Any: ...  # noqa: ANN401 - likewise
    def __exit__(self, *error: object) -> None: ...


class Job(Protocol):
    """What work gets beside its input.

    Attributes:
        task: The attempt it is; `task.carried` is what earlier ones have left to it.
        artifacts: Objects between services, by digest.
    """

    task: TaskDispatched
    artifacts: Artifacts

    @property
    def preempted(self) -> bool:
        """Whether the worker has to go: work that ends by `Preempted` now goes on elsewhere, from what it has kept."""

    def channel(self, service: str) -> grpc.aio.Channel:
        """Return a channel to another service, on behalf of the run's principal."""

    def begin(self) -> Begun:
        """Open a short transaction of the service's own Store."""

    def wait(self, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever is awaited
        """Return what an awaitable gives; for computing work, which is no coroutine."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is, 0 to 1; it is told now and then."""

    def carry(self, carried: Carried) -> Awaitable[None] | None:
        """Keep what the next attempt is left, should there be one: computing work returns when it is kept.

        Returns:
            What a coroutine may await: it is kept then. None in computing work.
        """


class WaitingJob:
    """What work that only waits gets of any worker."""

    def __init__(self, attempt: Attempt, keep: Callable[[Attempt, Carried], asyncio.Future[None]]) -> None:
        self.task = attempt.task
        self._attempt = attempt
        self._keep = keep

    @property
    def preempted(self) -> bool:
        """Whether the worker has to go."""
        return self._attempt.preempted

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is."""
        self._attempt.fraction, self._attempt.message = fraction, message

    def carry(self, carried: Carried) -> Awaitable[None]:
        """Keep what the next attempt is left; return what to await for that."""
        return self._keep(self._attempt, carried)
