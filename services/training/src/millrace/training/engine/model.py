"""A model version's two files: the graph and its manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from millrace.contracts.training import Golden, ModelFeature, ModelManifest, OnlineView
from millrace.runtime.errors import InvalidInput

from millrace.training.commands import Params
from millrace.training.engine.estimators import Estimator
from millrace.training.engine.export import Scorer, parity_max_abs, parity_rows, to_bytes
from millrace.training.engine.frame import Features, Frame

GOLDEN_ROWS = 64
GOLDEN_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Inputs:
    """What a model takes, as the training set says."""

    training_set_id: str
    features: tuple[ModelFeature, ...]
    online_views: tuple[OnlineView, ...]

    @property
    def names(self) -> list[str]:
        """Return the features' columns, in the model's order."""
        return [feature.name for feature in self.features]


@dataclass(frozen=True)
class Built:
    """A model's files and how well the graph agrees with the library that fitted it."""

    graph: bytes
    manifest: ModelManifest
    parity_max_abs: float


def build(
    model: str, estimator_name: str, of: Estimator, params: Params, inputs: Inputs, fit: Frame, until: datetime, seed: int
) -> Built:
    """Return the model fitted on all rows before the holdout.

    Args:
        model: Its name in the registry.
        estimator_name: The estimator's name in the allow-list.
        of: The estimator.
        params: What tuning chose.
        inputs: What it takes.
        fit: The rows before the holdout.
        until: Where the holdout begins.
        seed: The same arguments give the same bytes.

    Raises:
        InvalidInput: The rows have labels of one kind only.
    """
    if not fit.both_classes():
        raise InvalidInput(f"training set {inputs.training_set_id} has labels of one kind only before {until}")
    fitted = of.fit(params, fit.features, fit.label, seed)
    graph = to_bytes(fitted.to_onnx())
    scorer = Scorer(graph)
    compared = parity_rows(fit.features, seed)
    manifest = ModelManifest(
        model=model,
        estimator=estimator_name,
        params=params,
        seed=seed,
        training_set_id=inputs.training_set_id,
        features=inputs.features,
        online_views=inputs.online_views,
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


def columns(manifests: Sequence[ModelManifest]) -> list[str]:
    """Return every column that some models read, each once."""
    return list(dict.fromkeys(feature.name for manifest in manifests for feature in manifest.features))
