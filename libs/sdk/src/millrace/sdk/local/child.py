"""A plain function in a process of its own: killed when it is to stop, and gone with the process that it works for."""

import importlib
import multiprocessing
import os
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from millrace.contracts.tasks import Carried
from millrace.runtime.errors import InvalidInput
from millrace.runtime.tasks import forked, group
from millrace.sdk import work
from millrace.sdk.local.bodies import LocalBody, Lost, Raised, name_of, output_of, place_of, raised, text_of
from millrace.sdk.local.captured import captured, flush

_context = multiprocessing.get_context("forkserver")
_ENDS_WITHIN_S = 5.0
_LOOKS_EVERY_S = 0.05


class RaisedInChild(Exception):
    """What work raised in a process of its own; its traceback is in its notes."""


def in_child(body: LocalBody, arguments: dict[str, Any], attempt: work.Attempt) -> dict[str, Any] | Raised | None:
    """Return what comes of a function in a process of its own; None when it was stopped.

    Raises:
        InvalidInput: The function cannot be found from another process.
    """
    place = _place(body)
    _context.set_forkserver_preload([name for name in ("millrace.sdk.flows", place[0]) if name != "__main__"])
    ours, theirs = _context.Pipe()
    given = (theirs, place, arguments, _told(attempt))
    process = _context.Process(target=_main, args=given, daemon=True)
    process.start()
    theirs.close()
    try:
        return _listen(ours, attempt)
    finally:
        process.kill()
        group.end(process.pid)
        process.join(_ENDS_WITHIN_S)
        ours.close()


def _listen(pipe: Connection, attempt: work.Attempt) -> dict[str, Any] | Raised | None:
    while not attempt.stopped.is_set():
        if not pipe.poll(_LOOKS_EVERY_S):
            continue
        try:
            said = pipe.recv()
        except (EOFError, OSError):
            return raised(Lost("the process ended before its work"))
        match said:
            case "progress", fraction, message:
                attempt.moved(fraction, message)
            case "carry", carried:
                attempt.keep(Carried.model_validate(carried))
            case "line", text:
                attempt.line(text)
            case "output", output:
                return dict(output)
            case "raised", kind, message, text, where, final, lost:
                error = RaisedInChild(f"{kind}: {message}" if message else kind)
                error.add_note(text)
                return Raised(kind, message, error, where, final, lost)
    return None


def _place(body: LocalBody) -> tuple[str, str]:
    """Return where a function is found: its module and its name there."""
    module, name = getattr(body, "__module__", ""), getattr(body, "__qualname__", "")
    if not module or not name or "<" in name:
        raise InvalidInput(
            f"{name or body!r} is defined inside a function: processes=True needs it at the top of a module"
        )
    return module, name


def _told(attempt: work.Attempt) -> dict[str, Any]:
    names = ("run_id", "task", "kind", "number", "task_id", "carried", "resources")
    return {name: getattr(attempt, name) for name in names}


def _main(pipe: Connection, place: tuple[str, str], arguments: dict[str, Any], told: dict[str, Any]) -> None:
    forked.settle()
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    lock = threading.Lock()

    def say(*said: Any) -> None:  # noqa: ANN401 - see _listen
        with lock, suppress(OSError):
            pipe.send(said)

    attempt = work.Attempt(
        **told,
        moved=lambda fraction, message: say("progress", fraction, message),
        line=lambda text: say("line", text),
        keep=lambda carried: say("carry", carried.model_dump()),
    )
    with captured(), work.doing(attempt):
        came = _do(place, arguments)
        flush()
    say(*came)
    pipe.close()
    os._exit(0)


def _do(place: tuple[str, str], arguments: dict[str, Any]) -> tuple[Any, ...]:
    try:
        body = _found(place)
        return "output", output_of(name_of(body), body(**arguments))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told to the process that it works for
        came = raised(error)
        return "raised", came.kind, came.message, text_of(error), place_of(error.__traceback__), came.final, came.lost


def _found(place: tuple[str, str]) -> LocalBody:
    found: Any = importlib.import_module(place[0])
    for part in place[1].split("."):
        found = getattr(found, part)
    body: LocalBody = getattr(found, "fn", found)
    return body


def _end_with_parent(pipe: Connection) -> None:
    """End when the other end of the pipe is gone: nothing is ever sent this way."""
    with suppress(EOFError, OSError):
        pipe.recv()
    group.end_own()
