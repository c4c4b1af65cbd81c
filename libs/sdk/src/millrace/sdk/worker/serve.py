"""A worker while it runs: a service with no calls and no tables of its own."""

from collections.abc import Sequence
from datetime import timedelta

from millrace.runtime.service import service
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import TaskKind
from millrace.runtime.transaction import Transaction
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class WorkerSettings(ServiceSettings):
    """A worker's settings, read from `WORKER_…`."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True, extra="forbid")

    artifact_grace: timedelta = Field(timedelta(days=400), ge=timedelta(days=31))
    """How long a value stays that a task has handed on by reference: longer than any run that refers to it, and longer
    than the 30 days for which the cache may hand it on."""


async def serve(queue: str, kinds: Sequence[TaskKind], settings: WorkerSettings) -> None:
    """Take the tasks of a queue until SIGTERM, then drain.

    Raises:
        Unavailable: The database did not answer in time.
    """
    async with service(queue, settings) as worker:
        begin = worker.transactions(Transaction)
        worker.subscribe((), begin, kinds)
        worker.collect(begin, _nothing_referred)
        await worker.run()


async def _nothing_referred(_: Transaction, __: Sequence[str]) -> set[str]:
    """Return nothing: which runs refer to a value, a worker does not know; its age decides."""
    return set()
