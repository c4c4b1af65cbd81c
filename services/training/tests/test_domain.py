import re
from datetime import UTC, datetime

import pytest
from millrace.runtime.errors import InvalidInput
from millrace.training.commands import Choices, Dimension, Range, Tune, VersionKey
from millrace.training.domain import Bounds, Trial, best, content_id, refusals, search_space, split
from millrace.training.engine.estimators import ESTIMATORS

GOOD = Bounds(skill_lower=0.1, regression_upper=0.01, groups=21, one_class=False)
LIGHTGBM = ESTIMATORS["lightgbm.classifier"].parameters


def test_the_holdout_is_the_last_days_where_the_rows_were_made_and_tuning_the_days_before() -> None:
    last = datetime(2013, 3, 15, 3, 0, tzinfo=UTC)  # still the 14th in New York, where clocks changed on the 10th

    cut = split(last, tuning_days=7, holdout_days=7, timezone="America/New_York")

    assert cut.holdout_from == datetime(2013, 3, 8, 5, 0, tzinfo=UTC)
    assert cut.tuning_from == datetime(2013, 3, 1, 5, 0, tzinfo=UTC)


def test_what_is_searched_is_the_estimators_own_ranges_unless_asked_otherwise() -> None:
    asked: dict[str, Dimension] = {"num_leaves": Choices(choices=(15,)), "lambda_l2": Range(low=0, high=5)}

    space = search_space("lightgbm.classifier", LIGHTGBM, asked)

    assert list(space) == ["lambda_l2", "learning_rate", "n_estimators", "num_leaves"]
    assert space["num_leaves"] == Choices(choices=(15,))
    assert space["learning_rate"] == Range(low=0.04, high=0.15, log=True)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"device_type": Choices(choices=("cuda",))}, "has no parameter device_type"),
        ({"num_leaves": Range(low=2, high=100_000, integer=True)}, "within 2 and 255"),
        ({"num_leaves": Range(low=2, high=100)}, "whole number"),
        ({"num_leaves": Choices(choices=("many",))}, "within 2 and 255"),
        ({"learning_rate": Range(low=float("nan"), high=0.1)}, "within 0.001 and 1"),
    ],
)
def test_a_search_beyond_the_bounds_is_refused(asked: dict[str, Dimension], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        search_space("lightgbm.classifier", LIGHTGBM, asked)


def test_a_search_space_is_read_as_it_is_written_in_a_workflow() -> None:
    asked = Tune(
        model="m",
        training_set_id="0" * 64,
        search_space={"num_leaves": {"low": 3, "high": 7, "int": True}, "lambda_l2": {"choices": [0, 1.5]}},
    )

    assert asked.search_space["num_leaves"] == Range(low=3, high=7, integer=True)
    assert asked.search_space["lambda_l2"] == Choices(choices=(0, 1.5))


def test_what_makes_no_sense_is_invalid_input() -> None:
    with pytest.raises(InvalidInput, match="search_space"):
        Tune(model="m", training_set_id="0" * 64, search_space={"C": {"low": 2, "high": 1}})
    with pytest.raises(InvalidInput, match="timezone"):
        Tune(model="m", training_set_id="0" * 64, timezone="../etc/passwd")
    with pytest.raises(InvalidInput, match="say a version"):
        VersionKey(namespace="demo", model="m")


def test_the_best_trial_is_the_first_of_equals_and_no_failed_one() -> None:
    trials = [
        Trial(0, {}, {}, "failed"),
        Trial(1, {}, {"brier": 0.2, "auc": 0.7}),
        Trial(2, {}, {"brier": 0.1, "auc": 0.7}),
        Trial(3, {}, {"brier": 0.1, "auc": 0.6}),
    ]

    assert best(trials, "brier").number == 2
    assert best(trials, "auc").number == 1
    with pytest.raises(InvalidInput, match="none of 1 trials"):
        best(trials[:1], "brier")


def test_a_version_passes_when_all_three_rules_hold() -> None:
    assert refusals(GOOD, parity_max_abs=1e-5, max_regression=0.02, in_use="version 3 in use") == ()


@pytest.mark.parametrize(
    ("bounds", "parity", "says"),
    [
        (Bounds(0.0, 0.01, 21, one_class=False), 0.0, "Brier skill .* is 0.0000, not above 0"),
        (Bounds(0.1, 0.02, 21, one_class=False), 0.0, "loss against version 3 in use is 0.0200 .* not below 0.02"),
        (Bounds(float("nan"), 0.01, 21, one_class=False), 0.0, "Brier skill"),
        (GOOD, 1.1e-5, "ONNX and native scores differ by 1.1e-05"),
        (Bounds(0.1, 0.01, 4, one_class=False), 0.0, "4 groups, fewer than 5"),
        (Bounds(0.1, 0.01, 21, one_class=True), 0.0, "all the same"),
    ],
)
def test_each_rule_refuses_alone_and_says_why(bounds: Bounds, parity: float, says: str) -> None:
    (reason,) = refusals(bounds, parity, 0.02, "version 3 in use")

    assert re.search(says, reason)


def test_equal_inputs_have_equal_ids_whatever_their_order() -> None:
    assert content_id("study", {"a": 1, "b": [2]}) == content_id("study", {"b": [2], "a": 1})
    assert content_id("study", {"a": 1}) != content_id("evaluation", {"a": 1})
