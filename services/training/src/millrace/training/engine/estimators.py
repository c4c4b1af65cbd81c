"""The estimators that may be asked for, by name, with what may be searched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import lightgbm
import numpy as np
import onnx
from millrace.runtime.errors import InvalidInput
from millrace.training.commands import Choices, Params, Range
from millrace.training.domain import Parameter
from millrace.training.engine import export
from millrace.training.engine.frame import Features, Floats
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


class Fitted(Protocol):
    """A model that has seen its rows."""

    def score(self, features: Features) -> Floats:
        """Return the probability of label 1, by the library that fitted it, shape (rows,)."""
        ...

    def to_onnx(self) -> onnx.ModelProto:
        """Return the graph with one output `score`."""
        ...


Fit = Callable[[Params, Features, Floats, int], Fitted]


@dataclass(frozen=True)
class Estimator:
    """One entry of the allow-list.

    Attributes:
        parameters: What may be searched.
        fit: Called with parameters, features, labels and seed; the same four give the same model.
    """

    parameters: Mapping[str, Parameter]
    fit: Fit


def estimator(name: str) -> Estimator:
    """Return an estimator of the allow-list.

    Raises:
        InvalidInput: It is not in the list.
    """
    if name not in ESTIMATORS:
        raise InvalidInput(f"no estimator is called {name}; there are {', '.join(sorted(ESTIMATORS))}")
    return ESTIMATORS[name]


class _Booster:
    def __init__(self, params: Params, features: Features, label: Floats, seed: int) -> None:
        rest: dict[str, Any] = dict(params)
        rounds = int(rest.pop("n_estimators", 100))
        fixed = {"objective": "binary", "num_threads": 1, "deterministic": True, "force_row_wise": True}
        rows = lightgbm.Dataset(features.astype(np.float64), label, params={"verbosity": -1})
        booster = lightgbm.train({**rest, **fixed, "seed": seed, "verbosity": -1}, rows, rounds)
        self._booster = lightgbm.Booster(model_str=_round_thresholds(booster.model_to_string()))

    def score(self, features: Features) -> Floats:
        return np.asarray(self._booster.predict(features.astype(np.float64), num_threads=1), np.float64)

    def to_onnx(self) -> onnx.ModelProto:
        return export.lightgbm_graph(self._booster, self._booster.num_feature())


class _Pipeline:
    def __init__(self, steps: tuple[Any, ...], features: Features, label: Floats) -> None:
        # One thread: the sums then run in one order, and nothing spins beside the other services.
        with threadpool_limits(1):
            self._pipeline = make_pipeline(*steps).fit(features, label)
        self._feature_count = features.shape[1]

    def score(self, features: Features) -> Floats:
        with threadpool_limits(1):
            return np.asarray(self._pipeline.predict_proba(features)[:, 1], np.float64)

    def to_onnx(self) -> onnx.ModelProto:
        return export.sklearn_graph(self._pipeline, self._feature_count)


def _round_thresholds(model: str) -> str:
    """Return a model whose thresholds are 32-bit floats, rounded down.

    Features are 32-bit floats, so that no row goes another way; rounded to the nearest, as an exporter would, a
    threshold between two neighbours could take the upper one to the other side.
    """
    lines = model.split("\n")
    for place, line in enumerate(lines):
        if line.startswith("threshold="):
            exact = np.array(line.removeprefix("threshold=").split(), np.float64)
            near = exact.astype(np.float32)
            down = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float64)
            lines[place] = "threshold=" + " ".join(map(repr, down.tolist()))
    # The sizes of the trees' texts are only an aid to parsing, and wrong now.
    return "\n".join(line for line in lines if not line.startswith("tree_sizes="))


def _imputer() -> SimpleImputer:
    return SimpleImputer(strategy="median", keep_empty_features=True)


def _logistic_regression(params: Params, features: Features, label: Floats, seed: int) -> Fitted:
    model = LogisticRegression(**params, max_iter=1000, random_state=seed)
    return _Pipeline((_imputer(), StandardScaler(), model), features, label)


def _random_forest(params: Params, features: Features, label: Floats, seed: int) -> Fitted:
    return _Pipeline((_imputer(), RandomForestClassifier(**params, random_state=seed, n_jobs=1)), features, label)


def _hist_gradient_boosting(params: Params, features: Features, label: Floats, seed: int) -> Fitted:
    model = HistGradientBoostingClassifier(**params, early_stopping=False, random_state=seed)
    # scikit-learn cannot bin a column without a value; one that is the same everywhere is never split on.
    unknown = np.isnan(features).all(axis=0)
    return _Pipeline((model,), np.where(unknown, np.float32(0), features), label)


def _real(low: float, high: float, allowed_low: float, allowed_high: float, *, log: bool = False) -> Parameter:
    return Parameter(Range(low=low, high=high, log=log), Range(low=allowed_low, high=allowed_high))


def _whole(low: int, high: int, allowed_low: int, allowed_high: int) -> Parameter:
    return Parameter(Range(low=low, high=high, integer=True), Range(low=allowed_low, high=allowed_high, integer=True))


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        "lightgbm.classifier": Estimator(
            {
                "learning_rate": _real(0.04, 0.15, 0.001, 1.0, log=True),
                "num_leaves": _whole(7, 31, 2, 255),
                "n_estimators": _whole(40, 120, 1, 2000),
                "min_data_in_leaf": Parameter(None, Range(low=1, high=10_000, integer=True)),
                "feature_fraction": Parameter(None, Range(low=0.1, high=1.0)),
                "lambda_l2": Parameter(None, Range(low=0.0, high=1000.0)),
            },
            _Booster,
        ),
        "sklearn.logistic_regression": Estimator({"C": _real(0.01, 10.0, 1e-6, 1e4, log=True)}, _logistic_regression),
        "sklearn.random_forest": Estimator(
            {
                "n_estimators": _whole(40, 100, 1, 500),
                "max_depth": _whole(4, 10, 1, 16),
                "min_samples_leaf": _whole(5, 50, 1, 10_000),
                "max_features": Parameter(None, Choices(choices=("sqrt", "log2"))),
            },
            _random_forest,
        ),
        "sklearn.hist_gradient_boosting": Estimator(
            {
                "learning_rate": _real(0.04, 0.15, 0.001, 1.0, log=True),
                "max_leaf_nodes": _whole(7, 31, 2, 255),
                "max_iter": _whole(40, 120, 1, 1000),
                "min_samples_leaf": Parameter(None, Range(low=1, high=10_000, integer=True)),
                "l2_regularization": Parameter(None, Range(low=0.0, high=1000.0)),
            },
            _hist_gradient_boosting,
        ),
    }
)
