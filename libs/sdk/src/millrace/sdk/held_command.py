"""A command on many held events: page by page, at a bounded rate."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

from millrace.runtime.errors import Overloaded

MOST_PAGE = 500
PAGES_PER_S = 4
RATE = 500.0

T = TypeVar("T")


@dataclass
class Outcome:
    """How far a command has come.

    Attributes:
        done: How many events were handled, or dropped.
        failed: How many are held still.
        reason: Why the first of these is.
    """

    done: int = 0
    failed: int = 0
    reason: str = ""


Told = Callable[[Outcome], None]


@dataclass
class Command:
    """One command: its pages have request ids of one beginning, and go at a bounded rate.

    A page is one transaction of the service. Killed between two of them, the same command goes on with what is left.

    Attributes:
        rate: Most events a second.
        told: Called after each page.
    """

    rate: float = RATE
    told: Told = lambda _: None
    outcome: Outcome = field(default_factory=Outcome)
    name: str = field(default_factory=lambda: str(uuid4()))
    pages: int = 0
    _free_at: float = 0.0

    @property
    def page(self) -> int:
        """Return how many events make up a page."""
        return max(1, min(MOST_PAGE, int(self.rate / PAGES_PER_S)))

    async def turn(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """Return the answer to the next page, asked when its time has come, and again where the service is too busy."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._free_at - loop.time())
        self._free_at = max(self._free_at, loop.time())
        self.pages += 1
        while True:
            try:
                return await ask(f"{self.name}/{self.pages}")
            except Overloaded as busy:
                await asyncio.sleep(busy.retry_after_s)

    def add(self, *, done: int, failed: int = 0, reason: str = "") -> None:
        """Note how a page went."""
        self._free_at += (done + failed) / self.rate
        self.outcome.done += done
        self.outcome.failed += failed
        self.outcome.reason = self.outcome.reason or reason
        self.told(self.outcome)
