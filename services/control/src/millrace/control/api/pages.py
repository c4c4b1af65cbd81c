"""Pages of what has names: what is asked for, and where the next one begins."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from millrace.control.commands import ListNamed

T = TypeVar("T")


class PageRequest(Protocol):
    """What all requests for such a page have; 0 and nothing where something is not given."""

    @property
    def namespace(self) -> str:
        """Whose things."""

    @property
    def limit(self) -> int:
        """How many at most."""

    @property
    def after(self) -> str:
        """The name after which the page begins."""


def asked_page(request: PageRequest) -> ListNamed:
    """Return which page is asked for.

    Raises:
        InvalidInput: It is none.
    """
    limit = {"limit": request.limit} if request.limit else {}
    return ListNamed(namespace=request.namespace, after=request.after, **limit)


def cut(found: Sequence[T], asked: ListNamed, name_of: Callable[[T], str]) -> tuple[Sequence[T], str]:
    """Return a page, and where the next one begins, of what was found: one more than the page has, where there is."""
    page = found[: asked.limit]
    return page, name_of(page[-1]) if len(found) > asked.limit else ""
