"""What training tells: model versions, evaluations, aliases; and what a model version is made of."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from millrace.contracts.event import Event
from pydantic import BaseModel, ConfigDict, Field


class ModelEvent(Event):
    """A fact about one model; all facts of a model stay in order."""

    topic: ClassVar[str] = "training.models"
    key_field: ClassVar[str] = "model"

    model: str
    version: Annotated[int, Field(ge=1)]
    version_id: str


class VersionRegistered(ModelEvent):
    """A model version is in the registry.

    Attributes:
        version_id: SHA-256 over the sorted (path, SHA-256) pairs of its files, hex.
        training_set_id: The training set it was fitted on.
        estimator: The estimator's name in the allow-list.
        params: What tuning chose.
        metrics: Measures on the tuning split, unitless.
        parity_max_abs: Largest difference between the native and the ONNX scores.
    """

    training_set_id: str
    estimator: str
    params: dict[str, float | int | str]
    metrics: dict[str, float]
    parity_max_abs: Annotated[float, Field(ge=0)]


class AliasMoved(ModelEvent):
    """An alias of a model points at another version.

    Attributes:
        alias: Such as `champion`.
        previous_version: Where it pointed before, 0 for nowhere.
    """

    alias: str
    previous_version: Annotated[int, Field(ge=0)]


class EvaluationEvent(Event):
    """The verdict of a gate on one model version; numbers are in `measures`."""

    topic: ClassVar[str] = "training.evaluations"
    key_field: ClassVar[str] = "model"

    evaluation_id: str
    model: str
    version: Annotated[int, Field(ge=1)]
    version_id: str
    training_set_id: str
    measures: dict[str, float]
    reasons: tuple[str, ...] = ()


class EvaluationPassed(EvaluationEvent):
    """The gate let a model version through."""


class EvaluationFailed(EvaluationEvent):
    """The gate refused a model version; `reasons` says which rule and by how much."""


class ModelFeature(BaseModel):
    """One input of a model, by its place in the vector.

    Attributes:
        view: The feature view it comes from.
        feature: Its name in the view.
        source: `online`: read from the online table when asked; `request`: sent with the request.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    view: str
    feature: str
    source: Literal["online", "request"]

    @property
    def name(self) -> str:
        """Return `view.feature`: its column in a training set and its tensor in a request."""
        return f"{self.view}.{self.feature}"


class OnlineView(BaseModel):
    """A view that is read at request time, with the columns that say for whom."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    view: str
    entity: tuple[str, ...]


class Golden(BaseModel):
    """Rows with the scores that a deployment must give.

    Attributes:
        rows: Feature vectors in the model's order, exact as 32-bit floats; null where nothing is known.
        scores: What the ONNX model gave, one per row.
        tolerance: Largest allowed absolute difference.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    rows: list[list[float | None]]
    scores: list[float]
    tolerance: Annotated[float, Field(gt=0)]


class ModelManifest(BaseModel):
    """What a model version's `manifest.json` says: all that a server needs beside `model.onnx`.

    The graph has one input `features`, FP32 [rows, features], NaN where nothing is known, and one output `score`,
    FP32 [rows]: the probability that the label is 1.

    Attributes:
        features: In the order of the input's columns.
        online_views: Where `online` features are read.
        base_rate: Share of label 1 among the rows it was fitted on.
        fitted_until: It has seen no row from this instant on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    format: Literal["millrace-model/1"] = "millrace-model/1"
    model: str
    estimator: str
    params: dict[str, float | int | str]
    seed: int
    training_set_id: str
    features: tuple[ModelFeature, ...]
    online_views: tuple[OnlineView, ...]
    base_rate: Annotated[float, Field(ge=0, le=1)]
    fitted_until: datetime
    golden: Golden

    def to_bytes(self) -> bytes:
        """Return its canonical JSON: equal manifests give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"


def tree_hash(files: Mapping[str, str]) -> str:
    """Return the id of a model version: SHA-256 over its files' sorted (path, SHA-256) pairs, hex.

    Args:
        files: path -> SHA-256 of the content, hex.
    """
    lines = "".join(f"{sha256} {path}\n" for path, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
