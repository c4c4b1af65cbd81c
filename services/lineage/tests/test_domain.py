import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.control import LeasedTaskEnded, RunFailed, RunStarted, RunSucceeded, TaskLeased
from millrace.contracts.data import VersionPublished
from millrace.contracts.event import Event
from millrace.contracts.inference import DeploymentReady
from millrace.contracts.openlineage import LineageReported, run_event
from millrace.contracts.tasks import TaskDispatched, TaskFailed, TaskStarted, TaskSucceeded
from millrace.contracts.training import AliasMoved, VersionRegistered
from millrace.lineage.domain.events import graph_of
from millrace.lineage.domain.graph import MAX_FACT_BYTES, Graph, clean, joined
from millrace.lineage.domain.openlineage import graph_of_openlineage
from millrace.lineage.domain.walk import Walk, display_name, explanation, newest, without_shortcuts
from millrace.runtime.errors import InvalidInput

T0 = datetime(2013, 2, 1, tzinfo=UTC)
FACET = {"_producer": "https://p", "_schemaURL": "https://s"}


def ol(state: str, at_s: float, run: str = "R", **fields: Any) -> dict[str, Any]:
    return {
        "eventType": state,
        "eventTime": (T0 + timedelta(seconds=at_s)).isoformat(),
        "producer": "https://p",
        "schemaURL": "https://s",
        "run": {"runId": run},
        "job": {"namespace": "spark", "name": "nightly"},
    } | fields


def table(name: str, **facets: Any) -> dict[str, Any]:
    return {"namespace": "postgres://db:5432", "name": name, "facets": facets}


def of(*events: dict[str, Any]) -> Graph:
    return joined(graph_of_openlineage(event, "demo") for event in events)


def test_a_start_that_comes_after_the_end_changes_only_when_the_run_began() -> None:
    late = of(ol("COMPLETE", 9), ol("START", 1))

    run = late.runs["demo", "run:r"]

    assert run.state == "COMPLETE"
    assert (run.started_at, run.ended_at) == (T0 + timedelta(seconds=1), T0 + timedelta(seconds=9))


def test_of_two_ends_the_later_stands_so_that_a_retry_that_succeeds_is_a_success() -> None:
    assert of(ol("COMPLETE", 9), ol("FAIL", 3)).runs["demo", "run:r"].state == "COMPLETE"
    assert of(ol("COMPLETE", 3), ol("FAIL", 3)).runs["demo", "run:r"].state == "FAIL"


def test_inputs_that_a_later_event_does_not_repeat_are_not_taken_back() -> None:
    graph = of(ol("START", 1, inputs=[table("a")]), ol("COMPLETE", 2, outputs=[table("b")]))

    assert ("demo", "dataset:postgres://db:5432:a", "run:r") in graph.edges
    assert ("demo", "run:r", "dataset:postgres://db:5432:b") in graph.edges


def test_a_thing_that_was_only_mentioned_is_filled_in_by_a_later_event() -> None:
    node = ("demo", "dataset:postgres://db:5432:a")
    graph = of(ol("START", 5, inputs=[{"namespace": "postgres://db:5432", "name": "a"}]))
    assert node in graph.nodes
    assert not graph.facts.keys() & {saying for saying in graph.facts if saying.node == node[1]}

    described = {"eventTime": T0.isoformat(), "dataset": table("a", schema=FACET)}
    graph.join(of(described))

    assert graph.nodes[node] == T0
    assert any(saying.node == node[1] and saying.name == "schema" for saying in graph.facts)


def test_a_facet_is_replaced_by_a_later_one_and_gone_when_deleted() -> None:
    assert newest([("schema", '{"v":1}'), ("schema", '{"v":2}'), ("owner", "{}"), ("owner", '{"_deleted":true}')]) == {
        "schema": {"v": 2}
    }


def test_a_huge_facet_leaves_its_size_and_digest() -> None:
    graph = of(ol("START", 1, inputs=[table("a", plan={"text": "x" * MAX_FACT_BYTES})]))

    kept = [json.loads(text) for saying, text in graph.facts.items() if saying.name == "plan"]

    assert kept[0]["_truncated"]["bytes"] > MAX_FACT_BYTES


