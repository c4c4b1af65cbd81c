"""Who may compute next, when more tasks wait than there are places."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """A number of places, shared fairly among tenants: the one that has fewest gets the next.

    Args:
        count: How many may hold a place at once.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._last: Counter[str] = Counter()
        self._given = 0

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Hold a place while the block runs; wait for one until it is this tenant's turn."""
        await self._enter(tenant)
        try:
            yield
        finally:
            self._held[tenant] -= 1
            self._free += 1
            self._admit()

    async def _enter(self, tenant: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._held[tenant] -= 1
                self._free += 1
                self._admit()
            raise

    def _admit(self) -> None:
        """Give free places away; among equals, the tenant whose last turn is longest ago comes first."""
        while self._free and self._waiting:
            tenant = min(self._waiting, key=lambda name: (self._held[name], self._last[name]))
            turn = self._waiting[tenant].popleft()
            if not self._waiting[tenant]:
                del self._waiting[tenant]
            if not turn.cancelled():
                self._given += 1
                self._last[tenant] = self._given
                self._held[tenant] += 1
                self._free -= 1
                turn.set_result(None)
