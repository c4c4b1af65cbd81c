"""What work prints and logs, with the path of its task."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from millrace.sdk import work

_capturing = threading.Event()


@contextmanager
def captured(beside: Callable[[str], None] = lambda _text: None) -> Iterator[None]:
    """Have what work prints and logs in the block be told to its attempt, line by line.

    What is printed beside all work goes where it went.

    Args:
        beside: Is told what is logged beside all work.
    """
    if _capturing.is_set():  # by a run around this one, or beside it
        yield
        return
    root = logging.getLogger()
    handler = _Handler(beside)
    here = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    aside = [one for one in root.handlers if isinstance(one, logging.StreamHandler) and one.stream in here]
    level = root.level
    _capturing.set()
    for one in aside:
        root.removeHandler(one)
    root.addHandler(handler)
    if not aside and level == logging.WARNING:
        root.setLevel(logging.INFO)  # as nobody has said otherwise
    try:
        with redirect_stdout(_Stream(sys.stdout)), redirect_stderr(_Stream(sys.stderr)):
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        for one in aside:
            root.addHandler(one)
        _capturing.clear()


def flush() -> None:
    """Tell what work has printed of a line that it has not ended."""
    sys.stdout.flush()
    sys.stderr.flush()


class _Stream(io.TextIOBase):
    """Takes what work prints; what is printed elsewhere goes on to the stream that was there."""

    def __init__(self, other: TextIO) -> None:
        self._other = other
        self._begun: dict[int, str] = {}

    def write(self, text: str) -> int:
        here = work.attempt()
        if here is None:
            return self._other.write(text)
        *lines, rest = (self._begun.pop(id(here), "") + text).split("\n")
        for line in lines:
            here.line(line)
        if rest:
            self._begun[id(here)] = rest
        return len(text)

    def flush(self) -> None:
        here = work.attempt()
        if here is None:
            self._other.flush()
        elif rest := self._begun.pop(id(here), ""):
            here.line(rest)

    def isatty(self) -> bool:
        return work.attempt() is None and self._other.isatty()

    def fileno(self) -> int:
        return self._other.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the stream's own
        return self._other.encoding


class _Handler(logging.Handler):
    def __init__(self, beside: Callable[[str], None]) -> None:
        super().__init__()
        self._beside = beside
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        here = work.attempt()
        for line in self.format(record).splitlines():
            (here.line if here is not None else self._beside)(line)
