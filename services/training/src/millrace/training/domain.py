"""What a study, a model version and its gate are; decisions only."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from millrace.contracts.training import ModelFeature, OnlineView
from millrace.runtime.errors import InvalidInput
from millrace.training.commands import Choices, Dimension, Objective, Params, ParamValue, Range

MAX_PARITY = 1e-5
"""Largest difference between the native and the ONNX scores that the gate lets through."""
MIN_GROUPS = 5
"""Fewest groups of the holdout from which a bound is believed."""

State = Literal["complete", "failed"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of an estimator.

    Attributes:
        searched: What is searched unless a request says otherwise; nothing when it then keeps its default.
        allowed: What a request may ask for.
    """

    searched: Dimension | None
    allowed: Dimension


@dataclass(frozen=True)
class Trial:
    """One try of a study: parameters and what they scored on the tuning days."""

    number: int
    params: Params
    metrics: dict[str, float]
    state: State = "complete"


@dataclass(frozen=True)
class Candidate:
    """A fitted model that is to be registered.

    Attributes:
        files: path -> SHA-256 of its artifact.
        metrics: Measures of the chosen trial on the tuning days.
        parity_max_abs: Largest difference between the native and the ONNX scores.
    """

    study_id: str
    model: str
    version_id: str
    files: dict[str, str]
    training_set_id: str
    estimator: str
    params: Params
    metrics: dict[str, float]
    parity_max_abs: float


@dataclass(frozen=True)
class Version(Candidate):
    """A registered model version; `version` counts from 1 within the model."""

    version: int
    registered_at: datetime


