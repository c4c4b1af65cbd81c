"""What a child process has of its worker: a pipe to talk through, and what the work gets beside its input."""

import asyncio
import json
import threading
from collections.abc import Awaitable
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import grpc
from millrace.contracts.tasks import Carried, TaskDispatched
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.client import Channels, Token
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Unavailable
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.tasks import group
from millrace.runtime.transaction import Transaction


def say(pipe: Connection, said: dict[str, Any]) -> None:
    """Say something to the other end of a pipe."""
    pipe.send_bytes(json.dumps(said).encode())


class Talk:
    """A child's end of the pipe to its worker; the group of this process ends when the worker is gone.

    Attributes:
        preempted: Set once the worker has to go.
    """

    def __init__(self, pipe: Connection) -> None:
        self.preempted = threading.Event()
        self._pipe = pipe
        self._saying, self._asking = threading.Lock(), threading.Lock()
        self._kept: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, said: dict[str, Any]) -> None:
        """Tell the worker something."""
        with self._saying:
            say(self._pipe, said)

    def keep(self, carried: Carried) -> None:
        """Have the worker keep what the next attempt is left; return when it has."""
        with self._asking:
            self.say({"says": "carry", "carried": carried.model_dump()})
            self._kept.get()

    def _listen(self) -> None:
        try:
            while True:
                match json.loads(self._pipe.recv_bytes())["says"]:
                    case "kept":
                        self._kept.put(None)
                    case _:
                        self.preempted.set()
        except (EOFError, OSError):
            group.end_own()


class ComputingJob:
    """What work that computes gets of any worker."""

    def __init__(self, talk: Talk, task: TaskDispatched) -> None:
        self.task = task
        self._talk = talk

    @property
    def preempted(self) -> bool:
        """Whether the worker has to go."""
        return self._talk.preempted.is_set()

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is."""
        self._talk.say({"says": "progress", "fraction": fraction, "message": message})

    def carry(self, carried: Carried) -> None:
        """Keep what the next attempt is left; return when it is kept."""
        self._talk.keep(carried)


class ComputeJob(ComputingJob):
    """The job of a service's work that computes: a thread runs a loop for what must be waited for."""

    def __init__(
        self, talk: Talk, task: TaskDispatched, *, service: str, settings: ServiceSettings, store: type[Transaction]
    ) -> None:
        super().__init__(talk, task)
        self.artifacts = Artifacts(settings.artifacts_url, owner=service)
        self._settings = settings
        self._store = store
        self._service = service
        self._database: Database | None = None
        self._channels: Channels | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def channel(self, service: str) -> grpc.aio.Channel:
        """Return a channel to another service, on behalf of the run's principal."""

        async def make() -> grpc.aio.Channel:
            if self._channels is None:
                self._channels = Channels(self._settings.endpoints, Token(self._settings.token_file))
            return self._channels.to(service, on_behalf_of=self.task.principal)

        channel: grpc.aio.Channel = self.wait(make())
        return channel

    def begin(self) -> "_Begun":
        """Open a short transaction of the service's own Store: `with job.begin() as tx`."""
        return _Begun(self)

    def wait(self, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever is awaited
        """Return what an awaitable gives."""

        async def awaited() -> Any:  # noqa: ANN401 - likewise
            return await awaitable

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()

    async def transactions(self) -> Transactions[Any]:
        """Return what opens transactions, on a connection of the child's own."""
        if self._database is None:
            database = Database(self._settings.postgres_dsn.get_secret_value(), pool_size=1)
            self._database = await database.__aenter__()
        return Transactions(self._database, self._store)


class _Begun:
    def __init__(self, job: ComputeJob) -> None:
        self._job = job
        self._opened: Any = None
        self._tx: Any = None

    def __enter__(self) -> Any:  # noqa: ANN401 - the service's own Store
        async def enter() -> Any:  # noqa: ANN401 - likewise
            self._opened = (await self._job.transactions())()
            self._tx = await self._opened.__aenter__()
            return self._tx

        return self._job.wait(enter())

    def __exit__(self, *error: object) -> None:
        self._job.wait(self._ended(*error))

    async def _ended(self, *error: object) -> None:
        await self._opened.__aexit__(*error)
        if self._tx.emitted:
            begin = await self._job.transactions()
            with suppress(Unavailable):  # what is in the table is looked for anyway
                await begin.database.announce()
