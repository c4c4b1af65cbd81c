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
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import ForkServerProcess
from typing import Any

from millrace.contracts.tasks import Carried, TaskDispatched
from millrace.runtime import errors
from millrace.runtime.failpoints import blocking_failpoint
from millrace.runtime.tasks import forked, group
from millrace.runtime.tasks.attempts import text_of
from millrace.runtime.tasks.computing import Talk, say
from millrace.runtime.telemetry import span
from pydantic import BaseModel, TypeAdapter

KILL_WAIT_S = 5.0
PREEMPTED = "preempted"
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
    """One piece of work in a process of its own, which leads a group of all that it starts.

    Args:
        service: Whose work.
        job: Makes what the work gets beside its input, in the child.
        work: The work.
        task: The attempt.
        step: Its input.
        progressed: Is told how far it is.
        keep: Keeps what it leaves to the next attempt.

    Attributes:
        cpu_s: Processor time that it took, seconds; known once it has ended.
    """

    def __init__(
        self,
        service: str,
        job: Callable[[Talk, TaskDispatched], Any],
        work: Callable[..., Any],
        task: TaskDispatched,
        step: BaseModel,
        progressed: Callable[[float, str], None],
        keep: Callable[[Carried], Awaitable[None]],
    ) -> None:
        self.cpu_s = 0.0
        self._progressed, self._keep = progressed, keep
        self._spec = (service, job, work, task, step)
        self._pipe: Connection | None = None
        self._preempted = False

    def preempt(self) -> None:
        """Tell the work that the worker has to go."""
        self._preempted = True
        if self._pipe is not None:
            with suppress(OSError):
                say(self._pipe, {"says": "preempted"})

    async def run(self, traceparent: str) -> bytes:
        """Return the work's result as JSON.

        Args:
            traceparent: The trace that it goes on with.

        Raises:
            Preempted: The work goes on elsewhere, as the worker has to go.
            MillraceError: What the work raised.
            RuntimeError: The work raised something else; its text is in the log only.
            Lost: The process ended without a result.
        """
        ours, theirs = _context.Pipe()
        process = _context.Process(target=_main, args=(theirs, self._spec, traceparent), daemon=True)
        loop = asyncio.get_running_loop()
        # Its own: what else uses threads does not wait until a place that children take is free.
        thread = ThreadPoolExecutor(1, "child")
        try:
            await loop.run_in_executor(thread, process.start)
            theirs.close()
            self._pipe = ours
            if self._preempted:
                self.preempt()
            while (result := await self._heard(await loop.run_in_executor(thread, _hear, ours, process), ours)) is None:
                pass
            return result
        finally:
            self._pipe = None
            _kill(process)
            await asyncio.shield(loop.run_in_executor(thread, _end, process))
            thread.shutdown(wait=False)
            ours.close()
            theirs.close()

    async def _heard(self, said: dict[str, Any], pipe: Connection) -> bytes | None:
        """Do as the child has said; return the result, once it says that."""
        match said["says"]:
            case "progress":
                self._progressed(said["fraction"], said["message"])
            case "carry":
                await self._keep(Carried.model_validate(said["carried"]))
                with suppress(OSError):
                    say(pipe, {"says": "kept"})
            case "result":
                self.cpu_s = said["cpu_s"]
                return bytes(said["result"].encode())
            case _:
                self.cpu_s = said["cpu_s"]
                if said["error"] == PREEMPTED:
                    raise errors.Preempted
                raise _error_of(said)
        return None


def _hear(pipe: Connection, process: ForkServerProcess) -> dict[str, Any]:
    """Return what the child says next.

    Raises:
        Lost: It has ended; what it has started may have its end of the pipe still.
    """
    try:
        wait_for([pipe, process.sentinel])
        if not pipe.poll():
            raise Lost
        said: dict[str, Any] = json.loads(pipe.recv_bytes())
    except (EOFError, OSError):
        raise Lost from None
    return said


def _kill(process: ForkServerProcess) -> None:
    if process.pid is not None:
        process.kill()
        group.end(process.pid)


def _end(process: ForkServerProcess) -> None:
    """End a child, one that was still being started too."""
    _kill(process)
    if process.pid is not None:
        process.join(KILL_WAIT_S)


def _error_of(said: dict[str, Any]) -> Exception:
    known = getattr(errors, said["error"], None)
    if said["ours"] and isinstance(known, type) and issubclass(known, errors.MillraceError):
        return known(said["message"])
    unknown: Exception = type(said["error"], (RuntimeError,), {})()  # known by its class, its text stays in the log
    return unknown


def _main(pipe: Connection, spec: tuple[Any, ...], traceparent: str) -> None:
    forked.settle()
    pid = os.getpid()
    service, make_job, work, task, step = spec
    talk = Talk(pipe)
    said: dict[str, Any]
    status = 0
    try:
        with span(service, task.kind, parent=traceparent):
            blocking_failpoint("tasks.child_began", task.task_id)
            result = work(step, make_job(talk, task))
            blocking_failpoint("tasks.child_worked", task.task_id)
        said = {"says": "result", "result": _to_json(result)}
    except errors.Preempted:
        said = {"says": "error", "error": PREEMPTED}
    except errors.MillraceError as error:
        said = {"says": "error", "error": type(error).__name__, "ours": True, "message": text_of(error)}
    except BaseException as error:
        status = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        if os.getpid() == pid:
            logging.getLogger(__name__).exception("task_failed kind=%s task_id=%s", task.kind, task.task_id)
        said = {"says": "error", "error": type(error).__name__, "ours": False}
    _flush()
    if os.getpid() != pid:
        os._exit(status)  # a copy that the work has forked: the attempt is the original's
    used = resource.getrusage(resource.RUSAGE_SELF)
    talk.say(said | {"cpu_s": used.ru_utime + used.ru_stime})
    os._exit(0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the work may have closed it, or put something of its own there
            stream.flush()


def _to_json(result: Any) -> str:  # noqa: ANN401 - whatever work returns
    kind = type(result) if isinstance(result, BaseModel) or dataclasses.is_dataclass(result) else Any
    return TypeAdapter(kind).dump_json(result).decode()
