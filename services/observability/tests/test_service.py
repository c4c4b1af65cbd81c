from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts import SERVICES
from millrace.contracts.control import RunStarted, RunSucceeded
from millrace.contracts.event import Event
from millrace.contracts.rpc.observability.v1 import observability_pb2 as pb
from millrace.contracts.rpc.observability.v1.observability_pb2_grpc import ObservabilityServiceStub
from millrace.contracts.tasks import TaskDispatched, TaskSucceeded
from millrace.runtime.errors import Denied, InvalidInput, NotFound
from millrace.runtime.testing import publish, until
from millrace.runtime.testing.process import Deployment, deployed
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.postgres import Postgres

GRANTS = {"dev": {"demo": "MANAGE"}, "reader": {"demo": "READ"}}


@pytest.fixture(scope="module")
async def deployment(
    postgres: Postgres, broker: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp("observability")
    price = {"observability": {"PRICE_PER_CPU_HOUR": "3.6", "CURRENCY": "EUR"}}
    async with deployed(("observability",), postgres, broker.servers, folder, price, GRANTS) as made:
        yield made


def stub(deployment: Deployment, principal: str = "dev") -> Any:
    return ObservabilityServiceStub(deployment.channel("observability", principal))


async def test_a_runs_events_published_twice_give_its_durations_and_its_cost_once(
    deployment: Deployment, broker: Kafka
) -> None:
    run = uuid4()
    workflow: dict[str, Any] = {"namespace": "demo", "run_id": run, "workflow": "flights", "workflow_hash": "h"}
    step: dict[str, Any] = {
        "namespace": "demo", "task_id": uuid4(), "attempt": 1, "token": UUID(int=3), "run_id": run,
        "workflow": "flights", "name": "tune", "kind": "training.tune",
    }  # fmt: skip
    deadline = datetime(2030, 1, 1, tzinfo=UTC)
    story: list[Event] = [
        TaskSucceeded(**step, service="training", output={}, duration_s=2, cpu_s=5),
        RunSucceeded(**workflow, duration_s=9),
        TaskDispatched(**step, queue="training", input={}, principal="ann", deadline=deadline),
        RunStarted(**workflow, principal="ann"),
    ]
    asked = pb.GetRunCostRequest(namespace="demo", run_id=str(run))

    await publish(broker.servers, story, times=2)

    async def ended() -> Any:
        try:
            cost = await stub(deployment).GetRunCost(asked)
        except NotFound:
            return None
        return cost if cost.state == "succeeded" and cost.steps else None

    cost = await until(ended)
    assert (cost.duration_s, cost.cpu_s, cost.cost, cost.currency) == (9, 5, 0.005, "EUR")
    assert [(step.task, step.attempts, step.duration_s) for step in cost.steps] == [("tune", 1, 2)]

    async def series(metric: str, **labels: str) -> Any:
        request = pb.GetSeriesRequest(namespace="demo", metric=metric, labels=labels)
        return (await stub(deployment).GetSeries(request)).series

    durations = await series("run_duration_s", run_id=str(run))
    assert [(dict(one.labels), [p.value for p in one.points]) for one in durations] == [
        ({"workflow": "flights", "state": "succeeded"}, [9])
    ]
    assert [one.labels["topic"] for one in await series("lag_s", topic="control.runs", statistic="max")] == [
        "control.runs"
    ]


async def test_mutating_calls_of_all_services_are_asked_for_and_the_silent_ones_named(deployment: Deployment) -> None:
    audit = await stub(deployment).ListAudit(pb.ListAuditRequest(namespace="demo"))

    assert list(audit.entries) == []
    assert set(audit.unreachable) == set(SERVICES) - {"observability"}


async def test_each_failure_has_its_error(deployment: Deployment) -> None:
    with pytest.raises(NotFound, match="is not known in namespace demo"):
        await stub(deployment).GetRunCost(pb.GetRunCostRequest(namespace="demo", run_id=str(uuid4())))
    with pytest.raises(InvalidInput, match="metric"):
        await stub(deployment).GetSeries(pb.GetSeriesRequest(namespace="demo", metric="beauty"))
    with pytest.raises(InvalidInput, match="null character"):
        await stub(deployment).GetSeries(
            pb.GetSeriesRequest(namespace="demo", metric="runs", labels={"workflow": "a\0b"})
        )
    with pytest.raises(InvalidInput, match="to: an instant from year 1 to 9999"):
        await stub(deployment).GetSeries(
            pb.GetSeriesRequest(namespace="demo", metric="runs", to=Timestamp(seconds=10**15))
        )
    with pytest.raises(InvalidInput, match="run_id"):
        await stub(deployment).GetRunCost(pb.GetRunCostRequest(namespace="demo", run_id="1"))
    with pytest.raises(Denied):
        await stub(deployment, "reader").ListAudit(pb.ListAuditRequest(namespace="demo"))
