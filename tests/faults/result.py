"""What came of a row."""

from dataclasses import dataclass, field


@dataclass
class Result:
    """What a row's line in the table says.

    Attributes:
        shows: What a row that holds shows, where that is less than that all came to be as it was.
        recovered_s: From the end of the fault until all was as before, lag and all, seconds.
        lost: Findings of that kind; those that the row expects are in `expected` instead.
        expected: By kind, how many findings were what the block itself takes away or ends otherwise.
    """

    row: int
    injected: str
    bound_s: float | None
    shows: str = "held"
    held: bool = False
    recovered_s: float | None = None
    lost: int = 0
    doubled: int = 0
    expected: dict[str, int] = field(default_factory=dict)
    repeated_calls: int = 0
    broken: int = 0
    load_s: float = 0.0
    judge_s: float = 0.0
