"""A flow while it is traced: the steps that its function has called so far, and where it called them."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from millrace.core.errors import InvalidDocument, Problem
from millrace.sdk.flows.refs import Condition, Node, plain
from millrace.sdk.local import LocalBody

_PACKAGE = str(Path(__file__).parent)
_tracing: ContextVar["Trace"] = ContextVar("tracing")


class Trace:
    """The steps of a flow, or of a body of one of its steps.

    Attributes:
        tasks: By name, as they stand in the workflow's document.
        local: What does each kind of work in this process.
        lines: By its field in the document, the line in which a step was called.
        outside: The steps around this body that it refers to.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.local: dict[str, LocalBody] = {}
        self.lines: dict[str, str] = {}
        self.outside: dict[str, None] = {}

    def add(
        self,
        name: str,
        task: dict[str, Any],
        *,
        after: Iterable[Node] = (),
        when: Condition | str | None = None,
        needs: Iterable[str] = (),
    ) -> Node:
        """Add a step, which needs whatever it refers to.

        Raises:
            ValueError: There is one of this name already.
        """
        if name in self.tasks:
            raise ValueError(f"the flow has a step {name!r} already; give this one its own: .step(name=...)(...)")
        every = dict.fromkeys([*(node.name for node in after), *needs])
        made = {key: plain(value, every) for key, value in task.items()}
        if isinstance(when, Condition):
            every |= dict.fromkeys(sorted(when.needs))
            made["when"] = when.text
        elif when is not None:
            made["when"] = when
        made["needs"] = [need for need in every if need in self.tasks]
        self.outside |= dict.fromkeys(need for need in every if need not in self.tasks)
        self.tasks[name] = made
        self.lines[f"tasks.{name}"] = author_line()
        return Node(name)

    def amend(self, name: str, field: str, value: Any) -> None:  # noqa: ANN401 - JSON with references in it
        """Set a field of a step that was added, which then needs whatever that refers to.

        Raises:
            ValueError: There is no such step here.
        """
        if name not in self.tasks:
            raise ValueError(
                f"the flow, or this body of it, has no step {name!r}; its steps are {', '.join(self.tasks)}"
            )
        needs: dict[str, None] = {}
        task = self.tasks[name]
        task[field] = plain(value, needs)
        task["needs"] = [*dict.fromkeys([*task["needs"], *(need for need in needs if need in self.tasks)])]
        self.outside |= dict.fromkeys(need for need in needs if need not in self.tasks)

    def include(self, name: str, field: str, body: "Trace") -> None:
        """Take over what a body of a step has noted."""
        self.local |= body.local
        self.lines |= {f"tasks.{name}.{field}.{place}": line for place, line in body.lines.items()}

    @contextmanager
    def following(self) -> Iterator[None]:
        """Have what is called in the block be a step of this."""
        token = _tracing.set(self)
        try:
            yield
        finally:
            _tracing.reset(token)


def current() -> Trace:
    """Return what is being traced.

    Raises:
        RuntimeError: Nothing is.
    """
    try:
        return _tracing.get()
    except LookupError:
        raise RuntimeError(
            "tasks are called inside a function decorated with @flow(...); <task>.fn(...) calls the plain function"
        ) from None


def pointed(error: InvalidDocument, lines: dict[str, str]) -> InvalidDocument:
    """Return an error whose problems name the lines in which the steps they are about were called."""
    return InvalidDocument(error.what, [_pointed(problem, lines) for problem in error.problems])


def pointed_at(error: InvalidDocument, line: str) -> InvalidDocument:
    """Return an error all of whose problems are of one line."""
    return InvalidDocument(error.what, [Problem(one.field, f"{one.message} [{line}]") for one in error.problems])


def _pointed(problem: Problem, lines: dict[str, str]) -> Problem:
    place = max((place for place in lines if f"{problem.field}.".startswith(f"{place}.")), key=len, default=None)
    return problem if place is None else Problem(problem.field, f"{problem.message} [{lines[place]}]")


def author_line() -> str:
    """Return the author's line that is being executed, as an editor opens it."""
    frame = sys._getframe(1)  # noqa: SLF001 - the way to it without reading every source file on the stack
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
