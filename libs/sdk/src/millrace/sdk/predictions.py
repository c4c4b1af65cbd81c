"""What a model is asked and what it answers, in the Open Inference Protocol's tensors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from millrace.contracts import oip
from millrace.runtime.errors import InvalidInput

Value = str | float | None
Row = Mapping[str, Value]

ROUTING_KEY = "routing_key"
TEXT = "BYTES"


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        prediction_id: What it can be explained by.
        version: The model's version that the request's first row was answered by.
    """

    prediction_id: str
    score: float
    model: str
    version: int

    @property
    def deployment_id(self) -> UUID:
        """Return the deployment that answered."""
        from millrace.contracts.inference import read_prediction_id  # noqa: PLC0415 - few ask, and it brings all events

        return read_prediction_id(self.prediction_id).deployment_id


@dataclass(frozen=True)
class Model:
    """What a model takes.

    Attributes:
        versions: Those that are served.
        inputs: Name -> datatype: `BYTES` for text, `FP64` for numbers.
    """

    name: str
    versions: tuple[int, ...]
    inputs: Mapping[str, str]

    def read_row(self, texts: Mapping[str, Any]) -> Row:
        """Return a row of which every value is of its input's type; what the model does not take is left out.

        Raises:
            InvalidInput: A number is wanted and is none.
        """
        return {name: self._value(name, texts[name]) for name in self.inputs if name in texts}

    def _value(self, name: str, value: object) -> Value:
        if self.inputs[name] == TEXT:
            return str(value)
        if value is None or value == "":
            return None
        try:
            return float(str(value))
        except ValueError:
            raise InvalidInput(f"{name}: {str(value)[:40]!r} is no number, which model {self.name} wants") from None


def infer_request(model: str, rows: Sequence[Row], keys: Sequence[str], request_id: str) -> oip.ModelInferRequest:
    """Return the request for a model's score of each row.

    Args:
        model: Its name.
        rows: Each with the same inputs: text for an entity's key, a number (or None for not known) for a feature.
        keys: One for each row, or none; rows with the same key are answered by the same version during a canary.
        request_id: The caller's name for the request.

    Raises:
        InvalidInput: The rows differ in their inputs or an input in its types, or the keys are too few or too many.
    """
    if not rows:
        raise InvalidInput(f"model {model} is asked about no row")
    if keys and len(keys) != len(rows):
        raise InvalidInput(f"{len(keys)} routing keys for {len(rows)} rows: give one for each row, or none")
    request = oip.ModelInferRequest(model_name=model, id=request_id)
    for name in rows[0]:
        column = [row.get(name, _MISSING) for row in rows]
        if any(value is _MISSING for value in column):
            raise InvalidInput(f"{name} is not in every row: None stands for a number that is not known")
        _add(request, name, column)
    if others := sorted({name for row in rows for name in row} - rows[0].keys()):
        raise InvalidInput(f"{', '.join(others)} is not in every row: None stands for a number that is not known")
    if keys:
        oip.add_bytes(request, ROUTING_KEY, keys)
    return request


def predictions(answer: oip.ModelInferResponse) -> list[Prediction]:
    """Return what a model answered, row by row."""
    ids = oip.read_bytes(answer, "prediction_id")
    scores = oip.read_doubles(answer, "score")
    version = int(answer.model_version or 0)
    return [
        Prediction(prediction_id.decode(), score, answer.model_name, version)
        for prediction_id, score in zip(ids, scores, strict=True)
    ]


def model_of(metadata: oip.ModelMetadataResponse) -> Model:
    """Return what a model says of itself."""
    return Model(
        metadata.name,
        tuple(int(version) for version in metadata.versions),
        {tensor.name: tensor.datatype for tensor in metadata.inputs if tensor.name != ROUTING_KEY},
    )


_MISSING = object()


def _add(request: oip.ModelInferRequest, name: str, column: Sequence[Any]) -> None:
    if all(isinstance(value, str) for value in column):
        oip.add_bytes(request, name, column)
    elif all(value is None or isinstance(value, float | int) for value in column):
        oip.add_doubles(request, name, [math.nan if value is None else float(value) for value in column])
    else:
        raise InvalidInput(f"{name} is text in one row and no text in another")
