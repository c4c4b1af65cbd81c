"""A model version's two files: the graph and its manifest."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from millrace.contracts.training import Golden, ModelManifest
from millrace.runtime.errors import InvalidInput
from millrace.training.commands import Params, Tune
from millrace.training.domain import TrainingSet
from millrace.training.engine.estimators import estimator
from millrace.training.engine.export import Scorer, parity_max_abs, parity_rows, to_bytes
from millrace.training.engine.frame import Features, Floats, Frame

GOLDEN_ROWS = 64
GOLDEN_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Built:
    """A model's files and how well the graph agrees with the library that fitted it."""

    graph: bytes
    manifest: ModelManifest
    parity_max_abs: float


def build(asked: Tune, params: Params, training_set: TrainingSet, fit: Frame, until: datetime) -> Built:
    """Return the model fitted on all rows before the holdout; the same arguments give the same bytes.

    Args:
        asked: What was to be tuned.
        params: What tuning chose.
        training_set: What the model takes.
        fit: The rows before the holdout.
        until: Where the holdout begins.

    Raises:
        InvalidInput: The rows have labels of one kind only.
    """
    if not fit.both_classes():
        raise InvalidInput(f"training set {training_set.training_set_id} has labels of one kind only before {until}")
    fitted = estimator(asked.estimator).fit(params, fit.features, fit.label, asked.seed)
    graph = to_bytes(fitted.to_onnx())
    scorer = Scorer(graph)
    compared = parity_rows(fit.features, asked.seed)
    manifest = ModelManifest(
        model=asked.model,
        estimator=asked.estimator,
        params=params,
        seed=asked.seed,
        training_set_id=training_set.training_set_id,
        features=training_set.features,
        online_views=training_set.online_views,
        base_rate=float(fit.label.mean()),
        fitted_until=until,
        golden=_golden(scorer, compared),
    )
    return Built(graph, manifest, parity_max_abs(fitted.score(compared), scorer(compared)))


def _golden(scorer: Scorer, rows: Features) -> Golden:
    """Return rows from the lowest to the highest score, so that any swap or shift shows in some of them."""
    scores = scorer(rows)
    order = np.argsort(scores, kind="stable")
    chosen = rows[order[np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).round().astype(int)]]
    return Golden(
        rows=[[None if np.isnan(value) else float(value) for value in row] for row in chosen],
        scores=scorer(chosen).tolist(),
        tolerance=GOLDEN_TOLERANCE,
    )


class Deployable:
    """A model version as a deployment sees it: from its two files alone.

    Attributes:
        manifest: What the manifest says.
        columns: The features' columns, in the model's order.
    """

    def __init__(self, graph: bytes, manifest: bytes) -> None:
        self.manifest = ModelManifest.model_validate_json(manifest)
        self.columns = [feature.name for feature in self.manifest.features]
        self._scorer = Scorer(graph)

    def score(self, frame: Frame) -> Floats:
        """Return the score of each row, shape (rows,)."""
        return self._scorer(frame.columns(self.columns))
