"""Lists that services give page by page, whole."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

PAGE = 500
"""How many are asked for at once: the most that one answer has."""


class Request(Protocol):
    """What every request for a page says.

    Attributes:
        after: The name after which it begins.
    """

    after: str


class Page(Protocol):
    """What every page says."""

    @property
    def next_after(self) -> str:
        """Where the next one begins; empty after the last."""


R = TypeVar("R", bound=Request)
P = TypeVar("P", bound=Page)


async def pages(ask: Callable[[R], Awaitable[P]], request: R) -> AsyncIterator[P]:
    """Yield the pages that are asked for from a request on."""
    while True:
        page = await ask(request)
        yield page
        if not page.next_after:
            return
        request.after = page.next_after
