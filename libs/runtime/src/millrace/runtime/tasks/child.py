"""A child process for work that computes: forked from a clean server process, killed when no longer wanted."""

import asyncio
import dataclasses
import json
import logging
import multiprocessing
import os
import pkgutil
import resource
import sys
import threading
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

import grpc
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime import errors
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.client import Channels, Token
from millrace.runtime.failpoints import blocking_failpoint
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.telemetry import span
from millrace.runtime.transaction import Database, Transaction, Transactions
from pydantic import BaseModel, TypeAdapter

KILL_WAIT_S = 5.0
_context = multiprocessing.get_context("forkserver")


class Lost(Exception):
    """The child ended without a word."""


def preload(modules: list[str]) -> None:
    """Have the server process import what children need, so that each one starts in milliseconds.

    Of a package, its modules are imported too: what only children need stays out of the service itself.
    """
    inside = [
        f"{name}.{module.name}"
        for name in modules
        for module in pkgutil.iter_modules(getattr(sys.modules[name], "__path__", ()))
    ]
    _context.set_forkserver_preload(modules + inside)


class Child:
    """One piece of work in a process of its own.

    Attributes:
        cpu_s: Processor time that it took, seconds; known once it has ended.
    """

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        store: type[Transaction],
        work: Callable[..., Any],
        task: TaskDispatched,
        step: BaseModel,
    ) -> None:
        self.cpu_s = 0.0
        self._spec = (service, settings, store, work, task, step)

    async def run(self, traceparent: str, progressed: Callable[[float, str], None]) -> bytes:
        """Return the work's result as JSON.

        Raises:
            MillraceError: What the work raised.
            RuntimeError: The work raised something else; its text is in the log only.
            Lost: The process ended without a result.
        """
        ours, theirs = _context.Pipe()
        process = _context.Process(target=_main, args=(theirs, self._spec, traceparent), daemon=True)
        await asyncio.to_thread(process.start)
        theirs.close()
        try:
            return await self._listen(ours, progressed)
        finally:
            process.kill()
            await asyncio.shield(asyncio.to_thread(process.join, KILL_WAIT_S))
            ours.close()

    async def _listen(self, pipe: Connection, progressed: Callable[[float, str], None]) -> bytes:
        while True:
            try:
                said = json.loads(await asyncio.to_thread(pipe.recv_bytes))
            except (EOFError, OSError):
                raise Lost from None
            match said["says"]:
                case "progress":
                    progressed(said["fraction"], said["message"])
                case "result":
                    self.cpu_s = said["cpu_s"]
                    return bytes(said["result"].encode())
                case _:
                    self.cpu_s = said["cpu_s"]
                    known = getattr(errors, said["error"], None)
                    if isinstance(known, type) and issubclass(known, errors.MillraceError):
                        raise known(said["message"])
                    raise type(said["error"], (RuntimeError,), {})  # known by its class, its text stays in the log


class ComputeJob:
    """The job of work that computes: a thread runs a loop for what must be waited for."""

    def __init__(
        self, pipe: Connection, service: str, settings: ServiceSettings, store: type[Transaction], task: TaskDispatched
    ) -> None:
        self.task = task
        self.artifacts = Artifacts(settings.artifacts_url, owner=service)
        self._pipe = pipe
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

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is."""
        _say(self._pipe, {"says": "progress", "fraction": fraction, "message": message})

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

    def __enter__(self) -> Any:  # noqa: ANN401 - the service's own Store
        async def enter() -> Any:  # noqa: ANN401 - likewise
            self._opened = (await self._job.transactions())()
            return await self._opened.__aenter__()

        return self._job.wait(enter())

    def __exit__(self, *error: object) -> None:
        self._job.wait(self._opened.__aexit__(*error))


def _main(pipe: Connection, spec: tuple[Any, ...], traceparent: str) -> None:
    service, settings, store, work, task, step = spec
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    said: dict[str, Any]
    try:
        with span(service, task.kind, parent=traceparent):
            blocking_failpoint("tasks.child_began", task.task_id)
            result = work(step, ComputeJob(pipe, service, settings, store, task))
            blocking_failpoint("tasks.child_worked", task.task_id)
        said = {"says": "result", "result": _to_json(result)}
    except errors.MillraceError as error:
        said = {"says": "error", "error": type(error).__name__, "message": str(error)}
    except Exception as error:
        logging.getLogger(__name__).exception("task_failed kind=%s task_id=%s", task.kind, task.task_id)
        said = {"says": "error", "error": type(error).__name__, "message": ""}
    used = resource.getrusage(resource.RUSAGE_SELF)
    _say(pipe, said | {"cpu_s": used.ru_utime + used.ru_stime})
    os._exit(0)


def _end_with_parent(pipe: Connection) -> None:
    try:
        pipe.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _say(pipe: Connection, said: dict[str, Any]) -> None:
    pipe.send_bytes(json.dumps(said).encode())


def _to_json(result: Any) -> str:  # noqa: ANN401 - whatever work returns
    kind = type(result) if isinstance(result, BaseModel) or dataclasses.is_dataclass(result) else Any
    return TypeAdapter(kind).dump_json(result).decode()
