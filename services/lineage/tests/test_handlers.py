import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.event import Event
from millrace.contracts.inference import DeploymentReady, Prediction, PredictionsLogged, prediction_id
from millrace.contracts.openlineage import LineageReported, run_event
from millrace.contracts.tasks import TaskDispatched
from millrace.lineage.commands import Explain, GetGraph
from millrace.lineage.handlers import (
    LISTENED,
    SUBSCRIPTIONS,
    OutsideLineage,
    assemble,
    explain,
    view_graph,
)
from millrace.lineage.store import Store
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.runtime.subscriptions import Record
from millrace.runtime.testing import store
from millrace.sdk.stack.postgres import Postgres

DAY1 = datetime(2013, 2, 1, tzinfo=UTC)
DEPLOYMENT = UUID(int=9)
DEPLOYMENT_NODE = f"inference.deployment:{DEPLOYMENT}"
PREDICTED_AT = datetime(2013, 2, 3, 4, 5, tzinfo=UTC)


def uuid7(at: datetime) -> UUID:
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))


PREDICTION = prediction_id(DEPLOYMENT, uuid7(PREDICTED_AT))
LOGGED = Prediction(prediction_id=PREDICTION, request_key="k", time=PREDICTED_AT, score=0.25, features={"a.b": None})
ABOUT: dict[str, Any] = {
    "namespace": "demo", "deployment_id": DEPLOYMENT, "model": "late", "version": 1, "version_id": "m"
}  # fmt: skip


@pytest.fixture
async def tx(postgres: Postgres) -> AsyncIterator[Store]:
    async with store(postgres, "lineage", Store) as made:
        yield made


def reported(task: int, kind: str, used: str, made: str, day: int = 1, **facts: Any) -> LineageReported:
    at = DAY1 + timedelta(days=day - 1)
    dispatched = TaskDispatched(
        namespace="demo", queue="q", task_id=UUID(int=task), attempt=1, token=UUID(int=0), kind=kind, input={},
        run_id=UUID(int=day), workflow="flights", name=kind.split(".")[1], principal="ann", deadline=at,
    )  # fmt: skip
    event = run_event(
        namespace="demo", service="data", task=dispatched, time=at, state="COMPLETE", used=[used], made={made: facts}
    )
    return LineageReported(namespace="demo", service="data", run_id=dispatched.task_id, event=event)


JOB: list[Event] = [
    reported(11, "data.ingest", "file:sha256:f", "data.version:v", dataset="flights", partition="2013-01"),
    reported(12, "feature.training_set", "data.version:v", "feature.training_set:s"),
    reported(13, "training.tune", "feature.training_set:s", "training.model:m", day=2, model="late", version=1),
    reported(14, "inference.deploy", "training.model:m", DEPLOYMENT_NODE, day=2),
]


async def test_a_prediction_is_explained_down_to_its_file(tx: Store) -> None:
    await assemble(list(reversed(JOB)), tx)

    explained = await explain(Explain(namespace="demo", prediction_id=PREDICTION), tx)

    assert [(hop.node, hop.task) for hop in explained.way.hops] == [
        (DEPLOYMENT_NODE, "deploy"),
        ("training.model:m", "tune"),
        ("feature.training_set:s", "training_set"),
        ("data.version:v", "ingest"),
        ("file:sha256:f", ""),
    ]
    assert explained.way.missing == []
    assert explained.predicted_at == PREDICTED_AT
    assert explained.answer is None
    assert explained.names["data.version:v"]["millrace_facts"]["facts"]["partition"] == "2013-01"


async def test_a_logged_prediction_is_shown_with_its_way_back(tx: Store) -> None:
    await assemble([DeploymentReady(**ABOUT), PredictionsLogged(**ABOUT, predictions=[LOGGED, LOGGED])], tx)

    explained = await explain(Explain(namespace="demo", prediction_id=PREDICTION), tx)

    assert explained.answer
    assert Prediction.model_validate(json.loads(explained.answer.detail)) == LOGGED
    assert explained.way.missing == [
        f"{DEPLOYMENT_NODE}: no run is known that made it",
        "training.model:m: no run is known that made it",
    ]


async def test_another_tenants_prediction_explains_nothing(tx: Store) -> None:
    await assemble(JOB, tx)

    explained = await explain(Explain(namespace="other", prediction_id=PREDICTION), tx)

    assert [hop.node for hop in explained.way.hops] == [DEPLOYMENT_NODE]
    assert explained.way.missing


async def test_a_text_that_is_no_predictions_id_is_refused(tx: Store) -> None:
    with pytest.raises(InvalidInput, match="no prediction"):
        await explain(Explain(namespace="demo", prediction_id="p123"), tx)


