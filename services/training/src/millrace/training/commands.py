"""What training can be asked, validated."""

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from millrace.contracts.event import Namespace
from millrace.runtime.command import Command
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ParamValue = float | int | str
Params = dict[str, ParamValue]
Objective = Literal["brier", "logloss", "auc"]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("no such time zone") from None
    return name


Zone = Annotated[str, Field(max_length=64), AfterValidator(_known_zone)]


class Range(BaseModel):
    """Numbers from `low` to `high`, both included.

    Attributes:
        log: Whether equal ratios are equally likely.
        integer: Whether only whole numbers count; `int` on the wire.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    low: float
    high: float
    log: bool = False
    integer: bool = Field(default=False, alias="int")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        if self.log and self.low <= 0:
            raise ValueError("a log range begins above 0")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("an int range has whole ends")
        return self


class Choices(BaseModel):
    """One of some values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: Annotated[tuple[ParamValue, ...], Field(min_length=1, max_length=50)]


Dimension = Range | Choices


class Tune(Command):
    """Search an estimator's parameters, fit the best on all that precedes the holdout, and register it.

    Attributes:
        estimator: A name in the allow-list, such as `lightgbm.classifier`.
        search_space: What to search in place of the estimator's own ranges, within its bounds.
        subsample_rows: Most rows that a trial is fitted on; the final model is fitted on all.
        tuning_days: Days before the holdout on which trials are scored.
        holdout_days: Last days, which no fit ever sees.
        timezone: Where days begin.
    """

    model: Name
    training_set_id: Sha256
    estimator: Name = "lightgbm.classifier"
    search_space: dict[str, Dimension] = Field(default_factory=dict)
    trials: Annotated[int, Field(ge=1, le=500)] = 10
    subsample_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 20_000
    tuning_days: Annotated[int, Field(ge=1, le=365)] = 7
    holdout_days: Annotated[int, Field(ge=1, le=365)] = 7
    timezone: Zone = "UTC"
    objective: Objective = "brier"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Evaluate(Command):
    """Put a version through the gate, on the holdout of the training set that it was tuned on.

    Attributes:
        champion: Alias of the version in use, to compare with; empty compares with the training rate alone.
        holdout_days: Last days to judge by, none of which it may have been fitted on; 0 for all that it has not seen.
        bootstrap_by: Columns of the training set whose values, with the day, make the groups that are resampled.
        max_regression: Largest loss against the version in use, as a share of the base rate's Brier score.
    """

    model: Name
    version: Annotated[int, Field(ge=1)]
    champion: Literal[""] | Name = "champion"
    holdout_days: Annotated[int, Field(ge=0, le=365)] = 0
    bootstrap_by: Annotated[tuple[str, ...], Field(max_length=8)] = ()
    timezone: Zone = "UTC"
    bootstraps: Annotated[int, Field(ge=200, le=20_000)] = 1000
    max_regression: Annotated[float, Field(gt=0, le=0.2)] = 0.02
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class Promote(Command):
    """Point an alias at a version that passed its evaluation."""

    model: Name
    version: Annotated[int, Field(ge=1)]
    alias: Name = "champion"


class SetAlias(Promote):
    """Point an alias at a version, by call."""

    namespace: Namespace


class VersionKey(Command):
    """Which version is meant: by number, by alias or by id; the first that is set counts."""

    namespace: Namespace
    model: Name
    version: Annotated[int, Field(ge=0)] = 0
    alias: str = ""
    version_id: str = ""

    @model_validator(mode="after")
    def _one_is_set(self) -> Self:
        if not (self.version or self.alias or self.version_id):
            raise ValueError("say a version, an alias or a version_id")
        return self


class ListVersions(Command):
    """The newest versions of a model."""

    namespace: Namespace
    model: Name
    limit: Annotated[int, Field(ge=0, le=1000)] = 0


class ListTrials(Command):
    """A page of the trials of a study: those from a number on."""

    namespace: Namespace
    study_id: Sha256
    limit: Annotated[int, Field(ge=0, le=1000)] = 0
    from_number: Annotated[int, Field(ge=0)] = 0
