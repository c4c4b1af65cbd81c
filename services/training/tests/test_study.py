from typing import Any

import pytest
from millrace.training.commands import Choices, Range
from millrace.training.domain import Trial
from millrace.training.engine.estimators import estimator
from millrace.training.engine.frame import read_frame
from millrace.training.engine.study import Study


@pytest.fixture
def study(write_training_set: Any) -> Study:
    frame = read_frame(write_training_set(days=10), ["shop.load", "shop.queue"])
    space = {"C": Range(low=0.01, high=10, log=True)}
    fit, tuning = frame.take(slice(0, 900)), frame.take(slice(900, None))
    return Study(estimator("sklearn.logistic_regression"), space, fit, tuning, "brier", seed=11)


def test_an_interrupted_study_goes_on_as_if_it_had_not_been(study: Study) -> None:
    whole: list[Trial] = []
    for _ in range(8):
        whole.append(study.run_trial(whole))

    resumed = whole[:6]
    for _ in range(2):
        resumed.append(study.run_trial(resumed))

    assert resumed == whole
    assert len({trial.params["C"] for trial in whole}) == 8
    assert [trial.number for trial in whole] == list(range(8))


def test_trials_stay_within_what_was_asked(study: Study) -> None:
    asked = Study(
        study.of,
        {"C": Range(low=0.5, high=0.6), "n": Range(low=3, high=5, integer=True), "kind": Choices(choices=("a", 2))},
        study.fit,
        study.tuning,
        "auc",
        seed=0,
    )

    done: list[Trial] = []
    for number in range(12):
        params = asked.next_params(done)
        done.append(Trial(number, params, {"auc": 0.5}, "failed" if number % 3 == 0 else "complete"))

    assert all(0.5 <= float(trial.params["C"]) <= 0.6 for trial in done)
    assert {trial.params["n"] for trial in done} <= {3, 4, 5}
    assert {trial.params["kind"] for trial in done} <= {"a", 2}


def test_a_trial_is_measured_on_rows_it_was_not_fitted_on(study: Study) -> None:
    trial = study.run_trial([])

    assert set(trial.metrics) == {"brier", "logloss", "auc"}
    assert trial.metrics["auc"] > 0.65
