"""How many records a round takes, by how long rounds have taken."""

MAX_RECORDS = 1000
SLOW_S = 20.0
QUICK_S = 5.0


class Pace:
    """Begins with one record a round and takes more while rounds are quick.

    A process that was ended in a round that took too long thus begins again with a small one, and gets on.

    Attributes:
        most: How many records the next round takes at most.
    """

    def __init__(self) -> None:
        self.most = 1

    def took(self, records: int, seconds: float) -> None:
        """Take over how long a round has taken."""
        if seconds > SLOW_S:
            self.most = max(1, min(self.most, records) // 2)
        elif seconds < QUICK_S and records >= self.most:
            self.most = min(MAX_RECORDS, 2 * self.most)
