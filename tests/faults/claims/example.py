"""Facts made by hand, of a load where all is well, and what a test changes of them."""

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

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

Graph = lineage_pb2.GetGraphResponse
RUN, EVENT, TASK = "run-1", "event-1", "task-outside"
FILE, VERSION, FEATURES = "file:sha256:f1", "data.version:v1", "feature.view:g1"
MODEL, EVALUATION = "training.model:m1", "training.evaluation:e1"
SAID = {VERSION: "VersionPublished", FEATURES: "ViewMaterialised", MODEL: f"alias {EVENT}"}


def entry(op: str, key: str, outcome: Outcome = "ok", value: object = None) -> Entry:
    return Entry(op, op, key, outcome, 0.0, value)


def told(type_: str, key: str, sequence: int, topic: str = "", **value: object) -> Told:
    topic = topic or {"R": "control.runs"}.get(type_[0], f"{type_}s")
    return Told(topic, key, type_, f"{topic}/{key}/{sequence}", sequence, value)


def task(name: str, kind: str, output: str = "") -> control_pb2.Task:
    return control_pb2.Task(task_id=f"task-{name}", name=name, kind=kind, state="succeeded", output_json=output)


TASKS = [
    task("ingest", "data.ingest", '{"version_id": "v1", "source_sha256": "f1"}'),
    task("materialise", "feature.materialise", '{"generations": {"view": "g1"}}'),
    task("outside", "data.effect", '{"receipt": 7}'),
    task("promote", "training.promote", '{"alias": "event-1"}'),
]


#: What the tasks have said that they used and made.
REPORTED: dict[str, tuple[set[str], set[str]]] = {
    "run:task-ingest": ({FILE}, {VERSION}),
    "run:task-materialise": ({VERSION}, {FEATURES}),
    "run:task-promote": ({MODEL, EVALUATION}, set()),
}


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
            told("AliasMoved", "model", 3, alias=EVENT, version_id="m1"),
            told("PredictionsLogged", "deployment", 5, predictions=[{"prediction_id": "p1"}]),
            *(told("RunSucceeded", one, 2, run_id=one) for one in runs),
        ],
        explained={EVENT: control_pb2.ExplainEventResponse(received=True, deliveries=1, matches=[match])},
        runs=runs,
        effects=[Effect(7, TASK, EVENT, "outside", 1)],
        versions=[data_pb2.Version(version_id="v1", partition=EVENT)],
        aliases=[EVENT, "champion"],
        graphs={
            **{f"run:{one}": known(one) for one in runs},
            **{one: around(one, used | {f"run:{RUN}"}, made) for one, (used, made) in REPORTED.items()},
            VERSION: way(FILE, VERSION, FEATURES),
        },
        explanations={"p1": lineage_pb2.ExplainResponse(complete=True, hops=[hop("file")], prediction_json="{}")},
        costs={RUN: cost(RUN, 0.5 * len(TASKS)), "run-2": cost("run-2", 0.0)},
        handled={"control.runs": 4, "data.tasks": len(TASKS)},
    )


def known(run_id: str, ended: str = "COMPLETE", reported: str = "succeeded", lacks: str = "") -> Graph:
    said = {"run": {"state": ended}, "start": {}, "end": {}, "millrace_run": {"state": reported}}
    text = json.dumps({name: value for name, value in said.items() if name != lacks})
    return Graph(nodes=[lineage_pb2.Node(id=f"run:{run_id}", kind="run", facts_json=text)])


def around(node: str, before: Iterable[str], after: Iterable[str]) -> Graph:
    edges = [*((one, node) for one in before), *((node, one) for one in after)]
    return graph({node, *before, *after}, edges)


def way(*nodes: str) -> Graph:
    return graph(nodes, pairwise(nodes))


def graph(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> Graph:
    said = {node: json.dumps({SAID[node]: {}}) if node in SAID else "" for node in nodes}
    return Graph(
        nodes=[lineage_pb2.Node(id=node, facts_json=text) for node, text in said.items()],
        edges=[lineage_pb2.Edge(from_node=one, to_node=other) for one, other in edges],
    )


def silent(seen: Graph, name: str) -> Graph:
    nodes = [changed(node, facts_json="") if node.id == name else node for node in seen.nodes]
    return Graph(nodes=nodes, edges=seen.edges)


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
