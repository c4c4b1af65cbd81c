"""A worker while it runs: a service with no calls and no tables of its own."""

from collections.abc import Sequence

from millrace.runtime.service import service
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import TaskKind
from millrace.runtime.transaction import Transaction
from pydantic_settings import SettingsConfigDict


class WorkerSettings(ServiceSettings):
    """A worker's settings, read from `WORKER_…`."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True, extra="forbid")


async def serve(queue: str, kinds: Sequence[TaskKind], settings: WorkerSettings) -> None:
    """Take the tasks of a queue until SIGTERM, then drain.

    Raises:
        Unavailable: The database did not answer in time.
    """
    async with service(queue, settings) as worker:
        worker.subscribe((), worker.transactions(Transaction), kinds)
        await worker.run()
