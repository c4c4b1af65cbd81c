"""The whole service, on a real broker, database and sockets; data's answers come from a neighbour in the test."""

import json
import math
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaConsumer
from millrace.contracts.feature import TrainingSetBuilt, ViewMaterialised
from millrace.contracts.openlineage import LineageReported
from millrace.contracts.rpc.feature.v1 import feature_pb2 as pb
from millrace.contracts.rpc.feature.v1.feature_pb2_grpc import FeatureServiceStub
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.errors import Denied, InvalidInput, NotFound
from millrace.runtime.testing import publish, until
from millrace.runtime.testing.process import Deployment, deployed
from millrace.sdk.stack.kafka import Kafka
from millrace.sdk.stack.postgres import Postgres

from .conftest import SHOPS_YAML, TIME, Published, sites, visits

GRANTS = {"dev": {"demo": "MANAGE"}, "reader": {"demo": "READ"}, "stranger": {"other": "MANAGE"}}
SPINE = {
    "dataset": "visits",
    "keys": ["shop", "floor"],
    "time": "visited_at",
    "label": "waited_min >= 10",
    "where": "waited_min IS NOT NULL",
}


@pytest.fixture(scope="module")
async def deployment(postgres: Postgres, broker: Kafka, folder: Path, shops: Published) -> AsyncIterator[Deployment]:
    extra = {"feature": {"ENDPOINTS": json.dumps({"data": shops.target}), "COMPUTE_TIME_S": "2"}}
    async with deployed(("feature",), postgres, broker.servers, folder, extra, GRANTS) as made:
        await stub(made).ApplyViews(views(SHOPS_YAML))
        yield made


def stub(deployment: Deployment, principal: str = "dev") -> Any:
    return FeatureServiceStub(deployment.channel("feature", principal))


def views(text: str) -> pb.ApplyViewsRequest:
    return pb.ApplyViewsRequest(namespace="demo", request_id=uuid4().hex, views_yaml=text)


def order(kind: str, **step: Any) -> TaskDispatched:
    return TaskDispatched(
        namespace="demo", queue="feature", task_id=uuid4(), attempt=1, token=uuid4(), kind=kind, input=step,
        run_id=uuid4(), workflow="w", name="step", principal="dev", deadline=datetime.now(UTC) + timedelta(minutes=5),
    )  # fmt: skip


async def done(servers: str, wanted: TaskDispatched) -> Mapping[str, Any]:
    """Return what was reported at the end of a task, once; it is published twice."""
    await publish(servers, [wanted], times=2)
    [end] = await told(servers, "feature.tasks", str(wanted.task_id), ends=True)
    return end


async def told(servers: str, topic: str, about: str, *, ends: bool = False) -> list[dict[str, Any]]:
    """Return what a topic says of something, once it says anything, and 0.5 s more to say it too often."""
    found: list[dict[str, Any]] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:

        async def read(timeout_ms: int = 100) -> bool:
            for records in (await consumer.getmany(timeout_ms=timeout_ms)).values():
                said = [json.loads(record.value) for record in records if about.encode() in (record.value or b"")]
                found.extend(event for event in said if not ends or "output" in event or "error" in event)
            return bool(found)

        await until(read)
        await read(500)
    finally:
        await consumer.stop()
    return found


def stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


async def built(deployment: Deployment, servers: str, artifacts: Artifacts, name: str) -> pa.Table:
    step = {"name": name, "spine": SPINE, "views": ["queue", "record", "site"], "up_to_partition": "2026-02"}
    report = await done(servers, order("feature.training_set", **step))
    known = await stub(deployment).GetTrainingSet(
        pb.GetTrainingSetRequest(namespace="demo", training_set_id=report["output"]["training_set_id"])
    )
    assert report["output"]["sha256"] == known.sha256
    return pq.read_table(artifacts.path_of(known.sha256))


