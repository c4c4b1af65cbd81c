"""Python functions as work: called with an attempt's input, and what came of it."""

import inspect
import json
import linecache
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from millrace.core.parts import canonical_json
from millrace.runtime.errors import InvalidInput, Preempted

LocalBody = Callable[..., Any]
"""What does a kind of task in this process: takes the input's fields, returns the output: a dict, or nothing."""

_OURS = str(Path(__file__).resolve().parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class Lost(Exception):
    """The worker of an attempt is gone: no fault of the work, so that it counts against the budget for that."""


@dataclass(frozen=True)
class Raised:
    """What an attempt raised.

    Attributes:
        kind: The error's class, by which rules for retries and catches know it.
        error: The error itself, its traceback beginning in the author's code.
        place: The author's line in which it was raised, as an editor opens it; empty when there is none.
        final: Trying again cannot help.
    """

    kind: str
    message: str
    error: BaseException
    place: str = ""
    final: bool = False
    lost: bool = False


def body_of(bodies: Mapping[str, LocalBody], kind: str) -> LocalBody:
    """Return what does a kind of work; where nothing does, a function that says so."""

    def nobody(**_: Any) -> None:  # noqa: ANN401 - whatever the input has
        raise InvalidInput(f"no function does {kind} here: give its kind along")

    return bodies.get(kind, nobody)


def called_with(body: LocalBody, given: Any) -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    """Return a body's arguments, its own copy of an attempt's input.

    Raises:
        InvalidInput: The function does not take them.
    """
    arguments: dict[str, Any] = json.loads(json.dumps(given))
    try:
        inspect.signature(body).bind(**arguments)
    except TypeError as error:
        code = getattr(body, "__code__", None)
        where = f" [{code.co_filename}:{code.co_firstlineno}]" if code is not None else ""
        raise InvalidInput(
            f"{name_of(body)}(): {error}; its input has {', '.join(arguments) or 'nothing'}{where}"
        ) from None
    except ValueError:
        pass  # a builtin that does not say what it takes
    return arguments


def output_of(name: str, returned: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever it returned
    """Return what work of a name hands on, as others will see it: a copy, in the form that JSON gives it.

    Raises:
        InvalidInput: It is no JSON object.
    """
    handed_on = {} if returned is None else returned
    if not isinstance(handed_on, Mapping):
        raise InvalidInput(
            f"{name} returned {type(returned).__name__}; a task hands on a dict, such as {{'value': …}}, or nothing"
        )
    try:
        copied: dict[str, Any] = json.loads(canonical_json(dict(handed_on)))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} returned what is no JSON: {error}") from None
    return copied


def name_of(body: LocalBody) -> str:
    """Return what a body is called."""
    return getattr(body, "__name__", type(body).__name__)


def raised(error: BaseException) -> Raised:
    """Return what it means that work raised this."""
    error.__traceback__ = _from_the_author(error.__traceback__)
    final, lost = isinstance(error, InvalidInput), isinstance(error, Lost | Preempted)
    kind = {Lost: "lost", Preempted: "preempted"}.get(type(error), type(error).__name__)
    return Raised(kind, str(error), error, place_of(error.__traceback__), final, lost)


def text_of(error: BaseException) -> str:
    """Return an error with its traceback, as Python shows it."""
    return "".join(traceback.format_exception(error)).rstrip()


def place_of(trace: TracebackType | None) -> str:
    """Return the innermost of the author's lines in a traceback, with what it says."""
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(_OURS)]
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)] or frames
    if not own:
        return ""
    last = own[-1]
    said = linecache.getline(last.filename, last.lineno or 0).strip()
    return f"{last.filename}:{last.lineno}" + (f": {said}" if said else "")


def _from_the_author(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of what called the author's code."""
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace
