from dataclasses import replace

import pytest
from millrace.contracts.training import AliasMoved, EvaluationFailed, EvaluationPassed, VersionRegistered
from millrace.runtime.errors import Conflict, NotFound
from millrace.training.commands import ListTrials, ListVersions, Promote, Range, SetAlias, Tune, VersionKey
from millrace.training.domain import Candidate, Judgement, Trial
from millrace.training.handlers import (
    keep_evaluation,
    model_version,
    model_versions,
    promote_version,
    register_version,
    set_alias,
    study_trials,
)
from millrace.training.store import Store

CANDIDATE = Candidate(
    study_id="5" * 64,
    model="shops",
    version_id="a" * 64,
    files={"model.onnx": "c" * 64, "manifest.json": "d" * 64},
    training_set_id="e" * 64,
    estimator="lightgbm.classifier",
    params={"num_leaves": 7, "learning_rate": 0.1},
    metrics={"brier": 0.15},
    parity_max_abs=2e-7,
)
OTHER = replace(CANDIDATE, version_id="b" * 64)
PASSED = Judgement(
    evaluation_id="1" * 64,
    model="shops",
    version=1,
    version_id="a" * 64,
    training_set_id="e" * 64,
    champion_version=0,
    champion_version_id="",
    passed=True,
    measures={"skill": 0.2},
    reasons=(),
)
REFUSED = replace(PASSED, evaluation_id="2" * 64, passed=False, reasons=("lower bound of the Brier skill is -0.1",))
CHAMPION = SetAlias(namespace="demo", model="shops", alias="champion", version=1)


async def test_a_models_first_version_is_1_and_is_announced(tx: Store) -> None:
    output = await register_version(CANDIDATE, tx)

    assert output["version"] == 1
    assert output["version_id"] == "a" * 64
    (event,) = tx.emitted
    assert isinstance(event, VersionRegistered)
    assert (event.namespace, event.model, event.version) == ("demo", "shops", 1)
    assert event.params == {"num_leaves": 7, "learning_rate": 0.1}


async def test_the_same_contents_keep_their_number_and_are_announced_once(tx: Store) -> None:
    first = await register_version(CANDIDATE, tx)

    second = await register_version(CANDIDATE, tx)

    assert second == first
    assert len(tx.emitted) == 1


async def test_other_contents_are_the_next_version(tx: Store) -> None:
    await register_version(CANDIDATE, tx)

    assert (await register_version(OTHER, tx))["version"] == 2
    assert (await register_version(CANDIDATE, tx))["version"] == 1
    assert (await register_version(replace(CANDIDATE, model="cafés"), tx))["version"] == 1


async def test_registering_says_what_the_model_was_made_from(tx: Store) -> None:
    await register_version(CANDIDATE, tx)

    assert tx.used_refs == [f"feature.training_set:{'e' * 64}"]
    assert tx.made_refs[f"training.model:{'a' * 64}"]["version"] == 1


@pytest.mark.parametrize(
    ("judgement", "announced", "verdict"), [(PASSED, EvaluationPassed, "passed"), (REFUSED, EvaluationFailed, "failed")]
)
async def test_a_verdict_is_kept_and_announced_once(
    tx: Store, judgement: Judgement, announced: type, verdict: str
) -> None:
    await register_version(CANDIDATE, tx)

    output = await keep_evaluation(judgement, tx)
    again = await keep_evaluation(judgement, tx)

    assert [type(event) for event in tx.emitted] == [VersionRegistered, announced]
    assert output == again
    assert output["verdict"] == verdict
    assert output["reasons"] == list(judgement.reasons)


async def test_an_evaluation_names_the_version_it_compared_with(tx: Store) -> None:
    await keep_evaluation(replace(PASSED, champion_version=4, champion_version_id="f" * 64), tx)

    assert f"training.model:{'f' * 64}" in tx.used_refs
    assert list(tx.made_refs) == [f"training.evaluation:{'1' * 64}"]


async def test_an_alias_moves_to_a_version_that_passed(tx: Store) -> None:
    await register_version(CANDIDATE, tx)
    await keep_evaluation(PASSED, tx)

    output = await promote_version(Promote(model="shops", version=1), tx)

    assert output == {"model": "shops", "alias": "champion", "version": 1, "previous_version": 0}
    assert isinstance(tx.emitted[-1], AliasMoved)
    assert (await model_version(VersionKey(namespace="demo", model="shops", alias="champion"), tx)).version.version == 1


