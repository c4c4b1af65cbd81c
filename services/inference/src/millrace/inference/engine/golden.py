"""Golden rows: the scores that a deployment must give, asked for as an application would ask."""

import numpy as np
from millrace.contracts import oip
from millrace.inference.engine.model import Floats, Model
from millrace.inference.engine.request import read_request
from millrace.runtime.errors import InvalidInput


def check_golden(model: Model) -> None:
    """Do nothing when a model's golden rows, sent through the path that serves requests, get their scores.

    Raises:
        InvalidInput: One gets another score; the message says which and by how much.
    """
    golden = model.manifest.golden
    if not golden.rows or len(golden.rows) != len(golden.scores):
        raise InvalidInput(f"the manifest has {len(golden.rows)} golden rows and {len(golden.scores)} scores")
    if any(len(row) != len(model.names) for row in golden.rows):
        raise InvalidInput(f"a golden row has not as many values as the model has features, {len(model.names)}")
    values = np.array([[np.nan if value is None else value for value in row] for row in golden.rows], np.float64)
    scores = _served(model, values)
    difference = np.nan_to_num(np.abs(scores - np.array(golden.scores)), nan=np.inf)
    worst = int(difference.argmax())
    if difference[worst] > golden.tolerance:
        raise InvalidInput(
            f"golden row {worst} gets {scores[worst]:.6g} and must get {golden.scores[worst]:.6g},"
            f" within {golden.tolerance:g}: the model is not served as it was trained"
        )


def _served(model: Model, values: Floats) -> Floats:
    """Return the scores of rows whose request features came in a message and the rest from the online table."""
    columns = {name: values[:, place] for place, name in enumerate(model.names)}
    request = oip.ModelInferRequest(model_name=model.manifest.model)
    for name in model.entity or ("golden",):
        oip.add_bytes(request, name, [str(row) for row in range(len(values))])
    for name in model.sent:
        oip.add_doubles(request, name, columns[name].tolist())
    asked = read_request(request, len(values))
    return model.score(asked.numbers | {name: columns[name] for name in model.looked_up})
