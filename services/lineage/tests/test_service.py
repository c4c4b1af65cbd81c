import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer
from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.event import Event
from millrace.contracts.inference import DeploymentReady, prediction_id
from millrace.contracts.openlineage import LineageReported, run_event
from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as pb
from millrace.contracts.rpc.lineage.v1.lineage_pb2_grpc import LineageServiceStub
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.errors import Denied, InvalidInput, NotFound, Unavailable
from millrace.runtime.ids import new_id
from millrace.runtime.testing import publish, until
from millrace.runtime.testing.process import Deployment, deployed
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.postgres import Postgres

AT = datetime(2013, 2, 1, tzinfo=UTC)
GRANTS = {"dev": {"demo": "MANAGE"}, "stranger": {"other": "READ"}}


@pytest.fixture(scope="module")
async def deployment(
    postgres: Postgres, broker: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp("lineage")
    async with deployed(("lineage",), postgres, broker.servers, folder, grants=GRANTS) as made:
        yield made


def stub(deployment: Deployment, principal: str = "dev") -> Any:
    return LineageServiceStub(deployment.channel("lineage", principal))


def reported(kind: str, used: str, made: str) -> LineageReported:
    task = TaskDispatched(
        namespace="demo", queue="q", task_id=uuid4(), attempt=1, token=UUID(int=0), kind=kind, input={}, run_id=uuid4(),
        workflow="flights", name=kind.partition(".")[2], principal="ann", deadline=AT,
    )  # fmt: skip
    event = run_event(
        namespace="demo", service="data", task=task, time=AT, state="COMPLETE", used=[used], made={made: {}}
    )
    return LineageReported(namespace="demo", service=kind.partition(".")[0], run_id=task.task_id, event=event)


async def test_events_published_twice_and_out_of_order_explain_a_prediction(
    deployment: Deployment, broker: Kafka
) -> None:
    mark, deployment_id = uuid4().hex, uuid4()
    node = f"inference.deployment:{deployment_id}"
    story: list[Event] = [
        DeploymentReady(namespace="demo", deployment_id=deployment_id, model="late", version=1, version_id=f"m{mark}"),
        reported("inference.deploy", f"training.model:m{mark}", node),
        reported("training.tune", f"feature.training_set:s{mark}", f"training.model:m{mark}"),
        reported("feature.training_set", f"data.version:v{mark}", f"feature.training_set:s{mark}"),
        reported("data.ingest", f"file:sha256:{mark}", f"data.version:v{mark}"),
    ]
    asked = pb.ExplainRequest(namespace="demo", prediction_id=prediction_id(deployment_id, new_id()))

    await publish(broker.servers, story, times=2)

    async def complete() -> Any:
        explained = await stub(deployment).Explain(asked)
        return explained if explained.complete else None

    explained = await until(complete)
    assert [(hop.depth, hop.node.kind, hop.made_by) for hop in explained.hops] == [
        (0, "inference.deployment", "deploy"),
        (1, "training.model", "tune"),
        (2, "feature.training_set", "training_set"),
        (3, "data.version", "ingest"),
        (4, "file", ""),
    ]
    assert explained.hops[0].node.name == "late 1"
    assert explained.hops[-1].node.id == f"file:sha256:{mark}"


async def test_an_outside_emitters_events_are_taken_as_they_are_on_the_wire(
    deployment: Deployment, broker: Kafka
) -> None:
    job, run = uuid4().hex, str(uuid4())
    about: dict[str, Any] = {
        "producer": "https://p",
        "schemaURL": "https://s",
        "job": {"namespace": "spark", "name": job},
    }
    start = about | {"eventType": "START", "eventTime": "2013-02-01T00:00:00Z", "run": {"runId": run}}
    end = about | {"eventType": "COMPLETE", "eventTime": "2013-02-01T00:00:09.5+00:00", "run": {"runId": run}}
    end |= {"outputs": [{"namespace": "s3://bucket", "name": "table"}]}
    asked = pb.GetGraphRequest(namespace="demo", node=f"run:{run}", direction=pb.DIRECTION_DOWNSTREAM)

    async with AIOKafkaProducer(bootstrap_servers=broker.servers) as producer:
        for event in (end, start, end, b"not JSON"):
            value = event if isinstance(event, bytes) else json.dumps(event).encode()
            await producer.send_and_wait("openlineage.events", value, key=f"run:{job}".encode())

    async def ended() -> Any:
        try:
            graph = await stub(deployment).GetGraph(asked)
        except NotFound:
            return None
        return graph if json.loads(graph.nodes[0].facts_json)["run"].get("started_at") else None

    graph = await until(ended)
    assert [node.id for node in graph.nodes] == [f"run:{run}", "dataset:s3://bucket:table"]
    assert json.loads(graph.nodes[0].facts_json)["run"] == {
        "state": "COMPLETE",
        "started_at": "2013-02-01T00:00:00+00:00",
        "ended_at": "2013-02-01T00:00:09.500000+00:00",
    }


async def test_each_failure_has_its_error(deployment: Deployment) -> None:
    with pytest.raises(NotFound, match=r"data.version:none is not known in namespace demo"):
        await stub(deployment).GetGraph(pb.GetGraphRequest(namespace="demo", node="data.version:none"))
    with pytest.raises(InvalidInput, match="max_nodes"):
        await stub(deployment).GetGraph(pb.GetGraphRequest(namespace="demo", node="run:1", max_nodes=-1))
    with pytest.raises(InvalidInput, match="as_of: an instant"):
        await stub(deployment).GetGraph(
            pb.GetGraphRequest(namespace="demo", node="run:1", as_of=Timestamp(seconds=-(10**15)))
        )
    with pytest.raises(InvalidInput, match="no prediction's id"):
        await stub(deployment).Explain(pb.ExplainRequest(namespace="demo", prediction_id="p1"))
    with pytest.raises(Denied):
        await stub(deployment, "stranger").GetGraph(pb.GetGraphRequest(namespace="demo", node="run:1"))


async def test_what_is_told_while_it_is_dead_is_assembled_after_and_it_stops_when_asked_to(
    deployment: Deployment, broker: Kafka
) -> None:
    mark = uuid4().hex
    process = deployment.services["lineage"]
    asked = pb.GetGraphRequest(namespace="demo", node=f"data.version:{mark}", direction=pb.DIRECTION_UPSTREAM)

    process.kill()
    await publish(broker.servers, [reported("data.ingest", f"file:sha256:{mark}", f"data.version:{mark}")])
    await process.start()

    async def known() -> Any:
        try:
            return await stub(deployment).GetGraph(asked)
        except (NotFound, Unavailable):
            return None

    graph = await until(known)
    assert f"file:sha256:{mark}" in {node.id for node in graph.nodes}
    assert process.terminate() == 0