def test_nobodys_dataset_passes_for_a_run_or_another_tenants_thing() -> None:
    own = {"namespace": "millrace://demo", "name": "data.version:1"}
    other = {"namespace": "millrace://other", "name": "data.version:1"}
    forged = {"namespace": "millrace://demo", "name": "run:r"}

    nodes = {node for _, node in of(ol("START", 1, inputs=[own, other, forged])).nodes}

    assert {"data.version:1", "dataset:millrace://other:data.version:1", "dataset:millrace://demo:run:r"} <= nodes


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {"eventTime": T0.isoformat()},
        {"run": {"runId": "r"}, "job": {"namespace": "n", "name": "j"}},
        ol("START", 0) | {"eventTime": "yesterday"},
        ol("START", 0) | {"eventTime": "0001-01-01T00:00:00+23:00"},
        ol("START", 0) | {"run": {}},
        ol("START", 0) | {"inputs": "a"},
        ol("START", 0) | {"inputs": [{"name": "a"}]},
        ol("START", 0) | {"run": {"runId": "r", "facets": {"x": math.inf}}},
    ],
)
def test_what_is_no_openlineage_event_is_refused(event: object) -> None:
    with pytest.raises(InvalidInput):
        graph_of_openlineage(event, "demo")


def test_an_event_without_a_state_or_with_a_new_one_still_counts() -> None:
    new = ol("SUSPENDED", 1)
    without = {name: value for name, value in new.items() if name != "eventType"}

    assert of(new).runs["demo", "run:r"].state == "OTHER"
    assert of(without).runs["demo", "run:r"].state == "OTHER"


def test_a_name_is_kept_short_and_storable() -> None:
    assert clean("a\0b\ud800") == "a\N{REPLACEMENT CHARACTER}b?"
    assert len(clean("x" * 10_000)) < 600
    assert clean("x" * 10_000) != clean("x" * 10_001)


def reported(task: int, kind: str, used: list[str], made: dict[str, dict[str, Any]]) -> LineageReported:
    dispatched = TaskDispatched(
        namespace="demo",
        queue="q",
        task_id=UUID(int=task),
        attempt=1,
        token=UUID(int=0),
        kind=kind,
        input={},
        run_id=UUID(int=1),
        workflow="flights",
        name=kind.partition(".")[2],
        principal="ann",
        deadline=T0,
    )
    event = run_event(namespace="demo", service="x", task=dispatched, time=T0, state="COMPLETE", used=used, made=made)
    return LineageReported(namespace="demo", service="data", run_id=dispatched.task_id, event=event)


DEPLOYMENT = f"inference.deployment:{UUID(int=9)}"
JOB: list[Event] = [
    reported(11, "data.ingest", ["file:sha256:f"], {"data.version:v": {"dataset": "flights", "partition": "2013-01"}}),
    reported(12, "feature.training_set", ["data.version:v", "feature.declaration:d"], {"feature.training_set:s": {}}),
    reported(13, "training.tune", ["feature.training_set:s"], {"training.model:m": {"model": "late", "version": 1}}),
    reported(14, "inference.deploy", ["training.model:m"], {DEPLOYMENT: {}}),
]


def test_a_prediction_is_traced_to_its_file_with_every_task_named() -> None:
    graph = joined(graph_of(event, T0, "e") for event in JOB)
    facts = {node: newest((s.name, t) for s, t in graph.facts.items() if s.node == node) for _, node in graph.nodes}

    way = explanation(DEPLOYMENT, {edge[1:] for edge in graph.edges}, facts)

    assert [(hop.depth, hop.node, hop.task, hop.task_kind) for hop in way.hops] == [
        (0, DEPLOYMENT, "deploy", "inference.deploy"),
        (1, "training.model:m", "tune", "training.tune"),
        (2, "feature.training_set:s", "training_set", "feature.training_set"),
        (3, "data.version:v", "ingest", "data.ingest"),
        (3, "feature.declaration:d", "", ""),
        (4, "file:sha256:f", "", ""),
    ]
    assert way.missing == []
    assert {hop.run for hop in way.hops if hop.task} == {str(UUID(int=1))}
    assert display_name("data.version:v", facts["data.version:v"]) == "flights 2013-01"


def test_a_hop_that_nobody_reported_is_named_as_missing() -> None:
    graph = joined(graph_of(event, T0, "e") for event in JOB[1:])

    way = explanation(DEPLOYMENT, {edge[1:] for edge in graph.edges}, {})

    assert way.missing == ["data.version:v: no run is known that made it"]


def test_what_a_domain_event_says_stands_without_a_report() -> None:
    version = VersionPublished(
        namespace="demo", dataset="flights", partition="2013-01", version_id="v", contract="flights", contract_hash="c",
        source_uri="file:///x", source_sha256="f", good_rows=2, quarantined_rows=1, landed_at=T0,
    )  # fmt: skip
    model = VersionRegistered(
        namespace="demo", model="late", version=1, version_id="m", training_set_id="s", estimator="e",
        params={}, metrics={}, parity_max_abs=0,
    )  # fmt: skip
    ready = DeploymentReady(namespace="demo", deployment_id=UUID(int=9), model="late", version=1, version_id="m")

    edges = joined(graph_of(event, T0, "e") for event in (version, model, ready)).edges

    assert {edge[1:] for edge in edges} == {
        ("file:sha256:f", "data.version:v"),
        ("feature.training_set:s", "training.model:m"),
        ("training.model:m", DEPLOYMENT),
    }


