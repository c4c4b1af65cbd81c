"""How many more tasks a worker may take."""

import asyncio
from collections.abc import Sequence


class Room:
    """Places for tasks of some kinds.

    Args:
        most: How many are under way at once.
        except_kinds: The kinds that it is not for.
    """

    def __init__(self, most: int, except_kinds: Sequence[str]) -> None:
        self.except_kinds = except_kinds
        self._free = most
        self._changed = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether none is free."""
        return self._free <= 0

    async def free(self) -> int:
        """Return how many are free, once some are."""
        while self.full:
            self._changed.clear()
            await self._changed.wait()
        return self._free

    def take(self) -> None:
        """Have one less."""
        self._free -= 1

    def give(self) -> None:
        """Have one more."""
        self._free += 1
        self._changed.set()
