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
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from millrace.contracts.tasks import Carried, TaskDispatched
from millrace.runtime import errors
from millrace.runtime.failpoints import blocking_failpoint
from millrace.runtime.tasks import group
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
    ) -> None:
        self.cpu_s = 0.0
        self._spec = (service, job, work, task, step)
        self._pipe: Connection | None = None
        self._preempted = False

    def preempt(self) -> None:
        """Tell the work that the worker has to go."""
        self._preempted = True
        if self._pipe is not None:
            with suppress(OSError):
                say(self._pipe, {"says": "preempted"})

    async def run(
        self,
        traceparent: str,
        progressed: Callable[[float, str], None],
        keep: Callable[[Carried], Awaitable[None]],
    ) -> bytes:
        """Return the work's result as JSON.

        Args:
            traceparent: The trace that it goes on with.
            progressed: Is told how far it is.
            keep: Keeps what it leaves to the next attempt.

        Raises:
            Preempted: The work goes on elsewhere, as the worker has to go.
            MillraceError: What the work raised.
            RuntimeError: The work raised something else; its text is in the log only.
            Lost: The process ended without a result.
        """
        ours, theirs = _context.Pipe()
        process = _context.Process(target=_main, args=(theirs, self._spec, traceparent), daemon=True)
        await asyncio.to_thread(process.start)
        theirs.close()
        self._pipe = ours
        if self._preempted:
            self.preempt()
        try:
            return await self._listen(ours, progressed, keep)
        finally:
            self._pipe = None
            process.kill()
            group.end(process.pid)
            await asyncio.shield(asyncio.to_thread(process.join, KILL_WAIT_S))
            ours.close()

    async def _listen(
        self,
        pipe: Connection,
        progressed: Callable[[float, str], None],
        keep: Callable[[Carried], Awaitable[None]],
    ) -> bytes:
        while True:
            try:
                said = json.loads(await asyncio.to_thread(pipe.recv_bytes))
            except (EOFError, OSError):
                raise Lost from None
            match said["says"]:
                case "progress":
                    progressed(said["fraction"], said["message"])
                case "carry":
                    await keep(Carried.model_validate(said["carried"]))
                    with suppress(OSError):
                        say(pipe, {"says": "kept"})
                case "result":
                    self.cpu_s = said["cpu_s"]
                    return bytes(said["result"].encode())
                case _:
                    self.cpu_s = said["cpu_s"]
                    if said["error"] == PREEMPTED:
                        raise errors.Preempted
                    known = getattr(errors, said["error"], None)
                    if isinstance(known, type) and issubclass(known, errors.MillraceError):
                        raise known(said["message"])
                    raise type(said["error"], (RuntimeError,), {})  # known by its class, its text stays in the log


def _main(pipe: Connection, spec: tuple[Any, ...], traceparent: str) -> None:
    group.lead()
    service, make_job, work, task, step = spec
    talk = Talk(pipe)
    said: dict[str, Any]
    try:
        with span(service, task.kind, parent=traceparent):
            blocking_failpoint("tasks.child_began", task.task_id)
            result = work(step, make_job(talk, task))
            blocking_failpoint("tasks.child_worked", task.task_id)
        said = {"says": "result", "result": _to_json(result)}
    except errors.Preempted:
        said = {"says": "error", "error": PREEMPTED, "message": ""}
    except errors.MillraceError as error:
        said = {"says": "error", "error": type(error).__name__, "message": str(error)}
    except Exception as error:
        logging.getLogger(__name__).exception("task_failed kind=%s task_id=%s", task.kind, task.task_id)
        said = {"says": "error", "error": type(error).__name__, "message": ""}
    used = resource.getrusage(resource.RUSAGE_SELF)
    talk.say(said | {"cpu_s": used.ru_utime + used.ru_stime})
    os._exit(0)


def _to_json(result: Any) -> str:  # noqa: ANN401 - whatever work returns
    kind = type(result) if isinstance(result, BaseModel) or dataclasses.is_dataclass(result) else Any
    return TypeAdapter(kind).dump_json(result).decode()
