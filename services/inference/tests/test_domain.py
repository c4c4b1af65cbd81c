import math
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.inference.domain.canary import MORE_ANSWERS, TRIP_WINDOW, Evidence, Health, Judgement, Verdict
from millrace.inference.domain.routing import Arm, Route, choose, left, moves
from millrace.runtime.errors import Conflict

OLD, NEW, OTHER = (UUID(int=number) for number in (1, 2, 3))
IN_USE = Route(in_use=OLD, generation=7)
KEYS = [f"flight-{number}" for number in range(20_000)]


def owners(arms: tuple[Arm, ...]) -> dict[str, UUID]:
    return {key: choose(arms, "demo", "late", key) for key in KEYS}


def test_a_share_is_what_its_weight_says() -> None:
    for weight in (1, 5, 25, 50):
        found = owners(Route(OLD, NEW, weight).arms())

        share = sum(owner == NEW for owner in found.values()) / len(KEYS)
        assert share == pytest.approx(weight / 100, abs=4 * math.sqrt(0.25 / len(KEYS)))


def test_a_growing_canary_keeps_its_keys_and_takes_new_ones_only_from_the_one_in_use() -> None:
    before = owners(Route(OLD, NEW, 5).arms())
    after = owners(Route(OLD, NEW, 10).arms())

    moved = {(before[key], after[key]) for key in KEYS if before[key] != after[key]}

    assert moved == {(OLD, NEW)}


@given(
    st.integers(1, 99),
    st.integers(1, 99),
    st.text(max_size=30),
)
def test_no_key_leaves_an_arm_that_grows(one: int, other: int, key: str) -> None:
    less, more = sorted((one, other))

    if choose(Route(OLD, NEW, less).arms(), "demo", "late", key) == NEW:
        assert choose(Route(OLD, NEW, more).arms(), "demo", "late", key) == NEW


@given(
    st.dictionaries(st.integers(0, 8).map(lambda n: UUID(int=n)), st.integers(1, 100), min_size=2),
    st.text(max_size=30),
    st.data(),
)
def test_an_arm_that_goes_moves_only_its_own_keys(weights: dict[UUID, int], key: str, data: st.DataObject) -> None:
    arms = [Arm(who, weight) for who, weight in weights.items()]
    gone = data.draw(st.sampled_from(arms))
    before = choose(arms, "demo", "late", key)

    after = choose([arm for arm in arms if arm != gone], "demo", "late", key)

    assert before in {after, gone.deployment_id}


def test_canaries_one_after_another_get_different_keys() -> None:
    first = {key for key, owner in owners(Route(OLD, NEW, 5).arms()).items() if owner == NEW}
    second = {key for key, owner in owners(Route(OLD, OTHER, 5).arms()).items() if owner == OTHER}

    assert len(first & second) < len(first) / 4


@given(st.lists(st.tuples(st.sampled_from([OLD, NEW, OTHER]), st.integers(0, 100)), max_size=12))
def test_weights_add_up_to_100_whatever_is_asked(asked: list[tuple[UUID, int]]) -> None:
    route = Route()
    for deployment_id, weight in asked:
        try:
            after = route.shifted(deployment_id, weight)
        except Conflict:
            continue

        assert after.weight_of(deployment_id) == weight
        assert sum(arm.weight for arm in after.arms()) in {0, 100}
        assert after.generation - route.generation == (after != route)
        assert {arm.deployment_id for arm in moves(route, after)} <= {OLD, NEW, OTHER}
        route = after


def test_the_first_deployment_takes_all_or_nothing() -> None:
    assert Route().shifted(NEW, 100) == Route(in_use=NEW, generation=1)
    assert Route().shifted(NEW, 0) == Route()
    with pytest.raises(Conflict, match="takes all 100"):
        Route().shifted(NEW, 5)


