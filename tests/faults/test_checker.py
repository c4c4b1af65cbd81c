"""The judge on histories made by hand: a good one passes, and each thing that is wrong in it is named."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf.message import Message
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.lineage.v1 import lineage_pb2
from millrace.contracts.rpc.observability.v1 import observability_pb2

from tests.faults.checker import check
from tests.faults.effects import Effect
from tests.faults.facts import Facts
from tests.faults.history import Entry, Outcome
from tests.journeys.shop import Told

RUN, EVENT, TASK = "run-1", "event-1", "task-outside"
FILE, VERSION, FEATURES = "file:sha256:f1", "data.version:v1", "feature.view:g1"


def entry(op: str, key: str, outcome: Outcome = "ok", value: object = None) -> Entry:
    return Entry(op, op, key, outcome, 0.0, value)


def told(type_: str, key: str, sequence: int, topic: str = "", **value: object) -> Told:
    topic = topic or {"R": "control.runs"}.get(type_[0], f"{type_}s")
    return Told(topic, key, type_, f"{topic}/{key}/{sequence}", sequence, value)


def task(name: str, kind: str, output: str = "") -> control_pb2.Task:
    return control_pb2.Task(task_id=f"task-{name}", name=name, kind=kind, state="succeeded", output_json=output)


TASKS = [
    task("ingest", "data.ingest"),
    task("materialise", "feature.materialise", '{"generations": {"view": "g1"}}'),
    task("outside", "data.effect", '{"receipt": 7}'),
    task("promote", "training.promote"),
]


def good() -> Facts:
    """Return what is known of one event, its run, a call made twice and a prediction, where all is well."""
    run = control_pb2.Run(run_id=RUN, workflow="full", state="succeeded", event_id=EVENT, tasks=TASKS)
    asked = control_pb2.Run(run_id="run-2", state="succeeded", trigger_data_json='{"event": "call-1"}')
    runs = {one.run_id: one for one in (run, asked)}
    done = [told("TaskSucceeded", one.task_id, 1, "data.tasks", run_id=RUN, duration_s=0.5) for one in TASKS]
    match = control_pb2.TriggerMatch(trigger="full", disposition="started", run_id=RUN)
    return Facts(
        history=[
            entry("trigger", EVENT, "invoke"),
            entry("trigger", EVENT),
            entry("start", "call-1", value="run-2"),
            entry("start", "call-1", value="run-2"),
            entry("predict", "a", value="p1"),
            entry("read", RUN, value="running"),
            entry("read", RUN, value="succeeded"),
        ],
        told=[
            *(told("RunStarted", one, 1, run_id=one) for one in runs),
            *done,
            told("VersionPublished", "readings", 4, partition=EVENT, version_id="v1", source_sha256="f1"),
            told("ViewMaterialised", "view", 9, version_ids=["v1"], generation="g1"),
            told("AliasMoved", "model", 3, alias=EVENT),
            *(told("RunSucceeded", one, 2, run_id=one) for one in runs),
        ],
        explained={EVENT: control_pb2.ExplainEventResponse(received=True, deliveries=1, matches=[match])},
        runs=runs,
        effects=[Effect(7, TASK, EVENT, "outside", 1)],
        versions=[data_pb2.Version(version_id="v1", partition=EVENT)],
        aliases=[EVENT, "champion"],
        graphs={**{f"run:{one}": known(one, "COMPLETE") for one in runs}, VERSION: way(FILE, VERSION, FEATURES)},
        explanations={"p1": lineage_pb2.ExplainResponse(complete=True, hops=[hop("file")])},
        costs={RUN: cost(RUN, 0.5 * len(TASKS)), "run-2": cost("run-2", 0.0)},
        handled={"control.runs": 4, "data.tasks": len(TASKS)},
    )


def known(run_id: str, state: str) -> lineage_pb2.GetGraphResponse:
    node = lineage_pb2.Node(id=f"run:{run_id}", kind="run", facts_json=f'{{"run": {{"state": "{state}"}}}}')
    return lineage_pb2.GetGraphResponse(nodes=[node])


def way(*nodes: str) -> lineage_pb2.GetGraphResponse:
    edges = [lineage_pb2.Edge(from_node=one, to_node=other) for one, other in pairwise(nodes)]
    return lineage_pb2.GetGraphResponse(nodes=[lineage_pb2.Node(id=node) for node in nodes], edges=edges)


def hop(kind: str) -> lineage_pb2.Hop:
    return lineage_pb2.Hop(node=lineage_pb2.Node(kind=kind))


def cost(run_id: str, seconds: float) -> observability_pb2.GetRunCostResponse:
    steps = [observability_pb2.StepCost(task="outside", duration_s=seconds)]
    return observability_pb2.GetRunCostResponse(run_id=run_id, state="succeeded", steps=steps)


def changed(message: Any, **fields: object) -> Any:
    made: Message = type(message)()
    made.CopyFrom(message)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def without(facts: Facts, type_: str) -> Facts:
    return replace(facts, told=[one for one in facts.told if one.type != type_])


def again(facts: Facts, type_: str, event_id: str) -> Facts:
    twice = [replace(one, event_id=event_id, sequence=one.sequence + 1) for one in facts.told if one.type == type_]
    return replace(facts, told=[*facts.told, *twice[:1]])


def found(facts: Facts) -> set[tuple[str, str]]:
    return {(finding.claim.split(",")[0], finding.kind) for finding in check(facts)}


def test_where_all_is_well_nothing_is_found() -> None:
    assert check(good()) == []


def test_an_event_that_was_not_acknowledged_may_have_come_to_nothing() -> None:
    facts = good()
    unknown = [entry("trigger", "event-2", "invoke"), entry("trigger", "event-2", "unknown")]
    explained = {**facts.explained, "event-2": control_pb2.ExplainEventResponse()}

    assert check(replace(facts, history=[*facts.history, *unknown], explained=explained)) == []


def test_a_refusal_that_is_on_record_is_no_loss() -> None:
    refused = control_pb2.TriggerMatch(trigger="full", disposition="ignored", reason="the filter says no")
    explained = control_pb2.ExplainEventResponse(received=True, matches=[refused])
    facts = Facts(history=[entry("trigger", EVENT)], explained={EVENT: explained})

    assert check(facts) == []


@pytest.mark.parametrize("received", [False, True])
def test_an_acknowledged_event_that_came_to_nothing_is_lost(received: bool) -> None:
    explained = {EVENT: control_pb2.ExplainEventResponse(received=received)}
    facts = Facts(history=[entry("trigger", EVENT)], explained=explained)

    assert found(facts) == {("each acknowledged event led to exactly one run or a recorded refusal", "lost")}


def test_a_second_run_of_an_event_is_found() -> None:
    facts = good()
    second = control_pb2.Run(run_id="run-3", state="succeeded", event_id=EVENT)

    findings = found(replace(facts, runs={**facts.runs, "run-3": second}))

    assert ("each acknowledged event led to exactly one run or a recorded refusal", "doubled") in findings


def test_a_run_that_does_not_end_is_found() -> None:
    facts = good()
    runs = {**facts.runs, "run-2": changed(facts.runs["run-2"], state="running")}

    assert ("every run ends", "open") in found(replace(facts, runs=runs))


def test_an_end_that_was_not_told_or_told_otherwise_is_found() -> None:
    facts = good()
    otherwise = [replace(one, type="RunFailed") if one.type == "RunSucceeded" else one for one in facts.told]

    assert ("every run ends", "lost") in found(without(facts, "RunSucceeded"))
    assert ("every run ends", "lost") in found(replace(facts, told=otherwise))


def test_an_end_or_a_begin_that_was_told_twice_is_found() -> None:
    assert ("every run ends", "doubled") in found(again(good(), "RunSucceeded", "another"))
    assert ("every run ends", "doubled") in found(again(good(), "RunStarted", "another"))


def test_a_task_that_succeeded_twice_or_was_not_told_is_found() -> None:
    assert ("a task is done once", "doubled") in found(again(good(), "TaskSucceeded", "another"))
    assert ("a task is done once", "lost") in found(without(good(), "TaskSucceeded"))


def test_an_event_that_is_sent_again_is_no_second_event() -> None:
    facts = good()

    assert check(replace(facts, told=[*facts.told, *facts.told])) == []


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [((3, 4, 6), "lost"), ((3, 5, 4), "disordered"), ((4, 3, 5), "disordered"), ((3, 4, 4), "doubled")],
)
def test_the_numbers_of_a_key_count_up_by_one(numbers: tuple[int, ...], kind: str) -> None:
    events = [replace(told("Noted", "k", number), event_id=str(n)) for n, number in enumerate(numbers)]

    findings = check(Facts(everybody=events))

    assert [finding.kind for finding in findings] == [kind]
    assert findings[0].claim == "facts of a key are told in order, without a gap"


def test_another_answer_to_the_same_request_is_found() -> None:
    facts = good()
    history = [*facts.history, entry("start", "call-1", value="run-9")]

    assert ("a request that is asked twice gets the same answer", "doubled") in found(replace(facts, history=history))


def test_a_run_that_had_ended_and_goes_on_is_found() -> None:
    facts = good()
    history = [*facts.history, entry("read", RUN, value="failed")]

    assert ("what has ended stays as it ended", "changed") in found(replace(facts, history=history))


def test_one_id_for_two_predictions_is_found() -> None:
    facts = good()
    history = [*facts.history, entry("predict", "b", value="p1")]

    assert ("each answer of a model has an id of its own", "doubled") in found(replace(facts, history=history))


def test_what_was_done_outside_twice_or_not_at_all_is_found() -> None:
    facts = good()
    twice = [*facts.effects, Effect(8, "task-other", EVENT, "outside", 1)]
    assert found(replace(facts, effects=twice)) == {("what a run does outside happens once", "doubled")}
    assert found(replace(facts, effects=[])) == {("what a run does outside happens once", "lost")}


def test_a_call_outside_that_was_repeated_under_its_key_is_no_second_effect() -> None:
    facts = good()

    assert check(replace(facts, effects=[replace(facts.effects[0], calls=3)])) == []


@pytest.mark.parametrize("type_", ["VersionPublished", "AliasMoved"])
def test_what_a_registry_has_twice_or_not_at_all_is_found(type_: str) -> None:
    facts = good()

    assert ("what a run puts into a registry is there once", "doubled") in found(again(facts, type_, "another"))
    assert ("what a run puts into a registry is there once", "lost") in found(without(facts, type_))


def test_features_put_online_twice_are_found_and_those_that_newer_ones_overtook_are_not_missed() -> None:
    claim = "what a run puts into a registry is there once"

    assert found(again(good(), "ViewMaterialised", "another")) == {(claim, "doubled")}
    assert check(without(good(), "ViewMaterialised")) == []


def test_a_registry_that_does_not_have_what_was_told_is_found() -> None:
    lost = {("what a run puts into a registry is there once", "lost")}

    assert found(replace(good(), versions=[])) == lost
    assert found(replace(good(), aliases=[])) == lost


def test_what_is_counted_twice_or_not_at_all_is_found() -> None:
    facts = good()
    claim = "each event is counted once by who counts them"

    assert found(replace(facts, handled={"control.runs": 5})) == {(claim, "doubled")}
    assert found(replace(facts, handled={"control.runs": 3})) == {(claim, "lost")}
    assert ("what a run took is counted once", "doubled") in found(replace(facts, costs={RUN: cost(RUN, 9.0)}))


def test_a_run_that_lineage_does_not_know_is_found() -> None:
    facts = good()
    claim = "the lineage of every run that has ended is complete"
    unknown = {node: graph for node, graph in facts.graphs.items() if node != f"run:{RUN}"}

    assert found(replace(facts, graphs=unknown)) == {(claim, "lost")}
    assert found(replace(facts, graphs={**facts.graphs, f"run:{RUN}": known(RUN, "START")})) == {(claim, "lost")}


@pytest.mark.parametrize("broken", [way(VERSION, FEATURES), way(FILE, VERSION), way(FILE, "data.version:v2")])
def test_a_gap_in_the_way_from_a_file_is_found(broken: lineage_pb2.GetGraphResponse) -> None:
    facts = good()

    findings = found(replace(facts, graphs={**facts.graphs, VERSION: broken}))

    assert findings == {("the lineage of every run that has ended is complete", "incomplete")}


def test_a_cycle_is_found_even_where_no_single_answer_holds_it() -> None:
    facts = good()

    findings = found(replace(facts, graphs={**facts.graphs, FEATURES: way(FEATURES, FILE)}))

    assert findings == {("lineage has no cycle", "incomplete")}


def test_an_answer_that_is_not_explained_is_found() -> None:
    gap = lineage_pb2.ExplainResponse(complete=False, missing=["training.model:m"], hops=[hop("file")])

    assert found(replace(good(), explanations={"p1": gap})) == {
        ("each answer is explained down to its files", "incomplete")
    }
