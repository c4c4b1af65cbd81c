from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from millrace.contracts.training import ModelFeature
from millrace.runtime.errors import InvalidInput
from millrace.training.commands import Tune
from millrace.training.domain import TrainingSet, split
from millrace.training.engine.estimators import ESTIMATORS, estimator
from millrace.training.engine.export import Scorer
from millrace.training.engine.frame import Frame, read_frame
from millrace.training.engine.model import Built, Deployable, build

FEATURES = ("shop.load", "shop.queue", "clock.stamp")
SMALL: dict[str, dict[str, Any]] = {
    "lightgbm.classifier": {"n_estimators": 40, "num_leaves": 15},
    "sklearn.logistic_regression": {"C": 1.0},
    "sklearn.random_forest": {"n_estimators": 20, "max_depth": 8, "min_samples_leaf": 5},
    "sklearn.hist_gradient_boosting": {"max_iter": 40, "max_leaf_nodes": 15},
}
TRAINING_SET = TrainingSet(
    "1" * 64,
    "2" * 64,
    tuple(ModelFeature(view=n.split(".")[0], feature=n.split(".")[1], source="request") for n in FEATURES),
    (),
)


@pytest.fixture
def frame(write_training_set: Any) -> Frame:
    return read_frame(write_training_set(), FEATURES, ["shop"])


def built(name: str, frame: Frame) -> Built:
    asked = Tune(model="shops", training_set_id="1" * 64, estimator=name, seed=5)
    cut = split(frame.last, 7, 7, "UTC")
    return build(asked, SMALL[name], TRAINING_SET, frame.between(None, cut.holdout_from), cut.holdout_from)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_graph_scores_as_its_library_does_with_values_missing_too(name: str, frame: Frame) -> None:
    assert built(name, frame).parity_max_abs <= 1e-5


@pytest.mark.parametrize("name", ESTIMATORS)
def test_fitting_again_gives_the_same_bytes(name: str, frame: Frame) -> None:
    first, second = built(name, frame), built(name, frame)

    assert first.graph == second.graph
    assert first.manifest.to_bytes() == second.manifest.to_bytes()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_deployment_can_work_from_the_two_files_alone(name: str, frame: Frame) -> None:
    made = built(name, frame)
    graph = onnx.load_from_string(made.graph)

    deployable = Deployable(made.graph, made.manifest.to_bytes())
    rows = np.array(deployable.manifest.golden.rows, dtype=np.float32)
    scores = Scorer(made.graph)(rows)

    assert [entry.name for entry in graph.graph.input] == ["features"]
    assert [entry.name for entry in graph.graph.output] == ["score"]
    assert graph.graph.name == "millrace"
    assert len(rows) == 64
    assert np.isnan(rows).any()
    assert np.abs(scores - deployable.manifest.golden.scores).max() <= deployable.manifest.golden.tolerance
    assert scores.max() - scores.min() > 0.3


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_model_learns_what_is_to_be_learned(name: str, frame: Frame) -> None:
    made = built(name, frame)
    holdout = frame.between(made.manifest.fitted_until, None)

    score = Deployable(made.graph, made.manifest.to_bytes()).score(holdout)

    assert np.mean((score - holdout.label) ** 2) < 0.9 * np.mean((made.manifest.base_rate - holdout.label) ** 2)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_feature_of_which_nothing_is_known_harms_no_estimator(name: str) -> None:
    generator = np.random.default_rng(5)
    features = np.column_stack([generator.normal(size=400), np.full(400, np.nan)]).astype(np.float32)
    params = {"n_estimators": 5} if name in {"lightgbm.classifier", "sklearn.random_forest"} else {}

    fitted = estimator(name).fit(params, features, (features[:, 0] > 0).astype(float), 0)
    scores = Scorer(fitted.to_onnx().SerializeToString())(features)

    assert np.abs(scores - fitted.score(features)).max() <= 1e-5


def test_neighbouring_32_bit_values_go_the_same_way_in_the_graph_and_in_the_library() -> None:
    generator = np.random.default_rng(3)
    base = np.float32(1_367_000_000)  # seconds: 32-bit floats are 128 apart here
    steps = generator.integers(0, 64, 20_000)
    features = (base + 128 * steps.astype(np.float32)).astype(np.float32)[:, None]
    label = (generator.random(20_000) < np.where(steps % 2, 0.9, 0.1)).astype(float)

    fitted = estimator("lightgbm.classifier").fit({"n_estimators": 40, "num_leaves": 64}, features, label, 0)
    scores = Scorer(fitted.to_onnx().SerializeToString())(features)

    assert np.abs(scores - fitted.score(features)).max() <= 1e-5
    assert scores[steps % 2 == 1].min() > scores[steps % 2 == 0].max()


def test_only_what_is_on_the_list_can_be_asked_for() -> None:
    with pytest.raises(InvalidInput, match=r"no estimator is called os\.system; there are lightgbm\.classifier"):
        estimator("os.system")


def test_a_training_set_without_a_column_or_with_other_labels_is_refused(
    write_training_set: Any, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415

    path = write_training_set(days=3)
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, "label", [np.arange(len(table), dtype=float)]), tmp_path / "counts.parquet")

    load = [np.full(len(table), 1e300)]
    pq.write_table(
        table.set_column(table.column_names.index("shop.load"), "shop.load", load), tmp_path / "huge.parquet"
    )

    with pytest.raises(InvalidInput, match=r"no column shop\.colour"):
        read_frame(path, ["shop.colour"])
    with pytest.raises(InvalidInput, match=r"feature shop\.load has a value that is beyond 32-bit floats"):
        read_frame(tmp_path / "huge.parquet", FEATURES)
    with pytest.raises(InvalidInput, match="labels are 0, 1 or null"):
        read_frame(tmp_path / "counts.parquet", FEATURES)


def test_rows_are_cut_in_time_and_sampled_the_same_each_time(frame: Frame) -> None:
    half = datetime(2026, 1, 16, tzinfo=UTC)

    before, after = frame.between(None, half), frame.between(half, None)

    assert len(before) + len(after) == len(frame)
    assert before.last < half <= after.take(slice(0, 1)).last
    assert (before.sample(100, 1).t_us == before.sample(100, 1).t_us).all()
    assert len(set(before.sample(100, 1).t_us)) == 100
