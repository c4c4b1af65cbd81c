"""What the judge finds."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["lost", "doubled", "open", "failed", "disordered", "changed", "incomplete", "unseen"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as promised.

    Attributes:
        claim: Which promise, as a sentence.
        kind: What is wrong.
        detail: With ids.
        about: The id of the run, or the node of lineage, that it is about; empty where it is about neither.
    """

    claim: str
    kind: Kind
    detail: str
    about: str = ""

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.claim}: {self.kind}: {self.detail}"
