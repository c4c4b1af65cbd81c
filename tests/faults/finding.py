"""What the judge finds."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lost", "doubled", "open", "disordered", "changed", "incomplete"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as promised.

    Attributes:
        claim: Which promise, as a sentence.
        kind: What is wrong.
        detail: With ids.
    """

    claim: str
    kind: Kind
    detail: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.claim}: {self.kind}: {self.detail}"
