"""Choices that can be made again, fewer and smaller."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
TRIES = 2_000


class Choices:
    """Picks from options, by a seed or as it is given; past the end of what is given always the first.

    Attributes:
        taken: What was picked, by its place among the options.
    """

    def __init__(self, seed: int = 0, given: Sequence[int] | None = None) -> None:
        self.taken: list[int] = []
        self._random = random.Random(seed)
        self._given = given

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        if self._given is None:
            place = self._random.randrange(len(options))
        else:
            place = self._given[len(self.taken)] % len(options) if len(self.taken) < len(self._given) else 0
        self.taken.append(place)
        return options[place]


def shrunk(taken: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return fewer and smaller choices that fail as well: without blocks of them, and with others nearer to 0."""
    best, tries, size = list(taken), 0, max(1, len(taken) // 2)
    while size and tries < TRIES:
        place, smaller = 0, False
        while place < len(best) and tries < TRIES:
            for other in (best[:place] + best[place + size :], best[:place] + [0] * size + best[place + size :]):
                tries += 1
                if other != best and fails(other):
                    best, smaller = other, True
                    break
            else:
                place += size
        size = size if smaller and size == 1 else size // 2
    return best
