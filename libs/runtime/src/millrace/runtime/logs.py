"""Log lines: one JSON object each, with the service and the trace, never with payloads."""

import json
import logging
import sys
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog
from millrace.runtime.errors import MillraceError
from opentelemetry import trace

_process = {"service": "", "configured": ""}


class Lossy:
    """A stream that loses what cannot be written: a full disk costs log lines, not the service.

    Args:
        stream: Where lines go.
        lost: Called when some did not get there.
    """

    def __init__(self, stream: TextIO, lost: Callable[[], None]) -> None:
        self._stream = stream
        self._lost = lost

    def write(self, text: str) -> int:
        """Write, as far as that is possible."""
        try:
            self._stream.write(text)
        except OSError:
            self._lost()
        return len(text)

    def flush(self) -> None:
        """Write what is waiting, as far as that is possible."""
        try:
            self._stream.flush()
        except OSError:
            self._lost()


def configure(service: str, stream: TextIO, lost: Callable[[], None] = lambda: None) -> None:
    """Begin to log for a service: JSON lines, or text on a terminal; what libraries log leaves in the same form.

    Args:
        service: Its name, for every line.
        stream: Where lines go.
        lost: Called when some could not be written.
    """
    _process["service"] = service
    if _process["configured"]:
        return
    _process["configured"] = "yes"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        add_identity,
    ]
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer()] if stream.isatty() else [add_error, structlog.processors.JSONRenderer(_json)]
    )
    lossy: Any = Lossy(stream, lost)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(lossy),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lossy)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def add_identity(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the service and, inside a span, its trace to a log line."""
    line.setdefault("service", _process["service"])
    found = trace.get_current_span().get_span_context()
    if found.is_valid:
        line.setdefault("trace_id", f"{found.trace_id:032x}")
        line.setdefault("span_id", f"{found.span_id:016x}")
    return line


def add_error(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace an exception by where it came from.

    Local variables are never logged, and neither is the text of an exception that may quote what it was given.
    """
    error = line.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        line["exception"] = describe(error)
    return line


def describe(error: BaseException) -> list[dict[str, Any]]:
    """Return the chain of an exception, first cause last: class, frames, and its text where that is only ours."""
    chain: list[dict[str, Any]] = []
    while error is not None and len(chain) < 5:  # noqa: PLR2004 - enough to see the cause
        frames = traceback.extract_tb(error.__traceback__)[-20:]
        link: dict[str, Any] = {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            "frames": [f"{frame.filename}:{frame.lineno} {frame.name}: {frame.line}" for frame in frames],
        }
        if text := _safe_text(error):
            link["message"] = text
        chain.append(link)
        following = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if following is None:
            break
        error = following
    return chain


def _safe_text(error: BaseException) -> str:
    """Return an exception's text where it speaks of code, not of values."""
    if isinstance(error, OSError):
        return error.strerror or ""
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate:
        return f"{sqlstate} {error.args[0] if error.args and sqlstate.startswith('42') else ''}".strip()
    ours = (MillraceError, ImportError, AttributeError, NameError, TypeError)
    return str(error)[:500] if isinstance(error, ours) else ""


def _json(line: Any, **_: Any) -> str:  # noqa: ANN401 - structlog's serializer
    return json.dumps(line, default=str, ensure_ascii=False)
