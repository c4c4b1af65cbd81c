"""The whole service, on a real broker, database and sockets."""

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer
from millrace.contracts.data import VersionPublished
from millrace.contracts.openlineage import LineageReported
from millrace.contracts.rpc.data.v1 import data_pb2 as pb
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound
from millrace.runtime.testing import publish, until
from millrace.runtime.testing.process import Deployment, deployed
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.postgres import Postgres

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.0.0
status: active
schema:
  - name: sales
    properties:
      - {name: shop, logicalType: string, required: true}
      - {name: amount, logicalType: number, logicalTypeOptions: {minimum: 0}}
"""
CONTENT = b"shop,amount\nnorth,1\nsouth,-2\n,3\nnorth,4,5\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
GRANTS = {"dev": {"demo": "MANAGE"}, "reader": {"demo": "READ"}, "stranger": {"other": "MANAGE"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
async def deployment(postgres: Postgres, broker: Kafka, folder: Path) -> AsyncIterator[Deployment]:
    landing = folder / "landing"
    landing.mkdir()
    (landing / "sales.csv").write_bytes(CONTENT)
    extra = {"data": {"ALLOWED_ROOTS": json.dumps([str(landing)])}}
    async with deployed(("data",), postgres, broker.servers, folder, extra, GRANTS) as made:
        await stub(made).ApplyContract(contract(CONTRACT))
        yield made


def stub(deployment: Deployment, principal: str = "dev") -> Any:
    return DataServiceStub(deployment.channel("data", principal))


def contract(text: str, request_id: str = "") -> pb.ApplyContractRequest:
    return pb.ApplyContractRequest(namespace="demo", request_id=request_id or uuid4().hex, odcs_yaml=text)


def ingest(folder: Path, partition: str, **changes: str) -> TaskDispatched:
    uri = (folder / "landing" / "sales.csv").as_uri()
    return TaskDispatched(
        namespace="demo", queue="data", task_id=uuid4(), attempt=1, token=uuid4(), kind="data.ingest",
        input={"dataset": "sales", "partition": partition, "uri": uri} | changes, run_id=uuid4(), workflow="w",
        name="ingest", principal="dev", deadline=datetime.now(UTC) + timedelta(minutes=5),
    )  # fmt: skip


async def told(servers: str, topic: str, enough: int, about: str) -> list[dict[str, Any]]:
    """Return what a topic says of something, once it says it `enough` times, and 1 s more to say it too often."""
    found: list[dict[str, Any]] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:

        async def read() -> bool:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found.extend(json.loads(r.value) for r in records if r.value and about.encode() in r.value)
            return (
                sum(event.get("output") is not None or "error" in event or topic != "data.tasks" for event in found)
                >= enough
            )

        await until(read)
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            found.extend(json.loads(r.value) for r in records if r.value and about.encode() in r.value)
    finally:
        await consumer.stop()
    return [event for event in found if topic != "data.tasks" or "output" in event or "error" in event]


async def test_a_task_published_twice_makes_one_version_and_one_result(
    deployment: Deployment, broker: Kafka, folder: Path
) -> None:
    order = ingest(folder, "2013-01", sha256=DIGEST, landed_at="2013-02-01T00:00:00Z")

    await publish(broker.servers, [order], times=2)

    [result] = await told(broker.servers, "data.tasks", 1, str(order.task_id))
    output = result["output"]
    assert output == {
        "version_id": output["version_id"],
        "dataset": "sales",
        "partition": "2013-01",
        "good_rows": 1,
        "quarantined_rows": 3,
        "rows_by_reason": {"amount is below 0": 1, "cannot be read: too many columns": 1, "shop is missing": 1},
        "source_sha256": DIGEST,
    }
    [event] = await told(broker.servers, VersionPublished.topic, 1, output["version_id"])
    assert VersionPublished.model_validate(event).landed_at == datetime(2013, 2, 1, tzinfo=UTC)
    [lineage] = await told(broker.servers, LineageReported.topic.format(service="data"), 1, str(order.task_id))
    assert [thing["name"] for thing in lineage["event"]["inputs"]] == [f"file:sha256:{DIGEST}"]
    assert [thing["name"] for thing in lineage["event"]["outputs"]] == [f"data.version:{output['version_id']}"]


async def test_a_version_can_be_read_with_its_checks_its_files_and_its_quarantine(
    deployment: Deployment, broker: Kafka, folder: Path
) -> None:
    order = ingest(folder, "2013-03")
    await publish(broker.servers, [order])
    [result] = await told(broker.servers, "data.tasks", 1, str(order.task_id))
    asked = {"namespace": "demo", "version_id": result["output"]["version_id"]}

    answer = await stub(deployment, "reader").GetVersion(pb.GetVersionRequest(**asked))
    plan = await stub(deployment).ReadPlan(
        pb.ReadPlanRequest(namespace="demo", dataset="sales", version_ids=[asked["version_id"]])
    )
    listed = await stub(deployment).ListVersions(pb.ListVersionsRequest(namespace="demo", dataset="sales", limit=1))
    aside = await stub(deployment).ListQuarantined(pb.ListQuarantinedRequest(**asked))

    assert list(plan.versions) == [answer.version]
    assert list(listed.versions) == [answer.version]
    assert {check.reason: check.failed_rows for check in answer.checks} == {
        "shop is missing": 1,
        "amount is not a finite number": 0,
        "amount is below 0": 1,
        "cannot be read: too many columns": 1,
    }
    good = Artifacts((folder / "artifacts").as_uri()).path_of(answer.version.good_sha256)
    assert pq.read_table(good).to_pylist() == [{"shop": "north", "amount": 1.0}]
    assert [(json.loads(row.row_json), list(row.reasons)) for row in aside.rows] == [
        ({"shop": "south", "amount": "-2"}, ["amount is below 0"]),
        ({"shop": None, "amount": "3"}, ["shop is missing"]),
        ({"_line": "north,4,5"}, ["cannot be read: too many columns"]),
    ]
    assert dict(aside.rows_by_reason) == result["output"]["rows_by_reason"]


async def test_the_same_bytes_by_another_task_are_the_same_version(
    deployment: Deployment, broker: Kafka, folder: Path
) -> None:
    orders = [ingest(folder, "2013-04"), ingest(folder, "2013-04")]

    await publish(broker.servers, orders)

    outputs = [(await told(broker.servers, "data.tasks", 1, str(order.task_id)))[0]["output"] for order in orders]
    assert outputs[0] == outputs[1]
    assert len(await told(broker.servers, VersionPublished.topic, 1, outputs[0]["version_id"])) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"uri": "file:///etc/passwd", "format": "csv"},
            "InvalidInput",
            "file:///etc/passwd: it is in none of the folders",
        ),
        (
            {"uri": "http://169.254.169.254/x.csv?token=1"},
            "InvalidInput",
            "http://169.254.169.254/x.csv: 169.254.169.254:80 is not",
        ),
        ({"uri": "s3://bucket/x.csv"}, "InvalidInput", "s3://bucket/x.csv: it is read from files and from http"),
        ({"sha256": "0" * 64}, "InvalidInput", f"has the SHA-256 {DIGEST}, not {'0' * 64}"),
        ({"contract": "absent"}, "NotFound", "contract absent in namespace demo does not exist"),
        ({"dataset": "No Name"}, "InvalidInput", "dataset"),
        ({"format": "parquet"}, "InvalidInput", "sales.csv: "),
    ],
)
async def test_an_ingest_that_cannot_succeed_says_why(
    deployment: Deployment, broker: Kafka, folder: Path, changes: dict[str, str], error: str, message: str
) -> None:
    order = ingest(folder, "2013-05", **changes)

    await publish(broker.servers, [order])

    [result] = await told(broker.servers, "data.tasks", 1, str(order.task_id))
    assert (result["error"], result["retryable"]) == (error, error != "InvalidInput")
    assert message in result["message"]


async def test_a_contract_is_applied_once_for_a_request_id_and_refused_where_it_is_none(deployment: Deployment) -> None:
    once = contract(CONTRACT.replace("sales", "shops"), "one")

    first, again = [await stub(deployment).ApplyContract(once) for _ in range(2)]
    other = await stub(deployment).ApplyContract(contract(once.odcs_yaml))

    assert first == again
    assert (first.contract, first.unchanged, other.unchanged) == ("shops", False, True)
    with pytest.raises(Conflict):
        await stub(deployment).ApplyContract(contract(CONTRACT, "one"))
    with pytest.raises(InvalidInput, match="no YAML"):
        await stub(deployment).ApplyContract(contract("a: [1"))
    with pytest.raises(Denied):
        await stub(deployment, "reader").ApplyContract(contract(CONTRACT))


async def test_what_does_not_exist_and_what_is_not_allowed_have_their_errors(deployment: Deployment) -> None:
    with pytest.raises(NotFound, match=f"dataset version {'0' * 64}"):
        await stub(deployment).GetVersion(pb.GetVersionRequest(namespace="demo", version_id="0" * 64))
    with pytest.raises(InvalidInput, match="version_id"):
        await stub(deployment).GetVersion(pb.GetVersionRequest(namespace="demo", version_id="x"))
    with pytest.raises(Denied):
        await stub(deployment, "stranger").ListVersions(pb.ListVersionsRequest(namespace="demo"))


async def test_it_stops_when_asked_to(deployment: Deployment) -> None:
    assert deployment.services["data"].terminate() == 0
