import json
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.inference import (
    CanaryJudged,
    DeploymentReady,
    Prediction,
    PredictionsLogged,
    TrafficShifted,
    prediction_id,
)
from millrace.inference.commands import Judge, ReadCanary, ReadRoute, Shift
from millrace.inference.domain.canary import Evidence, Verdict
from millrace.inference.domain.routing import Deployment, Route, State
from millrace.inference.handlers import (
    Answers,
    Judged,
    Observation,
    announce_deployment,
    begin_judgement,
    canary_so_far,
    current_route,
    keep_answers,
    keep_labels,
    keep_verdict,
    shift_traffic,
    trial_so_far,
    trip_canary,
)
from millrace.inference.store import Store
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.subscriptions import Record

SURE = Evidence(200, 0.001, 0.004)


async def deploy(tx: Store, version: int) -> Deployment:
    """A deployment as its task leaves it."""
    files = {"model.onnx": "a" * 64, "manifest.json": "b" * 64}
    fresh = Deployment("demo", tx.new_id(), "late", version, f"id-{version}", files, State.LOADING, "", tx.now)
    found = await tx.start_deployment("demo", tx.new_id(), fresh)
    await announce_deployment(found, tx)
    return await tx.deployment("demo", found)


async def shift(tx: Store, deployment: Deployment, weight: int) -> dict[str, Any]:
    return await shift_traffic(Shift(deployment_id=deployment.deployment_id, weight=weight, reason="stage"), tx)


async def on_trial(tx: Store, weight: int = 25) -> tuple[Deployment, Deployment]:
    """A deployment in use and one on trial."""
    in_use, canary = await deploy(tx, 1), await deploy(tx, 2)
    await shift(tx, in_use, 100)
    await shift(tx, canary, weight)
    return in_use, canary


async def route(tx: Store) -> Route:
    return await tx.route("demo", "late")


def asked_of(canary: Deployment, min_samples: int) -> Judge:
    return Judge(deployment_id=canary.deployment_id, min_samples=min_samples, timeout_s=60)


def label_record(key: str, label: float, **headers: str) -> Record:
    known = {"ce_namespace": "demo", "content-type": "application/json"} | headers
    data = {"model": "late", "request_key": key, "label": label}
    value = {"namespace": "demo", "data": data} if "cloudevents" in known["content-type"] else data
    encoded = tuple((name, text.encode()) for name, text in known.items())
    return Record("flights.labels", 0, 0, None, json.dumps(value).encode(), encoded, 0)


async def test_a_verified_deployment_is_ready_and_told_with_its_lineage(tx: Store) -> None:
    files = {"model.onnx": "a" * 64, "manifest.json": "b" * 64}
    fresh = Deployment("demo", tx.new_id(), "late", 3, "id-3", files, State.LOADING, "", tx.now)
    deployment_id = await tx.start_deployment("demo", tx.task.task_id, fresh)

    output = await announce_deployment(deployment_id, tx)

    assert output == {"deployment_id": str(deployment_id), "model": "late", "version": 3, "first": True}
    assert (await tx.deployment("demo", deployment_id)).state is State.READY
    assert [type(event) for event in tx.emitted] == [DeploymentReady]
    assert tx.used_refs == ["training.model:id-3"]
    assert tx.made_refs == {f"inference.deployment:{deployment_id}": {"model": "late", "version": 3}}


async def test_shares_are_told_for_each_deployment_that_gains_or_loses(tx: Store) -> None:
    in_use, canary = await on_trial(tx, 5)

    told = [(e.deployment_id, e.weight, e.generation) for e in tx.emitted if isinstance(e, TrafficShifted)]

    assert told == [
        (in_use.deployment_id, 100, 1),
        (in_use.deployment_id, 95, 2),
        (canary.deployment_id, 5, 2),
    ]
    assert (await route(tx)) == Route(in_use.deployment_id, canary.deployment_id, 5, generation=2)