def test_the_newest_alias_stands() -> None:
    moved = AliasMoved(namespace="demo", model="late", version=2, version_id="m", alias="champion", previous_version=1)

    graph = graph_of(moved, T0, "e")

    assert [saying.name for saying in graph.facts] == ["alias champion"]


def test_a_run_of_a_workflow_ends_as_control_says() -> None:
    about: dict[str, Any] = {"namespace": "demo", "run_id": UUID(int=1), "workflow": "flights", "workflow_hash": "h"}
    began, failed = RunStarted(**about, principal="ann"), RunFailed(**about, duration_s=1)
    succeeded = RunSucceeded(**about, duration_s=1)
    node = ("demo", f"run:{UUID(int=1)}")

    assert joined([graph_of(failed, T0, "2"), graph_of(began, T0, "1")]).runs[node].state == "FAIL"
    assert graph_of(succeeded, T0, "3").runs[node].state == "COMPLETE"


def test_a_task_of_a_teams_queue_is_a_run_of_its_runs_as_its_worker_reports() -> None:
    about: dict[str, Any] = {
        "namespace": "demo", "task_id": UUID(int=2), "token": UUID(int=3), "run_id": UUID(int=1), "service": "acme",
        "kind": "acme.greet", "name": "each[2013-01].greet", "workflow": "greetings",
    }  # fmt: skip
    failed = TaskFailed(**about, attempt=1, error="E", message="no", retryable=True)
    done = TaskSucceeded(**about, attempt=2, output={"secret": 1}, duration_s=1, cpu_s=1)
    node, parent = f"run:{UUID(int=2)}", f"run:{UUID(int=1)}"

    both = [graph_of(failed, T0, "1"), graph_of(done, T0 + timedelta(seconds=5), "2")]
    graph = joined(both)

    assert graph == joined(both[::-1])
    assert graph.runs["demo", node].state == "COMPLETE"
    job = "job:millrace://demo:greetings.each[].greet"
    assert {(source, target) for _, source, target in graph.edges} >= {(job, node), (parent, node)}
    facts = {saying.name: json.loads(text) for saying, text in graph.facts.items() if saying.node == node}
    told = {"kind": "acme.greet", "attempt": 2, "service": "acme"}
    assert facts["millrace_task"].items() >= told.items()
    assert "secret" not in json.dumps(facts)
    assert graph_of(TaskStarted(**about, attempt=1), T0, "3") == Graph()


def test_a_leased_task_is_the_same_run_as_one_that_its_worker_reports() -> None:
    task: dict[str, Any] = {
        "namespace": "demo", "task_id": UUID(int=2), "run_id": UUID(int=1), "attempt": 2, "kind": "acme.greet",
        "name": "each[2013-01].greet", "workflow": "greetings",
    }  # fmt: skip
    leased: dict[str, Any] = {**task, "queue": "acme", "workflow_hash": "h"}
    reported = TaskFailed(**task, service="acme", token=UUID(int=3), error="E", message="no", retryable=True)

    ended = LeasedTaskEnded(**leased, outcome="failed", error="E")

    assert graph_of(ended, T0, "1") == graph_of(reported, T0, "1")
    assert graph_of(TaskLeased(**leased, dispatched_at=T0), T0, "2") == Graph()


def test_a_walk_says_which_limit_cut_it() -> None:
    wide = Walk("a", upstream=False, limit=2)
    wide.step([("a", "b"), ("a", "c")])
    deep = Walk("a", upstream=False, limit=9)
    deep.step([("a", "b")])
    deep.cut([("b", "c")], 1)
    whole = Walk("a", upstream=False, limit=9)
    whole.step([("a", "a")])

    assert (wide.reason, sorted(wide.depths), wide.edges) == ("more than 2 nodes", ["a", "b"], {("a", "b")})
    assert deep.reason == "deeper than 1 edges"
    assert (whole.reason, whole.frontier) == ("", [])


def test_an_edge_that_repeats_a_way_through_a_run_is_not_shown() -> None:
    edges = [("a:1", "run:r"), ("run:r", "b:1"), ("a:1", "b:1"), ("a:1", "c:1")]

    assert without_shortcuts(edges) == [("a:1", "c:1"), ("a:1", "run:r"), ("run:r", "b:1")]
