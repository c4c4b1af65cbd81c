"""Runs in this process as they go, on stderr: a live tree on a terminal, a line for each change elsewhere."""

import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Self
from uuid import UUID

from millrace.core.state import Run, TaskRun, TaskState
from millrace.sdk.local.clock import Clock
from millrace.sdk.local.message import MOST_TASKS, as_message, task_message
from millrace.sdk.local.run import LocalRun
from millrace.sdk.rendering import duration
from millrace.sdk.watching import run_table, task_line
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

REFRESH_S = 0.25
"""How often a live tree is drawn anew, seconds."""
_WIDE = 400
#: Of these there is nothing to say yet, or nothing that the task they are in does not say.
_SILENT = frozenset({TaskState.QUEUED, TaskState.DISPATCHED, TaskState.OPEN, TaskState.CLOSING, TaskState.CANCELLING})


class Display:
    """Shows runs.

    Args:
        clock: Their time.
        shown: Whether anything is shown at all.

    Attributes:
        live: Whether a tree is drawn while they go.
    """

    def __init__(self, clock: Clock, *, shown: bool = True) -> None:
        terminal = sys.stderr.isatty()
        width = None if terminal else _WIDE
        self._console = Console(stderr=True, width=width, highlight=False, markup=False, emoji=False)
        self.live = shown and terminal
        self._clock, self._shown = clock, shown
        self._runs: dict[UUID, LocalRun] = {}
        self._drawn = 0.0
        self._live: Live | None = None
        self._standing = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the tree of each run standing."""
        self.pause()
        if self._shown and self._runs:
            self._console.print(self._trees(wide=True))

    def pause(self) -> None:
        """Draw no tree, so that somebody can write; the next `draw` goes on."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def draw(self) -> None:
        """Draw the trees, if it is time."""
        self._standing = ""
        if self.live and time.monotonic() - self._drawn >= REFRESH_S:
            self._drawn = time.monotonic()
            if self._live is None:
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,  # what work prints is captured, and told with its task
                    redirect_stderr=False,
                )
                self._live.start()
            self._live.update(self._trees(), refresh=True)

    def changed(self, run: LocalRun, before: Run, changed: Mapping[str, TaskRun]) -> None:
        """Take note of what was decided of a run."""
        self._runs.setdefault(run.run_id, run)
        if not self._shown or (self.live and not self._standing):
            return
        for name, task in changed.items():
            was = before.tasks.get(name)
            if was is not None and (was.state, was.attempt) == (task.state, task.attempt):
                continue
            if task.state is TaskState.RETRY_WAIT and task.due_at is not None:
                again_s = (task.due_at - self._clock.now()).total_seconds()
                self.say(f"{name}  again in {duration(again_s) or '0 s'}")
            elif task.state not in _SILENT and not run.plan.is_scope(name):
                self.say(task_line(task_message(run, name, task)))
        if before.state is not run.run.state:
            self.say("  ".join(filter(None, (f"run {run.run_id}", run.workflow, run.state, run.cause))))

    def say(self, text: str) -> None:
        """Show a line with the time; a question that stands is asked again below it."""
        if not self._shown:
            return
        line = f"{_clock_time(self._clock.now())}  {text}"
        self._console.print(Text(f"\n{line}" if self._standing else line), soft_wrap=True)
        if self._standing:
            self.ask(self._standing)

    def ask(self, text: str) -> None:
        """Show a question, and stay on its line."""
        self.pause()
        self._standing = text
        self._console.print(Text(text), end="", soft_wrap=True)

    def answered(self, line: str) -> None:
        """Take note that a question was answered; an answer that nobody has seen is shown."""
        self._standing = ""
        if not sys.stdin.isatty():
            self._console.print(Text(line), soft_wrap=True)

    def _trees(self, *, wide: bool = False) -> Group:
        parts: list[object] = []
        for run in self._runs.values():
            parts.append(run_table(as_message(run, self._clock.now()), wide=wide))
            if (more := len(run.past) - MOST_TASKS) > 0:
                parts.append(Text(f"and {more} more that are over", style="dim"))
        return Group(*parts)  # type: ignore[arg-type]  # tables and texts


def _clock_time(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S}"
