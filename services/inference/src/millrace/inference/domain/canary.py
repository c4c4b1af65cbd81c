"""When a canary has failed, when it has passed, and when it must get no more traffic at once."""

import math
from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum

FAIL_ABOVE = 0.005
"""A canary has failed once its mean loss against what is in use is surely above this."""
FAIL_ERRORS = 3.0
"""Standard errors that make `surely` of a failure."""
PASS_BELOW = 0.02
"""A strict pass needs a mean loss surely below this."""
PASS_ERRORS = 1.645
"""Standard errors that make `surely` of a pass: one-sided 95%."""
MORE_ANSWERS = 100
"""Labelled answers to wait for when those at hand do not decide."""
MOST_EXTENSIONS = 3
"""Times more answers are waited for before the verdict is unknown."""

TRIP_WINDOW = 50
"""Newest answers of an arm that its trip rule looks at."""
TRIP_BAD = 5
"""Fewest bad answers of these that trip it."""
TRIP_SHARE = 0.2
"""Smallest share of bad answers that trips it."""


class Verdict(StrEnum):
    """What a judge says of a canary."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Evidence:
    """What labelled answers say of a canary: its squared errors less those of what is in use, answer by answer.

    Attributes:
        mean_difference: Their mean; above 0 the canary is worse.
        standard_error: Of that mean; 1, the most there can be, with fewer than two answers.
    """

    answers: int = 0
    mean_difference: float = 0.0
    standard_error: float = 1.0

    @classmethod
    def of(cls, answers: int, total: float, squares: float) -> "Evidence":
        """Return the evidence in a number of differences with their sum and their sum of squares."""
        if answers == 0:
            return cls()
        mean = total / answers
        if answers == 1:
            return cls(1, mean)
        variance = max(0.0, (squares - answers * mean * mean) / (answers - 1))
        return cls(answers, mean, math.sqrt(variance / answers))

    def harmful(self) -> bool:
        """Return whether the canary is surely worse."""
        return self.mean_difference - FAIL_ERRORS * self.standard_error > FAIL_ABOVE

    def harmless(self) -> bool:
        """Return whether the canary is surely not much worse."""
        return self.mean_difference + PASS_ERRORS * self.standard_error < PASS_BELOW


@dataclass(frozen=True)
class Judgement:
    """A canary stage on trial: how many labelled answers it waits for.

    Attributes:
        wanted: Labelled answers in all, those of earlier stages included.
        strict: Whether a pass needs proof of no harm.
        extensions: Times that it asked for more.
    """

    wanted: int
    strict: bool
    extensions: int = 0

    def next(self, evidence: Evidence) -> "Verdict | Judgement":
        """Return the verdict, or what to wait for next when these answers do not decide."""
        if evidence.answers < self.wanted:
            return self
        if evidence.harmful():
            return Verdict.FAIL
        if not self.strict or evidence.harmless():
            return Verdict.PASS
        if self.extensions == MOST_EXTENSIONS:
            return Verdict.UNKNOWN
        return replace(self, wanted=evidence.answers + MORE_ANSWERS, extensions=self.extensions + 1)

    def at_timeout(self, evidence: Evidence) -> Verdict:
        """Return the verdict when no more answers are waited for: harm already proven counts, the rest is unknown."""
        return Verdict.FAIL if evidence.harmful() else Verdict.UNKNOWN


@dataclass
class Health:
    """The newest answers of one arm, as one process gave them."""

    bad: deque[bool] = field(default_factory=lambda: deque(maxlen=TRIP_WINDOW))

    def note(self, *, good: bool) -> None:
        """Take one more answer into account; bad is one that failed or is no finite number."""
        self.bad.append(not good)

    def trip_reason(self) -> str:
        """Return why the arm must get no more traffic, or nothing."""
        bad = sum(self.bad)
        if bad < TRIP_BAD or bad < TRIP_SHARE * len(self.bad):
            return ""
        return f"{bad} of its last {len(self.bad)} answers failed or were no finite number"
