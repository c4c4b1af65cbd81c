import asyncio
from dataclasses import asdict, replace

from millrace.runtime.database import Database, Transactions
from millrace.runtime.testing import Server, fresh_database
from millrace.training.commands import Range, SetAlias, Tune
from millrace.training.domain import Candidate, Evaluation, Trial, Version
from millrace.training.store import Store

CANDIDATE = Candidate(
    study_id="5" * 64,
    model="shops",
    version_id="a" * 64,
    files={"model.onnx": "c" * 64},
    training_set_id="e" * 64,
    estimator="lightgbm.classifier",
    params={"num_leaves": 7, "kind": "x", "rate": 0.25},
    metrics={"brier": 0.15},
    parity_max_abs=2e-7,
)


def evaluation(tx: Store, **changes: object) -> Evaluation:
    kept = Evaluation("1" * 64, "shops", 1, "a" * 64, "e" * 64, 0, "", True, {"skill": 0.2}, ("a", "b"), tx.now)
    return replace(kept, **changes)  # type: ignore[arg-type] # fields by name


async def test_a_study_and_its_trials_are_read_as_written_and_kept_once(tx: Store) -> None:
    asked = Tune(model="shops", training_set_id="e" * 64, search_space={"C": Range(low=1, high=2)})
    trials = [Trial(0, {"C": 1.5}, {"brier": 0.2, "auc": 0.7}), Trial(1, {"C": 1.25}, {}, "failed")]

    for _ in range(2):
        tx.add_study("demo", "5" * 64, asked)
        for trial in reversed(trials):
            tx.add_trial("demo", "5" * 64, trial)
    tx.add_trial("demo", "5" * 64, Trial(0, {"C": 9.0}, {"brier": 0.0}))

    await tx.check_study("demo", "5" * 64)
    assert await tx.trials("demo", "5" * 64) == trials
    assert await tx.trials("demo", "5" * 64, 1, 5) == trials[1:]
    assert await tx.trials("other", "5" * 64) == []


async def test_versions_are_read_as_written_newest_first(tx: Store) -> None:
    assert await tx.hold_model("demo", "shops") == 0
    first = Version(**asdict(CANDIDATE), version=1, registered_at=tx.now)
    second = replace(first, version=2, version_id="b" * 64)

    tx.add_version("demo", first)
    tx.add_version("demo", second)

    assert await tx.hold_model("demo", "shops") == 2
    assert await tx.version("demo", "shops", 1) == first
    assert await tx.versions_with_id("demo", "shops", "b" * 64) == [second]
    assert await tx.versions_with_id("demo", "cafés", "b" * 64) == []
    assert await tx.versions("demo", "shops", 1) == [second]


async def test_files_of_versions_are_referred_to_and_no_others(tx: Store) -> None:
    await tx.hold_model("demo", "shops")
    files = {"model.onnx": "c" * 64, "manifest.json": "d" * 64}
    tx.add_version("demo", Version(**asdict(replace(CANDIDATE, files=files)), version=1, registered_at=tx.now))

    assert await tx.referred(["c" * 64, "d" * 64, "e" * 64]) == {"c" * 64, "d" * 64}


async def test_evaluations_are_read_as_written_and_known_by_their_id(tx: Store) -> None:
    kept = evaluation(tx)

    tx.save_evaluation("demo", kept)
    tx.save_evaluation("demo", kept)

    assert await tx.evaluations("demo", "shops", [1, 2]) == [kept]
    assert await tx.evaluations("demo", "shops", [2]) == []
    assert await tx.has_evaluation("demo", kept.evaluation_id)
    assert not await tx.has_evaluation("other", kept.evaluation_id)


async def test_the_newest_evaluation_comes_first(tx: Store) -> None:
    early, late = (
        evaluation(tx, evaluation_id=str(n) * 64, evaluated_at=tx.now.replace(year=2020 + n)) for n in (1, 2)
    )

    tx.save_evaluation("demo", late)
    tx.save_evaluation("demo", early)

    assert await tx.evaluations("demo", "shops", [1]) == [late, early]


async def test_an_alias_points_where_it_was_moved_last(tx: Store) -> None:
    for previous, version in ((0, 1), (1, 2)):
        command = SetAlias(namespace="demo", model="shops", alias="champion", version=version)
        tx.move_alias(command, previous, "1" * 64, "ada")

    assert await tx.aliased("demo", "shops", "champion") == 2
    assert await tx.aliased("demo", "shops", "challenger") == 0
    assert await tx.aliases("demo", "shops") == {"champion": 2}
    assert await tx.alias_moves("demo", "shops", "champion") == [(0, 1), (1, 2)]


async def test_a_held_model_is_numbered_by_one_at_a_time(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "training")) as database:
        begin = Transactions(database, Store)

        async def register(place: int) -> int:
            async with begin() as tx:
                number = await tx.hold_model("demo", "shops") + 1
                contents = replace(CANDIDATE, version_id=str(place) * 64)
                tx.add_version("demo", Version(**asdict(contents), version=number, registered_at=tx.now))
            return number

        numbers = await asyncio.gather(*(register(place) for place in range(6)))

    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