async def test_the_same_shift_twice_changes_things_once(tx: Store) -> None:
    _, canary = await on_trial(tx, 5)
    told = len(tx.emitted)

    output = await shift(tx, canary, 5)

    assert output == {"deployment_id": str(canary.deployment_id), "weight": 5, "generation": 2}
    assert len(tx.emitted) == told


async def test_a_deployment_that_was_not_verified_gets_no_traffic(tx: Store) -> None:
    fresh = Deployment("demo", tx.new_id(), "late", 1, "id", {}, State.LOADING, "", tx.now)
    deployment_id = await tx.start_deployment("demo", tx.task.task_id, fresh)

    with pytest.raises(InvalidInput, match="is loading, not ready"):
        await shift_traffic(Shift(deployment_id=deployment_id, weight=100), tx)
    with pytest.raises(NotFound):
        await shift_traffic(Shift(deployment_id=UUID(int=5), weight=100), tx)


async def test_a_rolled_back_canary_is_retired(tx: Store) -> None:
    in_use, canary = await on_trial(tx)

    await shift(tx, canary, 0)

    assert (await route(tx)).arms()[0].weight == 100
    assert (await tx.deployment("demo", canary.deployment_id)).state is State.RETIRED
    assert (await tx.deployment("demo", in_use.deployment_id)).state is State.READY


async def test_a_pass_with_all_of_the_traffic_retires_the_one_that_was_in_use(tx: Store) -> None:
    in_use, canary = await on_trial(tx, 100)

    output = await keep_verdict(Judged(canary.deployment_id, Verdict.PASS, SURE), tx)

    assert (output["verdict"], output["answers"], output["weight"]) == ("pass", 200, 100)
    assert (await route(tx)).in_use == canary.deployment_id
    assert (await route(tx)).canary is None
    assert (await tx.deployment("demo", in_use.deployment_id)).state is State.RETIRED
    assert isinstance(tx.emitted[-1], CanaryJudged)


@pytest.mark.parametrize(("verdict", "weight"), [(Verdict.PASS, 50), (Verdict.FAIL, 100), (Verdict.UNKNOWN, 100)])
async def test_any_other_verdict_leaves_the_route_to_control(tx: Store, verdict: Verdict, weight: int) -> None:
    _, canary = await on_trial(tx, weight)
    before = await route(tx)

    await keep_verdict(Judged(canary.deployment_id, verdict, SURE), tx)

    assert await route(tx) == before


async def test_a_canary_tripped_since_its_judge_looked_has_failed_and_does_not_take_over(tx: Store) -> None:
    in_use, canary = await on_trial(tx, 100)
    await trip_canary(canary, "5 of its last 5 answers failed", tx)

    output = await keep_verdict(Judged(canary.deployment_id, Verdict.PASS, SURE), tx)

    assert (output["verdict"], output["reason"]) == ("fail", "5 of its last 5 answers failed")
    assert (await route(tx)).in_use == in_use.deployment_id


async def test_a_canary_rolled_back_since_its_judge_looked_has_not_passed(tx: Store) -> None:
    _, canary = await on_trial(tx, 25)
    await shift(tx, canary, 0)

    output = await keep_verdict(Judged(canary.deployment_id, Verdict.PASS, SURE), tx)

    assert (output["verdict"], output["reason"]) == ("unknown", "it has left the route")


@pytest.mark.parametrize(
    "record",
    [
        label_record("k", 2),
        label_record("", 1),
        label_record("k", 1, ce_namespace=""),
        label_record("k", 1, ce_namespace="Not A Label"),
        Record("flights.labels", 0, 0, None, None, (), 0),
        Record("flights.labels", 0, 0, None, b"\xff", (), 0),
        Record("flights.labels", 0, 0, None, b"[1]", (("ce_namespace", None),), 0),
    ],
)
async def test_what_is_no_label_is_refused(tx: Store, record: Record) -> None:
    with pytest.raises(InvalidInput):
        await keep_labels([record], tx)


