import hashlib
import json
from collections import Counter
from typing import Any

from millrace.contracts import oip
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.contracts.rpc.inference.v1 import inference_pb2
from millrace.contracts.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub
from millrace.contracts.rpc.training.v1 import training_pb2
from millrace.contracts.rpc.training.v1.training_pb2_grpc import TrainingServiceStub

from tests.journeys.conftest import BROKEN, DAMAGED, FEBRUARY, JANUARY, Journey
from tests.journeys.orders import ROWS, SPOILT
from tests.journeys.shop import MODEL, Told, shown


def output(journey: Journey, month: str, task: str) -> dict[str, object]:
    found = next(one for one in journey.runs[month].tasks if one.name == task)
    read: dict[str, object] = json.loads(found.output_json)
    return read


async def test_a_job_that_no_service_knows_runs_from_its_event_to_a_model_in_use(journey: Journey) -> None:
    for month in (JANUARY, FEBRUARY):
        assert journey.runs[month].state == "succeeded", shown(journey.runs[month])
        assert output(journey, month, "ingest")["rows_by_reason"] == SPOILT
        assert output(journey, month, "ingest")["good_rows"] == ROWS - sum(SPOILT.values())
    assert output(journey, JANUARY, "deploy")["first"] is True
    assert output(journey, FEBRUARY, "evaluate")["champion_version"] == 1
    assert output(journey, FEBRUARY, "judge_100")["verdict"] == "pass"
    assert output(journey, FEBRUARY, "promote")["previous_version"] == 1


async def test_its_predictions_tell_orders_that_come_back_from_those_that_stay(journey: Journey) -> None:
    scores = oip.read_doubles(journey.answer, "score")

    assert journey.answer.model_version == "2"
    assert all(0 < score < 1 for score in scores)
    base = sum(order.returned for order in journey.asked) / len(journey.asked)
    brier = sum((score - order.returned) ** 2 for score, order in zip(scores, journey.asked, strict=True)) / len(scores)
    assert brier < 0.8 * base * (1 - base)


async def test_a_prediction_is_explained_down_to_the_bytes_of_its_files(journey: Journey) -> None:
    prediction_id = oip.read_bytes(journey.answer, "prediction_id")[0].decode()

    explained = await journey.shop.explain(prediction_id)

    files = {hop.node.id for hop in explained.hops if hop.node.kind == "file"}
    assert files == {
        f"file:sha256:{hashlib.sha256(journey.landed[month].path.read_bytes()).hexdigest()}"
        for month in (JANUARY, FEBRUARY)
    }
    kinds = {"inference.deployment", "training.model", "feature.training_set", "data.version", "file"}
    assert kinds <= {hop.node.kind for hop in explained.hops}
    runs = {journey.runs[month].run_id for month in (JANUARY, FEBRUARY)}
    assert {hop.made_by_run for hop in explained.hops if hop.made_by_run} == runs
    assert json.loads(explained.prediction_json)["inputs"] == {"customer": journey.asked[0].customer}


async def test_a_month_from_which_nothing_can_be_learned_is_refused(journey: Journey) -> None:
    run = journey.runs[DAMAGED]

    assert run.state == "refused", shown(run)
    assert "lower bound of the Brier skill" in run.cause


async def test_a_file_without_a_column_of_its_contract_fails_its_run_with_the_reason(journey: Journey) -> None:
    run = journey.runs[BROKEN]

    assert run.state == "failed", shown(run)
    assert "pieces" in run.cause
    assert f"orders-{BROKEN}.csv" in run.cause


async def test_events_told_three_times_start_one_run_each_and_nothing_is_doubled(journey: Journey) -> None:
    shop = journey.shop
    told = await shop.told()

    assert [run.event_id for run in await shop.runs()] == list(journey.landed)
    explained = [await shop.explained(month) for month in journey.landed]
    assert [(one.deliveries, len(one.matches)) for one in explained] == [(3, 1)] * len(journey.landed)
    assert {task.attempts for run in journey.runs.values() for task in run.tasks} <= {0, 1}
    assert counts(told) == {
        "RunStarted": 4,
        "RunSucceeded": 2,
        "RunRefused": 1,
        "RunFailed": 1,
        "VersionPublished": 3,
        "ViewMaterialised": 2,
        "TrainingSetBuilt": 3,
        "VersionRegistered": 3,
        "EvaluationPassed": 2,
        "EvaluationFailed": 1,
        "DeploymentReady": 2,
        "CanaryJudged": 5,
        "AliasMoved": 2,
        "ViewApplied": 2,
    }
    assert_gapless(told)


async def test_each_owner_knows_what_there_is_once(journey: Journey) -> None:
    shop = journey.shop
    own: dict[str, Any] = {"namespace": shop.namespace}
    data, training = DataServiceStub(shop.channel("data")), TrainingServiceStub(shop.channel("training"))
    inference = InferenceServiceStub(shop.channel("inference"))

    versions = (await data.ListVersions(data_pb2.ListVersionsRequest(**own, dataset="orders"))).versions
    models = (await training.ListModelVersions(training_pb2.ListModelVersionsRequest(**own, model=MODEL))).versions
    deployments = (await inference.ListDeployments(inference_pb2.ListDeploymentsRequest(**own))).deployments
    route = await inference.GetRoute(inference_pb2.GetRouteRequest(**own, model=MODEL))

    assert [one.partition for one in versions] == [DAMAGED, FEBRUARY, JANUARY]
    assert [(one.version, list(one.aliases)) for one in models] == [(3, []), (2, ["champion"]), (1, [])]
    assert [(one.version, one.state) for one in deployments] == [(2, "ready"), (1, "retired")]
    assert [(arm.version, arm.weight) for arm in route.arms] == [(2, 100)]


def counts(told: list[Told]) -> dict[str, int]:
    """How often each kind of fact was told; shares of traffic, answers, orders and lineage are counted elsewhere."""
    assert len({one.event_id for one in told}) == len(told)
    left = {"TrafficShifted", "PredictionsLogged", "LineageReported"}
    return dict(Counter(one.type for one in told if one.type not in left and not one.type.startswith("Task")))


def assert_gapless(told: list[Told]) -> None:
    streams: dict[tuple[str, str], list[int]] = {}
    for one in told:
        if one.sequence:
            streams.setdefault((one.topic, one.key), []).append(one.sequence)
    assert streams
    for stream, numbers in streams.items():
        assert numbers == list(range(1, len(numbers) + 1)), stream
