"""What work gets beside its input."""

from collections.abc import Awaitable
from typing import Any, Protocol

import grpc
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.artifacts import Artifacts


class Begun(Protocol):
    """A transaction that opens by `async with` on the loop, or by `with` in computing work."""

    async def __aenter__(self) -> Any: ...  # noqa: ANN401 - the service's own Store
    async def __aexit__(self, *error: object) -> None: ...
    def __enter__(self) -> Any: ...  # noqa: ANN401 - likewise
    def __exit__(self, *error: object) -> None: ...


class Job(Protocol):
    """What work gets beside its input.

    Attributes:
        task: The attempt it is.
        artifacts: Objects between services, by digest.
    """

    task: TaskDispatched
    artifacts: Artifacts

    def channel(self, service: str) -> grpc.aio.Channel:
        """Return a channel to another service, on behalf of the run's principal."""

    def begin(self) -> Begun:
        """Open a short transaction of the service's own Store."""

    def wait(self, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever is awaited
        """Return what an awaitable gives; for computing work, which is no coroutine."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is, 0 to 1; it is told now and then."""
