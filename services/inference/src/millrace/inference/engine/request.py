"""What one request asks, read from the protocol's message."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from millrace.contracts import oip
from millrace.inference.engine.model import Floats, Model
from millrace.inference.engine.tensors import MAX_TEXT_BYTES, add_output, read_columns
from millrace.runtime.errors import InvalidInput

ROUTING_KEY = "routing_key"
SCORE = "score"
PREDICTION_ID = "prediction_id"
OUTPUTS = (SCORE, PREDICTION_ID)


@dataclass(frozen=True)
class Asked:
    """One request.

    Inputs that no model takes are left aside: what an older version needed may still be sent.

    Attributes:
        version: The version that must answer; 0 lets the route choose.
        rows: How many scores are wanted.
        routing_keys: What decides who answers, one per row; empty where the caller gave none.
        texts: Columns of text, by name.
        numbers: Columns of numbers, by name.
        raw: Whether tensors came, and go, in raw form.
    """

    model: str
    version: int
    request_id: str
    rows: int
    routing_keys: tuple[str, ...]
    texts: dict[str, list[str]]
    numbers: dict[str, Floats]
    outputs: tuple[str, ...]
    raw: bool

    def entities(self, columns: Sequence[str]) -> list[dict[str, str]]:
        """Return the entity that each row is about."""
        return [{name: self.texts[name][row] for name in columns} for row in range(self.rows)]

    def lacks(self, model: Model) -> str:
        """Return what the request lacks for a model, in words, or nothing."""
        texts = [name for name in model.entity if name not in self.texts]
        numbers = [name for name in model.sent if name not in self.numbers]
        named = [f"{name} (BYTES)" for name in texts] + [f"{name} (FP64)" for name in numbers]
        return f"inputs are missing: {', '.join(named)}" if named else ""


def read_request(request: oip.ModelInferRequest, max_rows: int) -> Asked:
    """Return what a request asks.

    Raises:
        InvalidInput: It is malformed, or has more than `max_rows` rows.
    """
    columns = read_columns(request)
    keys = columns.pop(ROUTING_KEY, None)
    if not columns:
        raise InvalidInput(f"a request for model {request.model_name} needs inputs: its metadata names them")
    rows = len(next(iter(columns.values())))
    _check_text(request.id, "the request's id")
    if rows > max_rows:
        raise InvalidInput(f"the request has {rows} rows, and {max_rows} is the most")
    if isinstance(keys, np.ndarray):
        raise InvalidInput(f"input {ROUTING_KEY} must be BYTES")
    if keys is not None and len(keys) != rows:
        raise InvalidInput(f"input {ROUTING_KEY} has {len(keys)} rows, and the others {rows}")
    return Asked(
        model=request.model_name,
        version=_version(request.model_version),
        request_id=request.id,
        rows=rows,
        routing_keys=tuple(keys) if keys is not None else (_parameter(request),) * rows,
        texts={name: column for name, column in columns.items() if isinstance(column, list)},
        numbers={name: column for name, column in columns.items() if isinstance(column, np.ndarray)},
        outputs=_outputs(request),
        raw=bool(request.raw_input_contents),
    )


def write_response(
    asked: Asked, version: int, parameters: dict[str, str | int], scores: Floats, prediction_ids: Sequence[str]
) -> oip.ModelInferResponse:
    """Return the answer, with its tensors in the form in which the request's came."""
    response = oip.ModelInferResponse(model_name=asked.model, model_version=str(version), id=asked.request_id)
    for name, value in parameters.items():
        if isinstance(value, int):
            response.parameters[name].int64_param = value
        else:
            response.parameters[name].string_param = value
    values: dict[str, Floats | Sequence[str]] = {SCORE: scores, PREDICTION_ID: prediction_ids}
    for name in asked.outputs:
        add_output(response, name, values[name], raw=asked.raw)
    return response


def _parameter(request: oip.ModelInferRequest) -> str:
    if ROUTING_KEY not in request.parameters:
        return ""
    found = request.parameters[ROUTING_KEY].string_param
    _check_text(found, f"parameter {ROUTING_KEY}")
    return found


def _check_text(text: str, what: str) -> None:
    if len(text.encode()) > MAX_TEXT_BYTES or "\0" in text:
        raise InvalidInput(f"{what} has more than {MAX_TEXT_BYTES} bytes, or a null in it")


def _version(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 2**31):
        raise InvalidInput(f"{text[:40]!r} is no version: a whole number from 1, or nothing to let the route choose")
    return int(text)


def _outputs(request: oip.ModelInferRequest) -> tuple[str, ...]:
    wanted = tuple(output.name for output in request.outputs)
    unknown = set(wanted) - set(OUTPUTS)
    if unknown or len(set(wanted)) != len(wanted):
        raise InvalidInput(
            f"outputs {', '.join(wanted)[:200]} cannot be had: there are {', '.join(OUTPUTS)}, each once"
        )
    return wanted or OUTPUTS
