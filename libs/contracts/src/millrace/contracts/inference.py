"""What inference tells: deployments, traffic, predictions; and how a prediction is known."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from millrace.contracts.event import Event
from pydantic import BaseModel, ConfigDict, Field


class DeploymentEvent(Event):
    """A fact about one deployment of a model version; all facts of a deployment stay in order."""

    topic: ClassVar[str] = "inference.deployments"
    key_field: ClassVar[str] = "deployment_id"

    deployment_id: UUID
    model: str
    version: Annotated[int, Field(ge=1)]
    version_id: str


class DeploymentReady(DeploymentEvent):
    """A deployment's artifact is verified, warm, and answers its golden rows as training did."""


class TrafficShifted(DeploymentEvent):
    """A deployment's share of a model's traffic changed.

    Attributes:
        weight: Its share now, percent.
        generation: Number of the model's routing table.
        reason: Why, in words.
    """

    weight: Annotated[int, Field(ge=0, le=100)]
    generation: Annotated[int, Field(ge=1)]
    reason: str = ""


class CanaryJudged(DeploymentEvent):
    """A canary stage has its verdict.

    Attributes:
        verdict: `pass`, `fail` or `unknown`.
        answers: Labelled answers that it rests on.
        mean_difference: Mean of (new - in use) squared error, d.
        standard_error: Standard error of d.
    """

    verdict: str
    answers: Annotated[int, Field(ge=0)]
    mean_difference: float
    standard_error: float


class Prediction(BaseModel):
    """One answered request, as logged.

    Attributes:
        inputs: Whom the request was about, by name: the texts by which online features are found.
        features: What the model saw, by name; null where nothing was known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    prediction_id: str
    request_key: str
    time: datetime
    score: float
    features: dict[str, float | None]
    inputs: dict[str, Any] = {}
    trace_id: str = ""


class PredictionsLogged(DeploymentEvent):
    """A batch of answered predictions of one deployment."""

    topic: ClassVar[str] = "inference.predictions"

    predictions: list[Prediction]


@dataclass(frozen=True)
class PredictionKey:
    """What a prediction's id says.

    Attributes:
        number: A UUIDv7: when it was answered, and which of that instant it was.
    """

    deployment_id: UUID
    number: UUID

    @property
    def answered_at(self) -> datetime:
        """Return when it was answered, to the millisecond."""
        return datetime.fromtimestamp((self.number.int >> _UNIX_MS_SHIFT) / 1000, UTC)


_PREDICTION_PREFIX = "p"
_PREDICTION_BYTES = 32  # two UUIDs
_UNIX_MS_SHIFT = 80  # a UUIDv7 begins with 48 bits of Unix time in milliseconds
_UUID7 = 7


def prediction_id(deployment_id: UUID, number: UUID) -> str:
    """Return a prediction's id: `p` and the base32 of its deployment and its number, lower case, no padding."""
    encoded = base64.b32encode(deployment_id.bytes + number.bytes).decode()
    return _PREDICTION_PREFIX + encoded.rstrip("=").lower()


def _dated(key: PredictionKey) -> bool:
    try:
        return bool(key.answered_at)
    except (ValueError, OverflowError):
        return False  # a forged number may count more milliseconds than the calendar has


def read_prediction_id(text: str) -> PredictionKey:
    """Return what a prediction's id says.

    Raises:
        ValueError: The text is no prediction's id.
    """
    encoded = text.removeprefix(_PREDICTION_PREFIX).upper()
    try:
        found = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    except (binascii.Error, ValueError):
        found = b""
    if len(found) == _PREDICTION_BYTES:
        key = PredictionKey(UUID(bytes=found[:16]), UUID(bytes=found[16:]))
        # The last character has spare bits, so that other texts decode to the same bytes.
        if key.number.version == _UUID7 and prediction_id(key.deployment_id, key.number) == text and _dated(key):
            return key
    raise ValueError(f"{text[:80]!r} is no prediction's id")
