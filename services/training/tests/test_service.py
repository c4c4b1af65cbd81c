import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from millrace.contracts.rpc.training.v1 import training_pb2 as pb
from millrace.contracts.training import MANIFEST_FILE, MODEL_FILE, ModelManifest, tree_hash
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound
from millrace.runtime.testing import until
from millrace.runtime.testing.process import deployed
from millrace.training.commands import Tune
from millrace.training.domain import Trial, content_id, search_space, split
from millrace.training.engine.estimators import ESTIMATORS
from millrace.training.engine.frame import read_frame
from millrace.training.engine.study import Study
from training_process import FEATURES, NARROW, Told, Training, neighbour

HONEST, SHUFFLED = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
async def training(
    postgres: Any, broker: Any, tmp_path_factory: pytest.TempPathFactory, training_sets: dict[str, Path]
) -> AsyncIterator[Training]:
    folder = tmp_path_factory.mktemp("training")
    artifacts = Artifacts((folder / "artifacts").as_uri())
    digests = {name: artifacts.put_file(path) for name, path in training_sets.items()}
    grants = {"ada": {"demo": "MANAGE"}, "bob": {"demo": "READ", "other": "MANAGE"}}
    with neighbour(digests) as target:
        extra = {"training": {"ENDPOINTS": json.dumps({"feature": target})}}
        async with deployed(("training",), postgres, broker.servers, folder, extra, grants) as deployment:
            told = Told()
            following = asyncio.create_task(told.follow(broker.servers))
            yield Training(deployment, broker.servers, told, artifacts)
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


