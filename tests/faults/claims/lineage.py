"""Claims about lineage: it is complete and has no cycle."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from millrace.contracts.rpc.lineage.v1 import lineage_pb2

from tests.faults.facts import Facts, event_of, once
from tests.faults.finding import Finding
from tests.journeys.shop import ENDED

COMPLETE = "the lineage of every run that has ended is complete"
ACYCLIC = "lineage has no cycle"
EXPLAINED = "each answer is explained down to its files"
STATES = {"succeeded": "COMPLETE", "refused": "COMPLETE", "failed": "FAIL", "cancelled": "ABORT"}


def run_node(run_id: str) -> str:
    """Return a run's node."""
    return f"run:{run_id}"


def version_node(version_id: str) -> str:
    """Return a dataset version's node."""
    return f"data.version:{version_id}"


def runs_known(facts: Facts) -> Iterator[Finding]:
    """Lineage knows of each run how it ended, and in which workflow."""
    for run in facts.runs.values():
        if run.state in ENDED:
            found = _node(facts.graphs.get(run_node(run.run_id)), run_node(run.run_id))
            said = json.loads(found.facts_json).get("run", {}).get("state") if found else "nothing"
            if said != STATES[run.state]:
                yield Finding(COMPLETE, "lost", f"run {run.run_id} is {run.state}, lineage knows {said}")


def ways_whole(facts: Facts) -> Iterator[Finding]:
    """From a file the way leads to its version, and from there to the features made of it."""
    published = {str(one.value["partition"]): one.value for one in once(facts.told) if one.type == "VersionPublished"}
    for run in facts.runs.values():
        said = published.get(event_of(run))
        if said is None or run.state != "succeeded":
            continue
        version = version_node(str(said["version_id"]))
        graph = facts.graphs.get(version, lineage_pb2.GetGraphResponse())
        file = f"file:sha256:{said['source_sha256']}"
        # One that was overtaken by a newer one is made, and not announced.
        made = [json.loads(task.output_json)["generations"] for task in run.tasks if task.kind == "feature.materialise"]
        wanted = {version, *(f"feature.view:{generation}" for views in made for generation in views.values())}
        if missing := wanted - reached(file, graph):
            yield Finding(COMPLETE, "incomplete", f"from {file} no way leads to {sorted(missing)}")


def no_cycle(facts: Facts) -> Iterator[Finding]:
    """All that was read of the graph, taken together, has no cycle."""
    before: dict[str, set[str]] = defaultdict(set)
    for graph in facts.graphs.values():
        for edge in graph.edges:
            before[edge.to_node].add(edge.from_node)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        yield Finding(ACYCLIC, "incomplete", f"{error.args[1]}")


def answers_explained(facts: Facts) -> Iterator[Finding]:
    """The way back from each prediction that was asked about has no gap and ends at files."""
    for prediction_id, way in facts.explanations.items():
        kinds = {hop.node.kind for hop in way.hops}
        if not way.complete or "file" not in kinds:
            yield Finding(EXPLAINED, "incomplete", f"prediction {prediction_id}: missing {list(way.missing)}, {kinds}")


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


def _node(graph: lineage_pb2.GetGraphResponse | None, name: str) -> lineage_pb2.Node | None:
    nodes: Iterable[lineage_pb2.Node] = graph.nodes if graph else ()
    return next((node for node in nodes if node.id == name), None)