async def test_a_label_comes_in_structured_mode_too(tx: Store) -> None:
    _, canary = await on_trial(tx)
    await keep_answers(Answers(observations=[Observation("demo", canary.deployment_id, "k", 0.5, 0.5)]), tx)

    await keep_labels(
        [label_record("k", 1, **{"content-type": "application/cloudevents+json", "ce_namespace": ""})], tx
    )

    assert (await tx.evidence(canary)).answers == 1


async def test_a_judge_waits_for_answers_beyond_those_of_the_verdict_before(tx: Store) -> None:
    _, canary = await on_trial(tx)
    first = await begin_judgement("demo", asked_of(canary, 20), tx)
    await keep_verdict(Judged(canary.deployment_id, Verdict.PASS, Evidence(23, 0.0, 0.01)), tx)

    second = await begin_judgement("demo", asked_of(canary, 50), tx)
    seen = await canary_so_far(ReadCanary(namespace="demo", deployment_id=canary.deployment_id), tx)

    assert (first.wanted, second.wanted, seen.wanted) == (20, 73, 73)
    assert [past.verdict for past in seen.verdicts] == [Verdict.PASS]


async def test_a_tripped_canary_has_failed_and_its_traffic_is_gone(tx: Store) -> None:
    in_use, canary = await on_trial(tx)

    await trip_canary(canary, "5 of its last 5 answers failed", tx)
    await trip_canary(canary, "again", tx)
    trial = await trial_so_far("demo", canary.deployment_id, tx)
    seen, _, shifts = await current_route(ReadRoute(namespace="demo", model="late"), tx)

    assert trial.over == Judged(canary.deployment_id, Verdict.FAIL, trial.evidence, "5 of its last 5 answers failed")
    assert {arm.deployment_id: arm.weight for arm in seen.arms()} == {
        in_use.deployment_id: 100,
        canary.deployment_id: 0,
    }
    assert [past.reason for past in shifts[:2]] == ["tripped: 5 of its last 5 answers failed"] * 2
    with pytest.raises(Conflict, match="is tripped"):
        await shift(tx, canary, 50)


async def test_a_canary_whose_place_another_took_is_unknown_and_one_in_use_cannot_be_judged(tx: Store) -> None:
    in_use, canary = await on_trial(tx)
    await shift(tx, await deploy(tx, 3), 1)

    gone = (await trial_so_far("demo", canary.deployment_id, tx)).over

    assert gone
    assert gone.verdict is Verdict.UNKNOWN
    with pytest.raises(InvalidInput, match="nothing to compare"):
        await trial_so_far("demo", in_use.deployment_id, tx)


async def test_predictions_are_told_in_events_of_bearable_size_and_arms_are_counted(tx: Store) -> None:
    in_use, canary = await on_trial(tx)
    long = {"note": "x" * 5000}
    predictions = [
        (
            one,
            Prediction(
                prediction_id=prediction_id(one.deployment_id, tx.new_id()),
                request_key=str(number),
                time=tx.now,
                score=0.5,
                features={"a.b": None},
                inputs=long,
            ),
        )
        for number in range(200)
        for one in (in_use, canary)
    ]
    told = len(tx.emitted)
    outcomes = [(("demo", canary.deployment_id), Counter({True: 190, False: 10}))]

    await keep_answers(Answers(predictions, outcomes=outcomes), tx)
    events = [event for event in tx.emitted[told:] if isinstance(event, PredictionsLogged)]

    assert len(events) > 2
    assert max(len(event.model_dump_json()) for event in events) < 500_000
    assert sum(len(event.predictions) for event in events) == 400
    assert all(
        read.prediction_id.startswith("p") and event.key() == str(event.deployment_id)
        for event in events
        for read in event.predictions
    )
    assert await tx.stats("demo", canary.deployment_id) == (200, 10)