async def test_the_graph_is_seen_from_any_node_in_either_direction(tx: Store) -> None:
    await assemble(JOB, tx)

    up = await view_graph(GetGraph(namespace="demo", node="data.version:v", direction="upstream"), tx)
    down = await view_graph(GetGraph(namespace="demo", node="data.version:v", direction="downstream"), tx)
    both = await view_graph(GetGraph(namespace="demo", node="data.version:v"), tx)

    assert {"file:sha256:f", f"run:{UUID(int=11)}", "job:millrace://demo:flights.ingest"} <= set(up.nodes)
    assert DEPLOYMENT_NODE in down.nodes
    assert set(both.nodes) == set(up.nodes) | set(down.nodes)
    assert up.runs[f"run:{UUID(int=11)}"].state == "COMPLETE"
    assert not up.reason + down.reason + both.reason


async def test_a_run_of_a_workflow_leads_to_all_that_it_made(tx: Store) -> None:
    await assemble(JOB, tx)

    made = await view_graph(GetGraph(namespace="demo", node=f"run:{UUID(int=2)}", direction="downstream"), tx)

    assert {"training.model:m", DEPLOYMENT_NODE} <= set(made.nodes)
    assert "data.version:v" not in made.nodes


async def test_the_graph_is_seen_as_it_was(tx: Store) -> None:
    await assemble(JOB, tx)

    then = await view_graph(
        GetGraph(namespace="demo", node="data.version:v", direction="downstream", as_of=DAY1 + timedelta(hours=1)), tx
    )

    assert "feature.training_set:s" in then.nodes
    assert "training.model:m" not in then.nodes
    with pytest.raises(NotFound):
        await view_graph(GetGraph(namespace="demo", node="training.model:m", as_of=DAY1), tx)


async def test_what_a_limit_cuts_is_said(tx: Store) -> None:
    await assemble(JOB, tx)

    near = await view_graph(GetGraph(namespace="demo", node="data.version:v", direction="downstream", depth=2), tx)
    few = await view_graph(GetGraph(namespace="demo", node="data.version:v", direction="downstream", max_nodes=3), tx)

    assert near.reason == "deeper than 2 edges"
    assert few.reason == "more than 3 nodes"
    assert len(few.nodes) == 3


async def test_an_unknown_node_is_not_found(tx: Store) -> None:
    with pytest.raises(NotFound, match=r"data.version:nope is not known in namespace demo"):
        await view_graph(GetGraph(namespace="demo", node="data.version:nope"), tx)


def record(value: bytes | None) -> Record:
    return Record("openlineage.events", 0, 0, None, value, (), 0)


async def test_an_outside_event_joins_the_graph_where_it_names_the_same_thing(tx: Store) -> None:
    await assemble(JOB, tx)
    spark = {
        "eventTime": DAY1.isoformat(),
        "eventType": "COMPLETE",
        "run": {"runId": "r"},
        "job": {"namespace": "spark", "name": "report"},
        "inputs": [{"namespace": "millrace://demo", "name": "data.version:v"}],
        "outputs": [{"namespace": "s3://b", "name": "report"}],
    }
    once = record(json.dumps(spark).encode())
    again = record(json.dumps(spark, indent=1, sort_keys=True).encode())

    await OutsideLineage("demo")([once, again], tx)

    down = await view_graph(GetGraph(namespace="demo", node="data.version:v", direction="downstream"), tx)
    assert "dataset:s3://b:report" in down.nodes
    said = [saying.name for saying in (await tx.graph()).facts if saying.node == "run:r"]
    assert said == ["job"]


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"eventTime": "x"}'])
async def test_an_outside_record_that_is_no_openlineage_event_is_refused(tx: Store, value: bytes | None) -> None:
    with pytest.raises(InvalidInput):
        await OutsideLineage("demo")([record(value)], tx)


async def test_old_predictions_are_forgotten(tx: Store) -> None:
    await assemble([PredictionsLogged(**ABOUT, predictions=[LOGGED])], tx)

    assert await tx.forget_answers(PREDICTED_AT, limit=10) == 0
    assert await tx.answer("demo", PREDICTION) is not None
    assert await tx.forget_answers(PREDICTED_AT + timedelta(seconds=1), limit=10) == 1
    assert await tx.answer("demo", PREDICTION) is None


def test_every_event_that_says_who_made_what_is_listened_to() -> None:
    topics = SUBSCRIPTIONS[0].topics

    assert len(topics) == len(set(topics))
    assert {"data.lineage", "control.lineage", "data.versions", "inference.deployments", "control.runs"} <= set(topics)
    assert all(event.topic in topics for event in LISTENED)
