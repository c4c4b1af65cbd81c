"""Whether something grows: robust slopes of what was measured again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

MOST_PAIRS = 200
"""Of so many measurements each pair is looked at; of more, evenly chosen ones."""


@dataclass(frozen=True)
class Tolerance:
    """How much something may seem to rise over a whole measurement and still be flat.

    Attributes:
        share: Of its median.
        slack: And so much besides, in its own unit.
    """

    share: float
    slack: float


@dataclass(frozen=True)
class Trend:
    """What was measured of one thing.

    Attributes:
        level: The median.
        rise: By how much it rose from the first measurement to the last, by its robust slope.
        flat: Whether that is within its tolerance.
    """

    level: float
    rise: float
    flat: bool


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much y rises for each unit of x; 0 for fewer than two points.

    Source: Theil (1950) and Sen (1968), "Estimates of the regression coefficient based on Kendall's tau": the median of
        the slopes of all pairs, which stands up to nearly 30% of outliers.
    """
    step = max(1, -(-len(points) // MOST_PAIRS))
    rises = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points[::step], 2) if x2 > x1]
    return median(rises) if rises else 0.0


def trend(points: Sequence[tuple[float, float]], tolerance: Tolerance) -> Trend:
    """Return how (time, value) measurements went, in the order of time."""
    if not points:
        return Trend(0.0, 0.0, flat=False)
    level = median(value for _, value in points)
    rise = slope(points) * (points[-1][0] - points[0][0])
    return Trend(level, rise, rise <= tolerance.share * abs(level) + tolerance.slack)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all do not exceed; 0 of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0
