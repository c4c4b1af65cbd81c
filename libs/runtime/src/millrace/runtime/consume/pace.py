"""How many records a round takes, and when it begins, by how the rounds before it went."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

MAX_RECORDS = 1000
SLOW_S = 20.0
QUICK_S = 5.0
GATHER_S = 0.015
FEWEST_PER_S, ENOUGH_PER_S = 200, 300
"""A round waits for others where so many records come in a second: from the first to below the second."""
RATE_OVER_S = 0.25
PART = 24
BACKLOG = 3 * PART


def in_parts(records: Sequence[T], counts: Callable[[T], bool] = lambda _: True) -> list[Sequence[T]]:
    """Return what each transaction of a round settles: parts in which about as many count, or all of a backlog.

    What the first has settled is worked on by others while the next is settled. As one transaction, all that is in
    flight would move together, and each service would idle while the other works (decision 0072).

    Args:
        records: Those of the round, in order.
        counts: Whether others wait for what comes of one.
    """
    places = [place for place, record in enumerate(records, 1) if counts(record)]
    count = len(places)
    parts = 1 if count > BACKLOG else max(1, math.ceil(count / PART))
    ends = [0, *(places[count * n // parts - 1] for n in range(1, parts)), len(records)]
    return [records[first:end] for first, end in pairwise(ends)]


class Pace:
    """Begins with one record a round and takes more while rounds are quick.

    A process that was ended in a round that took too long thus begins again with a small one, and gets on.

    A round costs about the same for ten records as for one. So the next one waits until a few have come, where they do
    in a moment. Where fewer come, none is waited for; nor where more do, as that would close a convoy up again.

    Attributes:
        most: How many records the next round takes at most.
        next_at: When it begins, by the clock of those that are told.
    """

    def __init__(self) -> None:
        self.most = 1
        self.next_at = 0.0
        self._per_s = 0.0
        self._began = -math.inf

    def took(self, records: int, began: float, ended: float) -> None:
        """Take over how a round went, by any clock that is never set, seconds."""
        seconds = ended - began
        if seconds > SLOW_S:
            self.most = max(1, min(self.most, records) // 2)
        elif seconds < QUICK_S and records >= self.most:
            self.most = min(MAX_RECORDS, 2 * self.most)
        since, self._began = max(began - self._began, 1e-6), began
        # An average of which older rounds have less and less part.
        part = 1 - math.exp(-since / RATE_OVER_S)
        self._per_s += part * (records / since - self._per_s)
        gathers = FEWEST_PER_S <= self._per_s < ENOUGH_PER_S
        self.next_at = began + GATHER_S if gathers else ended
