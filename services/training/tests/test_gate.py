from dataclasses import dataclass

import numpy as np
import pytest
from millrace.training.domain import Bounds, refusals
from millrace.training.engine.measures import Sums, auc, bounds, measures, sums
from numpy.typing import NDArray

GROUPS, ROWS = 21, 300


@dataclass
class Week:
    group: NDArray[np.int64]
    chance: NDArray[np.float64]
    label: NDArray[np.float64]


def week(seed: int) -> Week:
    """Return a holdout whose days differ: each group has a shift of its own that no model knows."""
    generator = np.random.default_rng(seed)
    group = np.repeat(np.arange(GROUPS), ROWS)
    shift = generator.normal(scale=0.4, size=GROUPS)[group]
    chance = 1 / (1 + np.exp(1.2 - 1.2 * generator.normal(size=len(group))))
    actual = 1 / (1 + np.exp(-(np.log(chance / (1 - chance)) + shift)))
    return Week(group, chance, (generator.random(len(group)) < actual).astype(float))


def verdict(week: Week, score: NDArray[np.float64], in_use: NDArray[np.float64], label: NDArray[np.float64]) -> Bounds:
    return bounds(sums(week.group, label, score, in_use), 1000, seed=0)


def refused(found: Bounds) -> tuple[str, ...]:
    return refusals(found, 0.0, 0.02, "version 1 in use")


@pytest.mark.parametrize("seed", range(10))
def test_an_honest_model_passes(seed: int) -> None:
    holdout = week(seed)

    found = verdict(holdout, holdout.chance, np.full(len(holdout.label), 0.3), holdout.label)

    assert refused(found) == ()


@pytest.mark.parametrize("seed", range(10))
def test_a_model_is_refused_where_labels_are_shuffled(seed: int) -> None:
    holdout = week(seed)
    label = np.random.default_rng(seed).permutation(holdout.label)

    found = verdict(holdout, holdout.chance, holdout.chance, label)

    assert found.skill_lower < 0
    assert "Brier skill" in refused(found)[0]


@pytest.mark.parametrize("seed", range(10))
def test_a_model_much_worse_than_the_one_in_use_is_refused_though_it_has_skill(seed: int) -> None:
    holdout = week(seed)
    timid = 0.5 * holdout.chance + 0.5 * holdout.label.mean()

    found = verdict(holdout, timid, holdout.chance, holdout.label)

    assert found.skill_lower > 0
    assert len(refused(found)) == 1
    assert "loss against version 1 in use" in refused(found)[0]


def test_a_model_that_predicts_a_holdout_without_late_rows_is_refused() -> None:
    holdout = week(0)

    found = verdict(holdout, holdout.chance, holdout.chance, np.zeros(len(holdout.label)))

    assert found.one_class
    assert refused(found) == ("the holdout's labels are all the same: nothing can be told from it",)


def test_a_constant_that_beats_a_stale_training_rate_has_no_skill() -> None:
    holdout = week(1)
    late = np.ones(len(holdout.label))
    late[::50] = 0
    knowing = np.full(len(late), 0.95)

    found = verdict(holdout, knowing, np.full(len(late), 0.2), late)

    assert found.regression_upper < 0
    assert found.skill_lower <= 0


def test_the_lower_bound_lies_above_the_truth_about_as_rarely_as_it_says() -> None:
    # Skill over all groups there could be, from very many of them.
    truth = _skill([week(1000 + seed) for seed in range(100)])

    above = sum(
        verdict(holdout, holdout.chance, holdout.chance, holdout.label).skill_lower > truth
        for holdout in map(week, range(200))
    )

    assert 0.01 <= above / 200 <= 0.12


def test_groups_give_wider_bounds_than_rows_taken_one_by_one() -> None:
    holdout = week(2)
    by_group = verdict(holdout, holdout.chance, holdout.chance, holdout.label)
    alone = Week(np.arange(len(holdout.group)), holdout.chance, holdout.label)
    by_row = bounds(sums(alone.group, alone.label, alone.chance, alone.chance), 300, seed=0)
    skill = _skill([holdout])

    assert skill - by_group.skill_lower > skill - by_row.skill_lower


def test_bounds_are_the_same_each_time() -> None:
    of = Sums(*(np.random.default_rng(0).random((4, GROUPS)) + 1))

    assert bounds(of, 1000, seed=4) == bounds(of, 1000, seed=4)


def test_auc_counts_pairs_and_halves_ties() -> None:
    generator = np.random.default_rng(0)
    label = (generator.random(300) < 0.3).astype(float)
    score = generator.integers(0, 20, 300) / 20
    ones, zeros = score[label == 1][:, None], score[label == 0][None, :]

    assert auc(label, score) == pytest.approx(((ones > zeros) + 0.5 * (ones == zeros)).mean())


def test_measures_are_finite_and_leave_out_what_cannot_be_told() -> None:
    found = measures(np.zeros(3), np.array([0.0, 1.0, 0.5]))

    assert set(found) == {"brier", "logloss"}
    assert np.isfinite(list(found.values())).all()


def _skill(weeks: list[Week]) -> float:
    label = np.concatenate([one.label for one in weeks])
    chance = np.concatenate([one.chance for one in weeks])
    return float(1 - np.mean((chance - label) ** 2) / (label.mean() * (1 - label.mean())))