def test_a_rolled_back_canary_leaves_and_the_one_in_use_has_all() -> None:
    before = IN_USE.shifted(NEW, 25)

    after = before.shifted(NEW, 0)

    assert after == Route(in_use=OLD, generation=9)
    assert moves(before, after) == (Arm(OLD, 100), Arm(NEW, 0))
    assert left(before, after) == (NEW,)


def test_a_canary_at_100_is_compared_until_it_is_judged_and_retires_the_other_then() -> None:
    full = IN_USE.shifted(NEW, 100)
    settled = full.settled()

    assert full.arms() == (Arm(OLD, 0), Arm(NEW, 100))
    assert settled == Route(in_use=NEW, generation=9)
    assert left(full, settled) == (OLD,)
    assert moves(full, settled) == ()
    assert full.shifted(NEW, 0) == Route(in_use=OLD, generation=9)


def test_a_pass_below_100_changes_nothing() -> None:
    route = IN_USE.shifted(NEW, 50)

    assert route.settled() is route


def test_a_newer_canary_takes_the_place_of_one_on_trial() -> None:
    assert IN_USE.shifted(NEW, 25).shifted(OTHER, 1) == Route(OLD, OTHER, 1, generation=9)
    assert IN_USE.shifted(NEW, 100).shifted(OTHER, 1) == Route(NEW, OTHER, 1, generation=9)


def test_a_tripped_canary_gets_nothing_until_it_is_gone() -> None:
    tripped = IN_USE.shifted(NEW, 25).with_trip(NEW, "5 of 9 failed")

    assert tripped.arms() == (Arm(OLD, 100), Arm(NEW, 0))
    assert tripped.with_trip(NEW, "again") is tripped
    with pytest.raises(Conflict, match="5 of 9 failed"):
        tripped.shifted(NEW, 50)
    assert tripped.shifted(NEW, 0) == Route(in_use=OLD, generation=10)


def test_the_one_in_use_is_never_tripped() -> None:
    route = IN_USE.shifted(NEW, 25)

    assert route.with_trip(OLD, "broken") is route


def test_an_arm_trips_on_many_bad_answers_and_not_on_a_few() -> None:
    few, many, rare = Health(), Health(), Health()
    for _ in range(4):
        few.note(good=False)
    for _ in range(5):
        many.note(good=False)
    for number in range(10 * TRIP_WINDOW):
        rare.note(good=number % 10 != 0)

    assert few.trip_reason() == rare.trip_reason() == ""
    assert many.trip_reason() == "5 of its last 5 answers failed or were no finite number"


def test_evidence_is_the_mean_and_its_standard_error() -> None:
    differences = np.random.default_rng(1).normal(0.01, 0.2, 200)

    evidence = Evidence.of(200, differences.sum(), (differences**2).sum())

    assert evidence.mean_difference == pytest.approx(differences.mean())
    assert evidence.standard_error == pytest.approx(differences.std(ddof=1) / math.sqrt(200))


def test_one_answer_decides_nothing_against_a_canary_and_nothing_for_it() -> None:
    evidence = Evidence.of(1, 1.0, 1.0)

    assert Judgement(1, strict=False).next(evidence) is Verdict.PASS
    assert isinstance(Judgement(1, strict=True).next(evidence), Judgement)


def test_what_is_not_decided_waits_for_100_more_three_times_and_is_then_unknown() -> None:
    judgement: Judgement | Verdict = Judgement(370, strict=True)
    seen = []
    while isinstance(judgement, Judgement):
        seen.append(judgement.wanted)
        judgement = judgement.next(Evidence(judgement.wanted, 0.01, 0.01))

    assert seen == [370, 370 + MORE_ANSWERS, 370 + 2 * MORE_ANSWERS, 370 + 3 * MORE_ANSWERS]
    assert judgement is Verdict.UNKNOWN


def test_when_time_is_up_proven_harm_still_counts() -> None:
    judgement = Judgement(1000, strict=False)

    assert judgement.at_timeout(Evidence(30, 0.2, 0.01)) is Verdict.FAIL
    assert judgement.at_timeout(Evidence(30, -0.2, 0.01)) is Verdict.UNKNOWN
