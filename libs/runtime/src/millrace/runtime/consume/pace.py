"""How many records a round takes, and when it begins, by how the rounds before it went."""

import math

MAX_RECORDS = 1000
SLOW_S = 20.0
QUICK_S = 5.0
GROUP = 16
FEWEST = 5
GATHER_S = 0.03
RATE_OVER_S = 0.25


class Pace:
    """Begins with one record a round and takes more while rounds are quick.

    A process that was ended in a round that took too long thus begins again with a small one, and gets on.

    A round costs about the same for ten records as for one. So the next one waits until a group has come, where records
    come so fast that one does in a moment; a few now and then wait for nothing.

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
        gathers = self._per_s * GATHER_S >= FEWEST
        self.next_at = began + min(GATHER_S, GROUP / self._per_s) if gathers else ended
