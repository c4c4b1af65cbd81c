from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from millrace.contracts.openlineage import LineageReported, ref, run_event
from millrace.contracts.tasks import TaskDispatched

TASK = TaskDispatched(
    namespace="demo",
    queue="training",
    task_id=UUID(int=1),
    attempt=2,
    token=UUID(int=2),
    kind="training.tune",
    input={},
    run_id=UUID(int=3),
    workflow="flights",
    name="tune",
    principal="ann",
    deadline=datetime(2013, 2, 1, tzinfo=UTC),
)
TIME = datetime(2013, 1, 31, 12, 0, 0, 250, tzinfo=UTC)


def tuned(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "namespace": "demo",
        "service": "training",
        "task": TASK,
        "time": TIME,
        "state": "COMPLETE",
        "used": [ref("feature.training_set", "b"), ref("feature.training_set", "a"), ref("feature.training_set", "a")],
        "made": {ref("training.model", "c"): {"model": "late", "version": 1}},
    }
    return run_event(**fields | changes)


def test_a_run_event_has_all_that_openlineage_2_0_2_requires() -> None:
    event = tuned()

    assert {"eventTime", "producer", "schemaURL", "run", "job"} <= event.keys()
    assert event["eventType"] in {"START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"}
    assert datetime.fromisoformat(event["eventTime"]) == TIME
    assert UUID(event["run"]["runId"]) == TASK.task_id
    assert event["job"].keys() >= {"namespace", "name"}
    for thing in (*event["inputs"], *event["outputs"]):
        assert thing["namespace"]
        assert thing["name"]
    assert all(urlsplit(event[name]).scheme for name in ("producer", "schemaURL"))


def test_every_facet_names_its_producer_and_its_schema() -> None:
    event = tuned()

    facets = [*event["run"]["facets"].values(), *event["job"]["facets"].values()]
    facets += [facet for output in event["outputs"] for facet in output["facets"].values()]

    assert facets
    assert all(urlsplit(facet[name]).netloc for facet in facets for name in ("_producer", "_schemaURL"))


def test_the_parent_run_is_the_workflows() -> None:
    parent = tuned()["run"]["facets"]["parent"]

    assert parent["run"] == {"runId": str(TASK.run_id)}
    assert parent["job"] == {"namespace": "millrace://demo", "name": "flights"}


def test_what_was_read_is_named_once_and_in_order_and_what_was_made_has_its_facts() -> None:
    event = tuned()

    assert [thing["name"] for thing in event["inputs"]] == ["feature.training_set:a", "feature.training_set:b"]
    assert event["outputs"][0]["facets"]["millrace_facts"]["facts"] == {"model": "late", "version": 1}


def test_the_trace_is_told_where_there_is_one() -> None:
    assert "traceparent" not in tuned()["run"]["facets"]["millrace_task"]
    assert tuned(traceparent="00-1-2-01")["run"]["facets"]["millrace_task"]["traceparent"] == "00-1-2-01"


def test_a_run_event_travels_as_an_event() -> None:
    reported = LineageReported(namespace="demo", service="training", run_id=TASK.task_id, event=tuned())

    assert LineageReported.model_validate_json(reported.model_dump_json()) == reported
    assert reported.topic_name() == "training.lineage"