@dataclass(frozen=True)
class Judgement:
    """The verdict of the gate on one version, with its numbers and, when refused, its reasons.

    Attributes:
        champion_version: The version it was compared with, 0 for the training rate alone.
    """

    evaluation_id: str
    model: str
    version: int
    version_id: str
    training_set_id: str
    champion_version: int
    champion_version_id: str
    passed: bool
    measures: dict[str, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation(Judgement):
    """A judgement in the registry."""

    evaluated_at: datetime


@dataclass(frozen=True)
class VersionRecord:
    """All the registry knows of a version; its evaluations are newest first."""

    version: Version
    aliases: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class TrainingSet:
    """What a model is fitted on and what it will take.

    Attributes:
        sha256: Its Parquet, as an artifact.
        features: In the order that the model takes them.
        online_views: Views that are read when a prediction is asked for.
    """

    training_set_id: str
    sha256: str
    features: tuple[ModelFeature, ...]
    online_views: tuple[OnlineView, ...]

    @property
    def columns(self) -> list[str]:
        """Return the features' columns, in the model's order."""
        return [feature.name for feature in self.features]


@dataclass(frozen=True)
class Split:
    """Where a training set is cut: fitting, then tuning, then holdout."""

    tuning_from: datetime
    holdout_from: datetime


@dataclass(frozen=True)
class Bounds:
    """What the holdout says of a version, with one-sided 95% bounds over resampled groups.

    Attributes:
        skill_lower: Lower bound of 1 - Brier / Brier of the holdout's own rate.
        regression_upper: Upper bound of (new - in use Brier) / Brier of the holdout's own rate.
        groups: How many groups were resampled.
        one_class: Whether all labels of the holdout are the same.
    """

    skill_lower: float
    regression_upper: float
    groups: int
    one_class: bool


def content_id(*parts: object) -> str:
    """Return the SHA-256 of some JSON values: equal contents, equal id."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def day_of(instant: datetime, timezone: str) -> date:
    """Return the day that an instant falls on."""
    return instant.astimezone(ZoneInfo(timezone)).date()


def day_begins(day: date, timezone: str) -> datetime:
    """Return the instant at which a day begins."""
    return datetime.combine(day, time.min, ZoneInfo(timezone)).astimezone(UTC)


def holdout_begins(last: datetime, holdout_days: int, timezone: str) -> datetime:
    """Return where the last days begin; the day of the last row is one of them."""
    return day_begins(day_of(last, timezone) - timedelta(days=holdout_days - 1), timezone)


def split(last: datetime, tuning_days: int, holdout_days: int, timezone: str) -> Split:
    """Return where a training set whose last row is at `last` is cut."""
    holdout_from = holdout_begins(last, holdout_days, timezone)
    tuning_from = day_begins(day_of(holdout_from, timezone) - timedelta(days=tuning_days), timezone)
    return Split(tuning_from, holdout_from)


def search_space(
    estimator: str, parameters: Mapping[str, Parameter], asked: Mapping[str, Dimension]
) -> dict[str, Dimension]:
    """Return what is searched: the estimator's own ranges, with what was asked in their place.

    Raises:
        InvalidInput: A parameter is unknown or goes beyond its bounds.
    """
    unknown = sorted(asked.keys() - parameters.keys())
    if unknown:
        raise InvalidInput(f"{estimator} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(parameters))}")
    space = {name: parameter.searched for name, parameter in parameters.items() if parameter.searched}
    for name, dimension in asked.items():
        _check_within(f"{estimator}: {name}", dimension, parameters[name].allowed)
        space[name] = dimension
    return dict(sorted(space.items()))


def _check_within(what: str, dimension: Dimension, allowed: Dimension) -> None:
    if isinstance(allowed, Choices):
        values = dimension.choices if isinstance(dimension, Choices) else ()
        if not values or not set(values) <= set(allowed.choices):
            raise InvalidInput(f"{what} is one of {', '.join(map(str, allowed.choices))}")
        return
    whole = isinstance(dimension, Range) and dimension.integer
    ends: Sequence[ParamValue] = (
        dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high)
    )
    for value in ends:
        if isinstance(value, str) or not allowed.low <= value <= allowed.high:
            raise InvalidInput(f"{what} lies within {allowed.low:g} and {allowed.high:g}, not {value}")
        if allowed.integer and not (whole or isinstance(value, int)):
            raise InvalidInput(f"{what} is a whole number")


def best(trials: Sequence[Trial], objective: Objective) -> Trial:
    """Return the trial with the best score on the tuning days; of equals the first.

    Raises:
        InvalidInput: No trial has a score.
    """
    scored = [trial for trial in trials if trial.state == "complete" and objective in trial.metrics]
    if not scored:
        raise InvalidInput(f"none of {len(trials)} trials has a {objective}: the tuning days need labels of both kinds")
    sign = -1 if objective == "auc" else 1
    return min(scored, key=lambda trial: (sign * trial.metrics[objective], trial.number))


def refusals(bounds: Bounds, parity_max_abs: float, max_regression: float, in_use: str) -> tuple[str, ...]:
    """Return why the gate refuses a version, one sentence per broken rule; nothing when it passes.

    Args:
        bounds: What the holdout says of it.
        parity_max_abs: Largest difference between its native and its ONNX scores.
        max_regression: Largest loss against what is in use, as a share of the base rate's Brier score.
        in_use: What it is compared with, in words.
    """
    found = []
    if bounds.one_class:
        return ("the holdout's labels are all the same: nothing can be told from it",)
    if bounds.groups < MIN_GROUPS:
        found.append(f"the holdout has {bounds.groups} groups, fewer than {MIN_GROUPS}: no bound can be trusted")
    if not bounds.skill_lower > 0:
        found.append(
            f"lower bound of the Brier skill against the holdout's own rate is {bounds.skill_lower:.4f}, not above 0"
        )
    if not bounds.regression_upper < max_regression:
        found.append(
            f"upper bound of the loss against {in_use} is {bounds.regression_upper:.4f} of the base Brier score,"
            f" not below {max_regression:g}"
        )
    if not parity_max_abs <= MAX_PARITY:
        found.append(f"ONNX and native scores differ by {parity_max_abs:.2g}, more than {MAX_PARITY:g}")
    return tuple(found)