async def test_a_training_set_asks_about_every_moment_as_things_were_known(
    deployment: Deployment, broker: Kafka, artifacts: Artifacts
) -> None:
    step = {"name": "waits", "spine": SPINE, "views": ["queue", "record", "site"]}
    report = await done(broker.servers, order("feature.training_set", **step))

    output = report["output"]
    known = await stub(deployment).GetTrainingSet(
        pb.GetTrainingSetRequest(namespace="demo", training_set_id=output["training_set_id"])
    )
    rows = pq.read_table(artifacts.path_of(known.sha256))
    noted = [v for month in (1, 2) for v in visits(month).to_pylist() if v["waited_min"] is not None]
    assert output["rows"] == rows.num_rows == known.spine_rows == len(noted)
    assert rows.column_names == ["shop", "floor", "t", "label", *known.features]
    assert rows.schema.field("t").type == TIME
    assert {str(rows.schema.field(name).type) for name in ("label", *known.features)} == {"double"}
    assert rows.column("t").to_pylist() == sorted(v["visited_at"] for v in noted)
    assert sum(rows.column("label").to_pylist()) == sum(v["waited_min"] >= 10 for v in noted)
    assert list(known.request_features) == ["queue.waited_min"]
    assert [(view.view, *view.entity) for view in known.online_views] == [("record", "shop"), ("site", "shop", "floor")]
    february = datetime(2026, 2, 1, tzinfo=UTC)
    assert {row["t"] >= february for row in rows.to_pylist() if row["record.visits"] is not None} == {True}
    [event] = await told(broker.servers, TrainingSetBuilt.topic, output["training_set_id"])
    assert event["version_ids"] == list(known.version_ids)
    [lineage] = await told(broker.servers, LineageReported.topic.format(service="feature"), report["task_id"])
    assert {name["name"] for name in lineage["event"]["inputs"]} >= {f"data.version:{v}" for v in known.version_ids}


async def test_equal_inputs_give_equal_bytes_under_another_name_too(
    deployment: Deployment, broker: Kafka, artifacts: Artifacts
) -> None:
    first, second = [await built(deployment, broker.servers, artifacts, name) for name in ("one", "two")]

    assert first.equals(second)


async def test_values_computed_for_a_request_are_those_of_the_training_set(
    deployment: Deployment, broker: Kafka, artifacts: Artifacts
) -> None:
    trained = await built(deployment, broker.servers, artifacts, "waits again")
    landed = pa.array([datetime(2026, 2, 1, tzinfo=UTC)] * 400 + [datetime(2026, 3, 1, tzinfo=UTC)] * 400, TIME)
    seen = pa.concat_tables([visits(1), visits(2)]).append_column("_landed_at", landed)

    answer = await stub(deployment, "reader").Compute(
        pb.ComputeRequest(
            namespace="demo",
            views=["queue", "site"],
            spine_arrow=stream(trained.select(["shop", "floor", "t"])),
            sources_arrow={"visits": stream(seen), "sites": stream(sites())},
        )
    )

    computed = pa.ipc.open_stream(answer.features_arrow).read_all()
    assert computed.equals(trained.select(["queue.waited_min", "site.seats"]).combine_chunks())
    assert computed.column(0).null_count < computed.num_rows / 2


async def test_what_was_materialised_can_be_looked_up(deployment: Deployment, broker: Kafka) -> None:
    step = {"views": ["record", "site"], "up_to_partition": "2026-01"}
    report = await done(broker.servers, order("feature.materialise", **step))
    again = await done(broker.servers, order("feature.materialise", **step))
    entities = [{"shop": "nørth", "floor": 1}, {"shop": "west 'n' all", "floor": 7}]

    answer = await stub(deployment, "reader").GetOnline(
        pb.GetOnlineRequest(
            namespace="demo", views=["record", "site"], entities_json=[json.dumps(each) for each in entities]
        )
    )

    assert report["output"] == again["output"] == {"generations": dict(answer.generations), "entities": 3 + 4}
    assert list(answer.features) == ["record.waited_min", "record.visits", "site.seats"]
    january = [*visits(1).to_pylist(), *visits(1, 20).to_pylist()]
    mine = [v["waited_min"] for v in january if v["shop"] == "nørth"]
    noted = [wait for wait in mine if wait is not None]
    assert list(answer.rows[0].values) == [pytest.approx(sum(noted) / len(noted)), len(mine), 20.0]
    assert list(answer.rows[1].values)[1] > 0
    assert math.isnan(answer.rows[1].values[2])
    events = await told(broker.servers, ViewMaterialised.topic, answer.generations["site"])
    assert len(events) == 1


