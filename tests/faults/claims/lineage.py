"""Claims about lineage: it is complete and has no cycle."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.lineage.v1 import lineage_pb2

from tests.faults.facts import Facts, event_of, once
from tests.faults.finding import Finding
from tests.journeys.shop import ENDED

COMPLETE = "the lineage of every run that has ended is complete"
ACYCLIC = "lineage has no cycle"
EXPLAINED = "each answer is explained down to its files"
STATES = {"succeeded": "COMPLETE", "refused": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}
#: Kinds of task that say what they used and made; others have nothing to say.
REPORTING = frozenset({"data.ingest", "feature.materialise", "training.promote"})


def run_node(run_id: str) -> str:
    """Return the node of a run, or of a task, which is a run of its own there."""
    return f"run:{run_id}"


def version_node(version_id: str) -> str:
    """Return a dataset version's node."""
    return f"data.version:{version_id}"


def _view_node(generation: str) -> str:
    return f"feature.view:{generation}"


def _model_node(version_id: str) -> str:
    return f"training.model:{version_id}"


#: type -> of an event's value, the node that it says something of, and under which name.
SAYINGS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "VersionPublished": lambda said: (version_node(said["version_id"]), "VersionPublished"),
    "ViewMaterialised": lambda said: (_view_node(said["generation"]), "ViewMaterialised"),
    "AliasMoved": lambda said: (_model_node(said["version_id"]), f"alias {said['alias']}"),
}


def reporting(run: control_pb2.Run) -> list[control_pb2.Task]:
    """Return those tasks of a run of which lineage must know what they used and made."""
    return [task for task in run.tasks if task.state == "succeeded" and task.kind in REPORTING]


def runs_known(facts: Facts) -> Iterator[Finding]:
    """Lineage knows of each run how it began and ended, from what was told of it and from control's own report."""
    for run in facts.runs.values():
        if run.state not in ENDED:
            continue
        node = run_node(run.run_id)
        said = _said(facts.graphs.get(node)).get(node, {})
        ended = said.get("run", {}).get("state", "nothing")
        reported = said.get("millrace_run", {}).get("state", "nothing")
        missing = {"start", "end"} - said.keys()
        if (ended, reported) != (STATES[run.state], run.state) or missing:
            detail = f"run {run.run_id} is {run.state}, lineage knows {ended}, was reported {reported}"
            yield Finding(COMPLETE, "lost", f"{detail}, and lacks its {sorted(missing)}" if missing else detail, node)


def tasks_known(facts: Facts) -> Iterator[Finding]:
    """Lineage knows of each task that succeeded in which run that was, what it used, and what it made."""
    models = {str(one.value["alias"]): str(one.value["version_id"]) for one in facts.told if one.type == "AliasMoved"}
    for run in facts.runs.values():
        for task in reporting(run):
            node = run_node(task.task_id)
            graph = facts.graphs.get(node)
            before = {edge.from_node for edge in graph.edges if edge.to_node == node} if graph else set()
            after = {edge.to_node for edge in graph.edges if edge.from_node == node} if graph else set()
            used, made = _reported(task, run, models)
            kinds = before | {source.partition(":")[0] for source in before}
            if missing := ({run_node(run.run_id), *used} - kinds) | (made - after):
                detail = f"{task.name} {task.task_id} of run {run.run_id} is done, and lineage lacks {sorted(missing)}"
                yield Finding(COMPLETE, "incomplete" if graph else "lost", detail, node)


def _reported(task: control_pb2.Task, run: control_pb2.Run, models: Mapping[str, str]) -> tuple[set[str], set[str]]:
    """Return what a task must have used and made: nodes, or a kind of node where nobody says which one it was.

    Args:
        task: What was done.
        run: In which run.
        models: alias -> the model version that it was told to point at.
    """
    output = json.loads(task.output_json)
    match task.kind:
        case "data.ingest":
            return {f"file:sha256:{output['source_sha256']}"}, {version_node(output["version_id"])}
        case "feature.materialise":
            ingested = [json.loads(one.output_json) for one in reporting(run) if one.kind == "data.ingest"]
            versions = {version_node(one["version_id"]) for one in ingested}
            return versions or {"data.version"}, set(map(_view_node, output["generations"].values()))
        case _:
            model = models.get(str(output["alias"]))
            return {_model_node(model) if model else "training.model", "training.evaluation"}, set()