@pytest.fixture(scope="module")
def training_sets(tmp_path_factory: pytest.TempPathFactory, made_up_shops: Callable[..., None]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    made_up_shops(folder / "honest.parquet")
    made_up_shops(folder / "shuffled.parquet", shuffled_from=0)
    honest = folder / "honest.parquet"
    return {HONEST: honest, SHUFFLED: folder / "shuffled.parquet", NARROW: honest}


def asked(model: str, training_set_id: str = HONEST, **more: Any) -> dict[str, Any]:
    return {"model": model, "training_set_id": training_set_id, "trials": 3, **more}


async def test_a_model_is_tuned_judged_and_promoted_once_however_often_it_is_ordered(training: Training) -> None:
    tuned = await training.done("training.tune", asked("shops"), times=3)
    judged = await training.done(
        "training.evaluate", {"model": "shops", "version": 1, "bootstrap_by": ["shop"]}, times=3
    )
    promoted = await training.done("training.promote", {"model": "shops", "version": 1, "alias": "champion"}, times=3)

    assert (tuned["version"], judged["verdict"], judged["champion_version"]) == (1, "passed", 0)
    assert promoted["previous_version"] == 0
    assert judged["measures"]["groups"] == 21
    found = (
        await training.stub().GetModelVersion(
            pb.GetModelVersionRequest(namespace="demo", model="shops", alias="champion")
        )
    ).version
    assert found.version_id == tree_hash(found.files) == tuned["version_id"]
    assert list(found.aliases) == ["champion"]
    assert [evaluation.passed for evaluation in found.evaluations] == [True]
    trials = (await training.stub().ListTrials(pb.ListTrialsRequest(namespace="demo", study_id=found.study_id))).trials
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert min(trial.metrics["brier"] for trial in trials) == pytest.approx(tuned["metrics"]["brier"])
    for kind in ("VersionRegistered", "EvaluationPassed", "AliasMoved"):
        assert len(training.told.of(kind, model="shops")) == 1


async def test_the_manifest_says_all_a_server_needs(training: Training) -> None:
    tuned = await training.done("training.tune", asked("manifests"))

    answer = await training.stub().GetModelVersion(
        pb.GetModelVersionRequest(namespace="demo", model="manifests", version=1)
    )
    files = {name: training.artifacts.get_bytes(digest) for name, digest in answer.version.files.items()}

    assert set(files) == {MODEL_FILE, MANIFEST_FILE}
    manifest = ModelManifest.model_validate_json(files[MANIFEST_FILE])
    assert [(feature.name, feature.source) for feature in manifest.features] == [
        ("shop.load", "online"),
        ("shop.queue", "online"),
        ("clock.stamp", "request"),
    ]
    assert [(view.view, view.entity) for view in manifest.online_views] == [("shop", ("shop",))]
    assert len(manifest.golden.rows) == 64
    assert manifest.training_set_id == HONEST
    assert manifest.params == tuned["params"]


async def test_a_model_whose_labels_were_shuffled_is_refused_and_not_promoted(training: Training) -> None:
    await training.done("training.tune", asked("damaged", SHUFFLED))

    judged = await training.done("training.evaluate", {"model": "damaged", "version": 1, "bootstrap_by": ["shop"]})
    ended, event = await training.do("training.promote", {"model": "damaged", "version": 1})

    assert judged["verdict"] == "failed"
    assert "lower bound of the Brier skill" in judged["reasons"][0]
    assert (ended, event["error"]) == ("TaskFailed", "Conflict")
    assert "was refused by evaluation" in event["message"]
    with pytest.raises(NotFound, match="model damaged has no alias champion"):
        await training.stub().GetModelVersion(
            pb.GetModelVersionRequest(namespace="demo", model="damaged", alias="champion")
        )


async def test_a_model_much_worse_than_the_one_in_use_is_refused(training: Training) -> None:
    await training.done("training.tune", asked("rivals"))
    await training.done("training.evaluate", {"model": "rivals", "version": 1, "bootstrap_by": ["shop"]})
    await training.done("training.promote", {"model": "rivals", "version": 1})
    weak: dict[str, Any] = {"estimator": "sklearn.logistic_regression", "search_space": {"C": {"choices": [0.0005]}}}

    tuned = await training.done("training.tune", asked("rivals", **weak))
    judged = await training.done("training.evaluate", {"model": "rivals", "version": 2, "bootstrap_by": ["shop"]})
    again = await training.done("training.evaluate", {"model": "rivals", "version": 1, "bootstrap_by": ["shop"]})

    assert tuned["version"] == 2
    assert (judged["verdict"], judged["champion_version"]) == ("failed", 1)
    assert len(judged["reasons"]) == 1
    assert "loss against version 1 in use" in judged["reasons"][0]
    assert again["verdict"] == "passed"
    assert again["measures"]["regression"] == 0


async def test_a_version_in_use_that_cannot_be_asked_about_the_new_rows_is_said_so(training: Training) -> None:
    await training.done("training.tune", asked("slim"))
    await training.done("training.evaluate", {"model": "slim", "version": 1, "bootstrap_by": ["shop"]})
    await training.done("training.promote", {"model": "slim", "version": 1})
    await training.done("training.tune", asked("slim", NARROW))
    anew = {"model": "slim", "version": 2, "bootstrap_by": ["shop"]}

    ended, event = await training.do("training.evaluate", anew)
    alone = await training.done("training.evaluate", anew | {"champion": ""})

    assert (ended, event["error"]) == ("TaskFailed", "InvalidInput")
    assert "the version in use takes clock.stamp, which training set" in event["message"]
    assert (alone["verdict"], alone["champion_version"]) == ("passed", 0)


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        ("training.tune", asked("bad", estimator="os.system"), "no estimator is called os.system"),
        (
            "training.tune",
            asked("bad", search_space={"num_leaves": {"low": 2, "high": 9999, "int": True}}),
            "within 2 and 255",
        ),
        ("training.tune", asked("bad", holdout_days=300), "needs labels of both kinds before"),
        ("training.tune", asked("bad", trials=0), "trials"),
        ("training.tune", asked("bad", colour="red"), "colour"),
        ("training.evaluate", {"model": "shops", "version": 1, "holdout_days": 9}, "it cannot be judged from"),
        ("training.evaluate", {"model": "shops", "version": 1, "bootstrap_by": ["colour"]}, "no column colour"),
    ],
)
async def test_what_can_never_succeed_is_said_so_once(
    training: Training, kind: str, given: dict[str, Any], says: str
) -> None:
    ended, event = await training.do(kind, given)

    assert ended == "TaskFailed"
    assert event["error"] == "InvalidInput"
    assert says in event["message"]
    assert not event["retryable"]


async def test_a_training_set_that_is_not_there_yet_may_be_there_later(training: Training) -> None:
    ended, event = await training.do("training.tune", asked("later", "c" * 64))

    assert (ended, event["error"], event["retryable"]) == ("TaskFailed", "NotFound", True)
    assert f"training set {'c' * 64} does not exist" in event["message"]


