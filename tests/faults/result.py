"""What came of a row."""

from dataclasses import dataclass


@dataclass
class Result:
    """What a row's line in the table says.

    Attributes:
        recovered_s: From the end of the fault until all was as before, seconds.
    """

    row: int
    injected: str
    bound_s: float | None
    held: bool = False
    recovered_s: float | None = None
    lost: int = 0
    doubled: int = 0
    repeated_calls: int = 0
    broken: int = 0
    load_s: float = 0.0
    judge_s: float = 0.0
