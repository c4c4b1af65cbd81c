"""The whole path to 100%, simulated a thousand times: honest models get there, damaged ones never do."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from millrace.inference.domain.canary import Evidence, Judgement, Verdict

Floats = npt.NDArray[np.float64]
Damage = Callable[[Floats, Floats, np.random.Generator], Floats]

STAGES = ((20, False), (50, False), (100, True), (200, True), (200, True))
RUNS = 1000
MOST_ANSWERS = sum(answers for answers, _ in STAGES) + 3 * 100 * len(STAGES)


def scores(truth: Floats, generator: np.random.Generator) -> Floats:
    """What a model of AUC about .75 says where the true log odds are `truth`."""
    return 1 / (1 + np.exp(-(0.85 * truth - 0.15 + generator.normal(0, 0.35, truth.shape))))


def promoted(damage: Damage, seed: int) -> float:
    generator = np.random.default_rng(seed)
    truth = generator.normal(-1.4, 1.1, (RUNS, MOST_ANSWERS))
    label = (generator.random(truth.shape) < 1 / (1 + np.exp(-truth))).astype(float)
    in_use = scores(truth, generator)
    canary = damage(scores(truth, generator), truth, generator)
    differences = (canary - label) ** 2 - (in_use - label) ** 2
    return sum(reaches_the_end(run) for run in differences) / RUNS


def reaches_the_end(differences: Floats) -> bool:
    total, squares = np.cumsum(differences), np.cumsum(differences**2)
    answers = 0
    for more, strict in STAGES:
        judgement: Judgement | Verdict = Judgement(answers + more, strict)
        while isinstance(judgement, Judgement):
            answers = judgement.wanted
            judgement = judgement.next(Evidence.of(answers, total[answers - 1], squares[answers - 1]))
        if judgement is not Verdict.PASS:
            return False
    return True


def test_an_honest_canary_is_promoted() -> None:
    assert promoted(lambda canary, *_: canary, seed=1) >= 0.99


def swapped(canary: Floats, _: Floats, generator: np.random.Generator) -> Floats:
    return generator.permuted(canary, axis=1)


def zeroed(canary: Floats, *_: object) -> Floats:
    return np.full_like(canary, 0.5)


def nan(_: Floats, truth: Floats, generator: np.random.Generator) -> Floats:
    # With every feature missing a model falls back on nearly one number, here the rate of another season.
    return 0.35 + generator.normal(0, 0.01, truth.shape)


@pytest.mark.parametrize("damage", [swapped, zeroed, nan])
def test_a_canary_with_damaged_features_is_never_promoted(damage: Damage) -> None:
    assert promoted(damage, seed=2) == 0