async def test_lineage_says_what_a_model_was_made_from(training: Training) -> None:
    tuned = await training.done("training.tune", asked("descended"))

    async def reported() -> Any:
        return [
            event["event"]
            for event in training.told.of("LineageReported")
            if f"training.model:{tuned['version_id']}" in str(event["event"]["outputs"])
        ]

    (event,) = await until(reported)
    assert event["eventType"] == "COMPLETE"
    assert [entry["name"] for entry in event["inputs"]] == [f"feature.training_set:{HONEST}"]


async def test_a_tuning_that_is_killed_goes_on_where_it_was_and_comes_to_the_same_trials(
    training: Training, training_sets: dict[str, Path]
) -> None:
    order = asked("killed", estimator="sklearn.random_forest") | {"trials": 8}
    task_id, process = uuid4(), training.deployment.services["training"]
    await training.send("training.tune", order, task_id)

    async def some_trials() -> Any:
        return [event for event in await stored() if event.number >= 1]

    async def stored() -> Any:
        with suppress(NotFound):
            request = pb.ListTrialsRequest(namespace="demo", study_id=study_id)
            return (await training.stub().ListTrials(request)).trials
        return []

    study_id = content_id("study", "demo", Tune(**order).model_dump(mode="json"))
    await until(some_trials)
    process.kill()
    await process.start()
    ended, lost = await training.told.report(task_id)
    before = await stored()
    await training.send("training.tune", order, task_id, attempt=2)
    again, event = await training.told.report(task_id, attempt=2)

    assert (ended, lost["error"]) == ("TaskFailed", "lost")
    assert 0 < len(before) < 8
    assert again == "TaskSucceeded", event
    after = await stored()
    assert list(after[: len(before)]) == list(before)
    assert [json.loads(trial.params_json) for trial in after] == [
        trial.params for trial in _undisturbed(order, training_sets[HONEST])
    ]


async def test_a_call_gets_a_typed_error_or_nothing_at_all(training: Training) -> None:
    stub = training.stub()
    request_id = str(uuid4())

    with pytest.raises(InvalidInput, match="say a version"):
        await stub.GetModelVersion(pb.GetModelVersionRequest(namespace="demo", model="shops"))
    with pytest.raises(NotFound, match="version 99 of model shops does not exist"):
        await stub.SetAlias(
            pb.SetAliasRequest(namespace="demo", request_id=request_id, model="shops", alias="x", version=99)
        )
    with pytest.raises(Denied):
        await training.stub("bob").SetAlias(
            pb.SetAliasRequest(namespace="demo", request_id=request_id, model="shops", alias="x", version=1)
        )
    with pytest.raises(NotFound):
        await training.stub("bob").GetModelVersion(
            pb.GetModelVersionRequest(namespace="other", model="shops", version=1)
        )


async def test_an_alias_set_by_call_needs_a_passed_evaluation_and_is_set_once(training: Training) -> None:
    await training.done("training.tune", asked("called"))
    request = pb.SetAliasRequest(namespace="demo", request_id=str(uuid4()), model="called", alias="stable", version=1)

    with pytest.raises(Conflict, match="has not been evaluated"):
        await training.stub().SetAlias(request)
    await training.done("training.evaluate", {"model": "called", "version": 1, "bootstrap_by": ["shop"]})
    answers = [await training.stub().SetAlias(request) for _ in range(2)]

    assert answers[0] == answers[1]
    await until(lambda: _some(training.told.of("AliasMoved", model="called")))
    assert len(training.told.of("AliasMoved", model="called", alias="stable")) == 1


async def test_sigterm_drains(training: Training) -> None:
    process = training.deployment.services["training"]

    assert process.terminate(30) == 0
    await process.start()

    versions = (
        await training.stub().ListModelVersions(pb.ListModelVersionsRequest(namespace="demo", model="rivals"))
    ).versions
    assert [version.version for version in versions] == [2, 1]


async def _some(found: list[Any]) -> list[Any]:
    return found


def _undisturbed(order: dict[str, Any], path: Path) -> list[Trial]:
    tune, frame = Tune(**order), read_frame(path, FEATURES)
    of, cut = ESTIMATORS[tune.estimator], split(frame.last, 7, 7, "UTC")
    fit, tuning = frame.between(None, cut.tuning_from), frame.between(cut.tuning_from, cut.holdout_from)
    study = Study(of, search_space(tune.estimator, of.parameters, {}), fit, tuning, "brier", 0)
    done: list[Trial] = []
    while len(done) < tune.trials:
        done.append(study.run_trial(done))
    return done