async def test_a_task_that_can_never_succeed_says_why(deployment: Deployment, broker: Kafka) -> None:
    offline = await done(broker.servers, order("feature.materialise", views=["queue"]))
    unknown = await done(broker.servers, order("feature.materialise", views=["nobody"]))
    step = {"name": "n", "views": ["site"], "spine": SPINE | {"label": "(SELECT max(a) FROM read_text('/etc/passwd'))"}}
    hostile = await done(broker.servers, order("feature.training_set", **step))

    assert (offline["error"], offline["retryable"]) == ("InvalidInput", False)
    assert "queue is not declared `online: true`" in offline["message"]
    assert (unknown["error"], unknown["message"]) == ("NotFound", "view nobody in demo does not exist")
    assert (hostile["error"], hostile["retryable"]) == ("InvalidInput", False)
    assert "read_text is not allowed" in hostile["message"]


async def test_a_hostile_view_is_refused_when_it_is_applied(deployment: Deployment) -> None:
    text = "{name: bad, entity: [a], sources: [v], features: [f], sql: \"SELECT * FROM read_csv('/etc/passwd')\"}"

    with pytest.raises(InvalidInput, match="read_csv is not allowed"):
        await stub(deployment).ApplyViews(views(text))
    with pytest.raises(NotFound, match="view bad in demo does not exist"):
        await stub(deployment).GetView(pb.GetViewRequest(namespace="demo", view="bad"))


@pytest.mark.parametrize(
    ("entity", "says"),
    [
        ('{"shop": "a\\u0000"}', "null character"),
        ('{"shop": "\\ud800"}', "entity 0 is no JSON object"),
        ("[" * 5000, "entity 0 is no JSON object"),
        ('{"shop": NaN}', "entities"),
    ],
)
async def test_an_entity_that_no_table_can_hold_is_refused(deployment: Deployment, entity: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await stub(deployment).GetOnline(
            pb.GetOnlineRequest(namespace="demo", views=["record"], entities_json=[entity])
        )


async def test_a_call_that_computes_for_too_long_ends_and_the_service_answers_on(deployment: Deployment) -> None:
    endless = "SELECT sum(x.range * y.range) FROM range(100000000) x, range(100000) y"
    sql = f"SELECT shop, visited_at, ({endless}) AS n FROM visits"
    declared = {"name": "slow", "entity": ["shop"], "sources": ["visits"], "sql": sql, "features": ["n"]}
    await stub(deployment).ApplyViews(
        views(json.dumps(declared | dict.fromkeys(("event_time", "known_at"), "visited_at")))
    )
    spine = pa.table({"shop": ["nørth"], "t": pa.array([datetime(2026, 2, 1, tzinfo=UTC)], TIME)})
    asked = pb.ComputeRequest(
        namespace="demo", views=["slow"], spine_arrow=stream(spine), sources_arrow={"visits": stream(visits(1))}
    )

    with pytest.raises(InvalidInput, match="SQL takes longer than 2 s"):
        await stub(deployment).Compute(asked)
    answer = await stub(deployment).ListViews(pb.ListViewsRequest(namespace="demo"))
    assert [view.view for view in answer.views] == ["queue", "record", "site", "slow"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"spine_arrow": b"\x00" * 100}, "spine is no Arrow IPC stream"),
        ({"sources_arrow": {}}, "view site reads sites, of which no rows were given"),
        ({"sources_arrow": {"sites": b""}}, "sites is no Arrow IPC stream"),
        ({"views": []}, "views: "),
    ],
)
async def test_rows_that_cannot_be_read_are_refused(deployment: Deployment, asked: dict[str, Any], says: str) -> None:
    spine = pa.table({"shop": ["x"], "floor": [1], "t": pa.array([datetime(2026, 2, 1, tzinfo=UTC)], TIME)})
    whole = {"views": ["site"], "spine_arrow": stream(spine), "sources_arrow": {"sites": stream(sites())}}

    with pytest.raises(InvalidInput, match=says):
        await stub(deployment).Compute(pb.ComputeRequest(namespace="demo", **whole | asked))


async def test_only_those_with_a_grant_may_ask_or_change(deployment: Deployment) -> None:
    with pytest.raises(Denied):
        await stub(deployment, "stranger").ListViews(pb.ListViewsRequest(namespace="demo"))
    with pytest.raises(Denied):
        await stub(deployment, "reader").ApplyViews(views(SHOPS_YAML))
    with pytest.raises(NotFound):
        await stub(deployment, "reader").GetTrainingSet(
            pb.GetTrainingSetRequest(namespace="demo", training_set_id="none")
        )
