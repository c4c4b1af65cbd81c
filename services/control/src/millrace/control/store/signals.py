"""What happened in this process, for those who wait in it; whoever waits elsewhere looks now and then."""

import asyncio
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID


class Signals:
    """Wakes what waits for runs: the clock for what is due, watchers for what has changed.

    Attributes:
        chains: Whether orders say what their workers may go on with, as the last look found: no replica is left that
            would not know what a worker has begun by itself.
    """

    WAITED_S = 1.0
    """So often is looked for what others have added to a queue for whose tasks somebody waits here."""

    def __init__(self) -> None:
        self._due = asyncio.Event()
        self._due_at = math.inf
        self._applied = False
        self._queue = asyncio.Event()
        self._pattern = asyncio.Event()
        self.chains = False
        self._watched: dict[UUID | str, set[Watch]] = {}

    def due_in(self, seconds: float) -> None:
        """Say that something is due so soon; it counts where that is before the clock would look anyway."""
        if (at := time.monotonic() + seconds) < self._due_at:
            self._due_at = at
            self._due.set()

    async def wait_until_due(self, at_most_s: float) -> None:
        """Return when something that was told of is due, or after `at_most_s`."""
        self.due_in(min(at_most_s, self.WAITED_S) if self._tasks_awaited else at_most_s)
        while (left_s := self._due_at - time.monotonic()) > 0:
            self._due.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), left_s)
        # What is told from now on may come too late for the next look.
        self._due_at = math.inf

    def applied(self) -> None:
        """Say that something is in force that every replica is to know at once."""
        self._applied = True
        self.due_in(0.0)

    def take_applied(self) -> bool:
        """Return whether anything was, since this was asked last."""
        taken, self._applied = self._applied, False
        return taken

    def pattern_applied(self) -> None:
        """Say that a source of several topics is in force."""
        self._pattern.set()

    async def wait_for_pattern(self, at_most_s: float) -> None:
        """Return when a source of several topics came to be in force, or after `at_most_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pattern.wait(), at_most_s)
        self._pattern.clear()

    def queue_applied(self) -> None:
        """Say that somebody has asked for a queue."""
        self._queue.set()

    async def wait_for_queue(self) -> None:
        """Return when somebody has asked for a queue."""
        await self._queue.wait()
        self._queue.clear()

    def changed(self, watched: Iterable[UUID | str]) -> None:
        """Say that runs have changed, or that tasks wait in queues."""
        for one in watched:
            for watch in self._watched.get(one, ()):
                watch.changed.set()

    @property
    def _tasks_awaited(self) -> bool:
        return any(isinstance(watched, str) for watched in self._watched)

    @contextmanager
    def watching(self, watched: UUID | str) -> Iterator["Watch"]:
        """Yield what is told of each change of a run, or of each task that waits in a queue."""
        watch = Watch()
        self._watched.setdefault(watched, set()).add(watch)
        if self._tasks_awaited:
            self.due_in(self.WAITED_S)
        try:
            yield watch
        finally:
            waiting = self._watched.get(watched, set())
            waiting.discard(watch)
            if not waiting:
                self._watched.pop(watched, None)


class Watch:
    """Waits for changes of one run, or for tasks in one queue."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    async def wait(self, at_most_s: float) -> None:
        """Return when there was one since the last wait, or after `at_most_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), at_most_s)
        self.changed.clear()