async def test_promoting_twice_moves_once(tx: Store) -> None:
    await register_version(CANDIDATE, tx)
    await keep_evaluation(PASSED, tx)

    await promote_version(Promote(model="shops", version=1), tx)
    await set_alias(CHAMPION, "ada", tx)

    assert [type(event) for event in tx.emitted].count(AliasMoved) == 1
    assert await tx.alias_moves("demo", "shops", "champion") == [(0, 1)]


async def test_moving_on_and_back_is_kept_as_history(tx: Store) -> None:
    await register_version(CANDIDATE, tx)
    await register_version(OTHER, tx)
    await keep_evaluation(PASSED, tx)
    await keep_evaluation(replace(PASSED, evaluation_id="3" * 64, version=2, version_id="b" * 64), tx)

    moves = [await set_alias(CHAMPION.model_copy(update={"version": to}), "ada", tx) for to in (1, 2, 1)]

    assert moves == [0, 1, 2]
    assert await tx.alias_moves("demo", "shops", "champion") == [(0, 1), (1, 2), (2, 1)]
    moved = [event for event in tx.emitted if isinstance(event, AliasMoved)]
    assert [(event.previous_version, event.version, event.version_id[0]) for event in moved] == [
        (0, 1, "a"),
        (1, 2, "b"),
        (2, 1, "a"),
    ]


async def test_no_alias_moves_to_what_was_not_evaluated(tx: Store) -> None:
    await register_version(CANDIDATE, tx)

    with pytest.raises(Conflict, match="version 1 of model shops has not been evaluated"):
        await promote_version(Promote(model="shops", version=1), tx)
    with pytest.raises(NotFound, match="version 9 of model shops does not exist"):
        await set_alias(CHAMPION.model_copy(update={"version": 9}), "ada", tx)
    assert await tx.aliases("demo", "shops") == {}


async def test_a_refusal_closes_the_door_and_says_why(tx: Store) -> None:
    await register_version(CANDIDATE, tx)
    await keep_evaluation(REFUSED, tx)

    with pytest.raises(Conflict, match=r"lower bound of the Brier skill is -0\.1"):
        await set_alias(CHAMPION, "ada", tx)


async def test_a_version_is_found_by_number_alias_and_id_with_all_that_is_known(tx: Store) -> None:
    await register_version(CANDIDATE, tx)
    await keep_evaluation(PASSED, tx)
    await set_alias(CHAMPION, "ada", tx)

    keys: list[dict[str, object]] = [{"version": 1}, {"alias": "champion"}, {"version_id": "a" * 64}]
    found = [await model_version(VersionKey(namespace="demo", model="shops", **key), tx) for key in keys]

    assert found[0] == found[1] == found[2]
    assert found[0].aliases == ("champion",)
    assert [evaluation.passed for evaluation in found[0].evaluations] == [True]
    assert await model_versions(ListVersions(namespace="demo", model="shops"), tx) == found[:1]


@pytest.mark.parametrize("key", [{"version": 7}, {"alias": "nobody"}, {"version_id": "9" * 64}])
async def test_what_is_not_there_is_not_found(tx: Store, key: dict[str, object]) -> None:
    with pytest.raises(NotFound):
        await model_version(VersionKey(namespace="demo", model="shops", **key), tx)


async def test_one_namespace_does_not_see_anothers_models(tx: Store) -> None:
    await register_version(CANDIDATE, tx)

    assert await model_versions(ListVersions(namespace="other", model="shops"), tx) == []
    with pytest.raises(NotFound):
        await study_trials(ListTrials(namespace="other", study_id="5" * 64), tx)


async def test_trials_are_listed_page_by_page(tx: Store) -> None:
    tx.add_study(
        "demo", "5" * 64, Tune(model="shops", training_set_id="e" * 64, search_space={"C": Range(low=1, high=2)})
    )
    for number in range(3):
        tx.add_trial("demo", "5" * 64, Trial(number, {"C": 1.0}, {}))

    first, after = await study_trials(ListTrials(namespace="demo", study_id="5" * 64, limit=2), tx)
    rest, end = await study_trials(ListTrials(namespace="demo", study_id="5" * 64, limit=2, from_number=after), tx)

    assert [trial.number for trial in (*first, *rest)] == [0, 1, 2]
    assert (after, end) == (2, 0)
