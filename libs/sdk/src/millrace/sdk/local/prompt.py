"""What runs wait for from people, asked on the terminal or taken line by line from what is piped in."""

import getpass
import json
import os
import select
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

from millrace.core.approvals import form_problem, wanted
from millrace.core.parts import Approve, FormField
from millrace.core.state import Input, Signalled, Voted
from millrace.sdk.local.run import LocalRun

_YES, _NO = frozenset({"y", "yes", "approve"}), frozenset({"n", "no", "reject"})


@dataclass(frozen=True, slots=True)
class Said:
    """A line that somebody has written; None when there will be no more."""

    text: str | None


class Misunderstood(ValueError):
    """What was written is no answer; the words say what would be one."""


class Question:
    """What one task of a run waits for."""

    def __init__(self, run: LocalRun, task: str) -> None:
        self.run, self.task = run, task
        self._spec = run.plan.step(task).task
        self._fields: deque[tuple[str, FormField]] = deque()
        self._form: dict[str, Any] = {}
        self._approved: tuple[bool, str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the task still waits."""
        return self.task in self.run.waiting

    def text(self) -> str:
        """Return what to ask now."""
        if self._spec.approve is None:
            return f"{self.task} waits for {self._awaited()}; its data as JSON, nothing for {{}}: "
        if self._fields:
            name, field = self._fields[0]
            more = "" if field.required else ", or nothing"
            return f"  {field.label or name} ({wanted(field)}{more}): "
        task = self.run.run.tasks[self.task]
        title = (task.inner or {}).get("title") or "approve?"
        return f"{self.task}: {title}  [y/n, then a comment; as {self._who(self._spec.approve)}]: "

    def answer(self, line: str) -> Input | None:
        """Return what a line tells the run; None when there is more to ask.

        Raises:
            Misunderstood: It is no answer.
        """
        if self._spec.approve is not None:
            return self._decided(self._spec.approve, line)
        try:
            data = json.loads(line or "{}")
        except ValueError as error:
            raise Misunderstood(f'that is no JSON ({error}); write such as {{"uri": "…"}}') from None
        wait = self._spec.wait
        if wait is not None and wait.event is not None:
            return self.run.event_for(self.task, data, datetime.now(UTC))
        return Signalled((wait.signal if wait is not None else None) or "", data)

    def _awaited(self) -> str:
        wait = self._spec.wait
        if wait is None or wait.event is None:
            return f"the signal {wait.signal if wait is not None else ''}"
        key = (self.run.run.tasks[self.task].inner or {}).get("key")
        return f"an event that trigger {wait.event} takes" + (f" under key {key!r}" if key else "")

    def _decided(self, approve: Approve, line: str) -> Input | None:
        if self._fields:
            self._fill_in(*self._fields[0], line)
            self._fields.popleft()
        else:
            word, _, comment = line.partition(" ")
            if word.lower() not in _YES | _NO:
                raise Misunderstood("write y to approve or n to reject")
            self._approved = (word.lower() in _YES, comment.strip())
            self._form = {}
            self._fields = deque(approve.form.items() if self._approved[0] else ())
        if self._fields or self._approved is None:
            return None
        return Voted(self.task, self._who(approve), *self._approved, self._form)

    def _fill_in(self, name: str, field: FormField, line: str) -> None:
        if not line and not field.required:
            return
        value: Any = line
        if field.type == "boolean":
            value = True if line.lower() in _YES | {"true"} else False if line.lower() in _NO | {"false"} else line
        elif field.type == "number":
            try:
                value = json.loads(line)
            except ValueError:
                value = line
        asked = Approve(form={name: field})
        if (problem := form_problem(asked, {name: value})) is not None:
            raise Misunderstood(problem)
        self._form[name] = value

    def _who(self, approve: Approve) -> str:
        """Return as whom the terminal decides: the first of those who may and have not yet."""
        votes = (self.run.run.tasks[self.task].inner or {}).get("votes", ())
        decided = {vote["by"] for vote in votes}
        free = [one for one in approve.assignees if one not in decided]
        name = getpass.getuser()
        return next(iter(free), name if name not in decided else f"{name}-{len(decided) + 1}")


class Prompt:
    """Reads lines for questions, from the first question on.

    Args:
        heard: Where each line is put, as `Said`.
    """

    def __init__(self, heard: SimpleQueue[Any]) -> None:
        self._heard = heard
        self._open: int | None = None

    def open(self) -> None:
        """Begin to read, unless that has begun."""
        if self._open is None:
            ends, self._open = os.pipe()
            threading.Thread(target=self._read, args=(ends,), name="millrace-prompt", daemon=True).start()

    def close(self) -> None:
        """Read no more."""
        if self._open is not None:
            os.close(self._open)

    def _read(self, ends: int) -> None:
        """Put each line; without the buffer of `sys.stdin`, which a thread must not hold when the process ends."""
        with suppress(AttributeError, OSError, ValueError):  # there is no stdin, or it has gone
            source, begun = sys.stdin.fileno(), b""
            while ends not in select.select([source, ends], [], [])[0]:
                more = os.read(source, 65_536)
                *lines, begun = (begun + (more or b"\n" * bool(begun))).split(b"\n")
                for line in lines:
                    self._heard.put(Said(line.decode(errors="replace").strip()))
                if not more:
                    break
        os.close(ends)
        self._heard.put(Said(None))