def told_known(facts: Facts) -> Iterator[Finding]:
    """What was told of a thing is said of it, wherever the thing is seen."""
    said: dict[str, set[str]] = defaultdict(set)
    for graph in facts.graphs.values():
        for node, sayings in _said(graph).items():
            said[node] |= sayings.keys()
    for one in once(facts.told):
        if one.type in SAYINGS:
            node, name = SAYINGS[one.type](one.value)
            if node in said and name not in said[node]:
                yield Finding(COMPLETE, "lost", f"{one.type} {one.event_id} was told, {node} lacks its {name}", node)


def ways_whole(facts: Facts) -> Iterator[Finding]:
    """From a file the way leads to its version, and from there to the features made of it."""
    published = {str(one.value["partition"]): one.value for one in once(facts.told) if one.type == "VersionPublished"}
    for run in facts.runs.values():
        said = published.get(event_of(run))
        if said is None or run.state != "succeeded":
            continue
        version = version_node(str(said["version_id"]))
        graph = facts.graphs.get(version) or lineage_pb2.GetGraphResponse()
        file = f"file:sha256:{said['source_sha256']}"
        # One that was overtaken by a newer one is made, and not announced.
        made = [json.loads(task.output_json)["generations"] for task in run.tasks if task.kind == "feature.materialise"]
        wanted = {version, *(_view_node(generation) for views in made for generation in views.values())}
        if missing := wanted - reached(file, graph):
            yield Finding(COMPLETE, "incomplete", f"from {file} no way leads to {sorted(missing)}", version)


def no_cycle(facts: Facts) -> Iterator[Finding]:
    """All that was read of the graph, taken together, has no cycle."""
    before: dict[str, set[str]] = defaultdict(set)
    for graph in filter(None, facts.graphs.values()):
        for edge in graph.edges:
            before[edge.to_node].add(edge.from_node)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        yield Finding(ACYCLIC, "incomplete", f"{error.args[1]}")


def answers_explained(facts: Facts) -> Iterator[Finding]:
    """Each prediction asked about is known down to files without a gap, and its details are if they were told."""
    details = logged(facts)
    for prediction_id, way in facts.explanations.items():
        if way is None:
            yield Finding(EXPLAINED, "lost", f"prediction {prediction_id} is not known")
            continue
        kinds = {hop.node.kind for hop in way.hops}
        if not way.complete or "file" not in kinds:
            yield Finding(EXPLAINED, "incomplete", f"prediction {prediction_id}: missing {list(way.missing)}, {kinds}")
        if prediction_id in details and not way.prediction_json:
            yield Finding(EXPLAINED, "lost", f"the details of prediction {prediction_id} were told and are not known")


def logged(facts: Facts) -> set[str]:
    """Return the predictions whose details were told."""
    told = [one.value["predictions"] for one in facts.told if one.type == "PredictionsLogged"]
    return {str(prediction["prediction_id"]) for predictions in told for prediction in predictions}


def reached(start: str, graph: lineage_pb2.GetGraphResponse) -> set[str]:
    """Return what edges lead to from a node."""
    after: dict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        after[edge.from_node].append(edge.to_node)
    found, ahead = set[str](), [start]
    while ahead:
        for node in after[ahead.pop()]:
            if node not in found:
                found.add(node)
                ahead.append(node)
    return found


def _said(graph: lineage_pb2.GetGraphResponse | None) -> dict[str, dict[str, Any]]:
    """Return what is said of each node of an answer."""
    return {node.id: json.loads(node.facts_json or "{}") for node in graph.nodes} if graph else {}
