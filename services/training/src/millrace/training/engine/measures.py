"""How good scores are, and how sure that is."""

from dataclasses import dataclass

import numpy as np
from millrace.training.domain import Bounds
from millrace.training.engine.frame import Floats
from numpy.typing import NDArray

CONFIDENCE = 0.95
TINY = 1e-15
BOUND = 1e6
"""Where a bound that is beyond all measure is cut off; JSON has no infinity."""


def measures(label: Floats, score: Floats) -> dict[str, float]:
    """Return Brier score, log loss and, where both labels occur, the area under the ROC curve."""
    clipped = np.clip(score, TINY, 1 - TINY)
    found = {
        "brier": float(np.mean((score - label) ** 2)),
        "logloss": float(-np.mean(label * np.log(clipped) + (1 - label) * np.log1p(-clipped))),
    }
    if label.min() < label.max():
        found["auc"] = auc(label, score)
    return found


def auc(label: Floats, score: Floats) -> float:
    """Return the chance that a row of label 1 scores above one of label 0; equal scores count half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    ones = float(label.sum())
    zeros = len(label) - ones
    return float((rank[place][label == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


@dataclass(frozen=True)
class Sums:
    """What each group of a holdout adds up to, each of shape (groups,)."""

    rows: Floats
    ones: Floats
    squared_error: Floats
    squared_error_in_use: Floats


def sums(group: NDArray[np.int64], label: Floats, score: Floats, in_use: Floats) -> Sums:
    """Return each group's sums: they are all that a resample of groups needs.

    Args:
        group: Each row's group, numbered from 0, shape (rows,).
        label: 0 or 1, shape (rows,).
        score: The new version's scores, shape (rows,).
        in_use: The scores of what is in use, shape (rows,).
    """
    return Sums(
        np.bincount(group).astype(np.float64),
        np.bincount(group, label).astype(np.float64),
        np.bincount(group, (score - label) ** 2).astype(np.float64),
        np.bincount(group, (in_use - label) ** 2).astype(np.float64),
    )


def bounds(of: Sums, bootstraps: int, seed: int) -> Bounds:
    """Return one-sided 95% bounds of skill and regression, by resampling whole groups.

    Rows of one group share weather and traffic: resampled one by one they would look three times as sure.

    Source: the percentile bootstrap of Efron (1979), with groups as the unit.
    """
    count = len(of.rows)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=bootstraps)
    skill, regression = _statistics(
        draws @ of.rows, draws @ of.ones, draws @ of.squared_error, draws @ of.squared_error_in_use
    )
    ones = float(of.ones.sum())
    return Bounds(
        skill_lower=float(np.quantile(skill, 1 - CONFIDENCE, method="lower")),
        regression_upper=float(np.quantile(regression, CONFIDENCE, method="higher")),
        groups=count,
        one_class=ones in (0.0, float(of.rows.sum())),
    )


def _statistics(rows: Floats, ones: Floats, error: Floats, in_use: Floats) -> tuple[Floats, Floats]:
    rate = ones / rows
    base = rows * rate * (1 - rate)
    known = base > 0
    # Where a resample has one label only, nothing speaks for the new version.
    skill = np.where(known, 1 - error / np.where(known, base, 1), -BOUND)
    regression = np.where(known, (error - in_use) / np.where(known, base, 1), BOUND)
    return np.clip(skill, -BOUND, BOUND), np.clip(regression, -BOUND, BOUND)
