"""What happened in this process, for those who wait in it; whoever waits elsewhere looks now and then."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID


class Signals:
    """Wakes what waits for runs: the clock for what is due, watchers for what has changed."""

    SOON_S = 1.0
    """What is due later than this need not be told: the clock looks that often anyway."""

    def __init__(self) -> None:
        self._due = asyncio.Event()
        self._due_in_s = float("inf")
        self._queue = asyncio.Event()
        self._pattern = asyncio.Event()
        self._watched: dict[UUID | str, set[Watch]] = {}

    def due_in(self, seconds: float) -> None:
        """Say that something is due so soon."""
        if seconds < min(self._due_in_s, self.SOON_S):
            self._due_in_s = seconds
            self._due.set()

    async def wait_until_due(self, at_most_s: float) -> None:
        """Return when something that was told of is due, or after `at_most_s`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + at_most_s
        while (left_s := end - loop.time()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), left_s)
            self._due.clear()
            end, self._due_in_s = min(end, loop.time() + self._due_in_s), float("inf")

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

    async def wait_for_queue(self, at_most_s: float) -> None:
        """Return when somebody has asked for a queue, or after `at_most_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._queue.wait(), at_most_s)
        self._queue.clear()

    def changed(self, watched: Iterable[UUID | str]) -> None:
        """Say that runs have changed, or that tasks wait in queues."""
        for one in watched:
            for watch in self._watched.get(one, ()):
                watch.changed.set()

    @contextmanager
    def watching(self, watched: UUID | str) -> Iterator["Watch"]:
        """Yield what is told of each change of a run, or of each task that waits in a queue."""
        watch = Watch()
        self._watched.setdefault(watched, set()).add(watch)
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
