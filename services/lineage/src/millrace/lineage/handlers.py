"""What lineage does: assembles the graph, shows parts of it, explains predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.contracts import SERVICES
from millrace.contracts.control import RunEvent
from millrace.contracts.data import VersionPublished
from millrace.contracts.event import Event
from millrace.contracts.feature import TrainingSetBuilt, ViewEvent
from millrace.contracts.inference import DeploymentEvent, PredictionsLogged, read_prediction_id
from millrace.contracts.openlineage import LineageReported, ref
from millrace.contracts.tasks import TaskReport
from millrace.contracts.training import EvaluationEvent, ModelEvent
from millrace.lineage.commands import MAX_NODES, Explain, GetGraph
from millrace.lineage.domain.events import graph_of
from millrace.lineage.domain.graph import Answer, Run, content_id, joined, utc
from millrace.lineage.domain.openlineage import graph_of_openlineage
from millrace.lineage.domain.walk import Explanation, Pair, Walk, explanation, kind_of, without_shortcuts
from millrace.lineage.store import Store
from millrace.runtime.envelope import loads
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.runtime.subscriptions import Record, Subscription, on_batch

EDGES_PER_LEVEL = 20_000

LISTENED: tuple[type[Event], ...] = (
    VersionPublished,
    ViewEvent,
    TrainingSetBuilt,
    ModelEvent,
    EvaluationEvent,
    DeploymentEvent,
    PredictionsLogged,
    RunEvent,
)
REPORTED = tuple(LineageReported.topic.format(service=service) for service in SERVICES)


async def assemble(events: Sequence[Event], tx: Store) -> None:
    """Join what events say into the graph, all at once."""
    tx.join(joined(graph_of(event, *_said(event, tx)) for event in events))


def _said(event: Event, tx: Store) -> tuple[datetime, str]:
    envelope = tx.envelope_of(event)
    if envelope is None:
        return tx.now, content_id(event.model_dump(mode="json"))
    return envelope.emitted_at, str(envelope.event_id)


@dataclass(frozen=True)
class OutsideLineage:
    """Takes OpenLineage events of other emitters, as they are on the wire.

    Attributes:
        namespace: The tenant they belong to: their wire form does not name one.
    """

    namespace: str

    async def __call__(self, records: Sequence[Record], tx: Store) -> None:
        """Join what the events say into the graph; an event that comes twice says nothing new.

        Raises:
            InvalidInput: A record is no OpenLineage event.
        """
        events = {content_id(event): event for event in (loads(record.value or b"") for record in records)}
        tx.join(joined(graph_of_openlineage(event, self.namespace) for event in events.values()))


@dataclass(frozen=True)
class View:
    """A part of the graph, with what was known of each node.

    Attributes:
        nodes: In order of distance, then by id.
        reason: Which limit cut it, or empty.
    """

    nodes: Sequence[str]
    edges: Sequence[Pair]
    facts: Mapping[str, Mapping[str, Any]]
    runs: Mapping[str, Run]
    reason: str


async def view_graph(command: GetGraph, tx: Store) -> View:
    """Return what lies around a node.

    Raises:
        NotFound: Nothing was said of the node by then.
    """
    as_of = utc(command.as_of) if command.as_of else tx.now
    if not await tx.known(command.namespace, [command.node], as_of):
        raise NotFound(f"node {command.node} is not known in namespace {command.namespace} as of {as_of.isoformat()}")
    depths: dict[str, int] = {}
    edges: set[Pair] = set()
    reason = ""
    for direction in ("upstream", "downstream"):
        if command.direction in (direction, "both"):
            left = command.max_nodes - max(len(depths) - 1, 0)
            walk = Walk(command.node, upstream=direction == "upstream", limit=left)
            await _follow(walk, command.namespace, as_of, command.depth, tx)
            depths = walk.depths | depths
            edges |= walk.edges
            reason = reason or walk.reason
    nodes = sorted(depths, key=lambda node: (depths[node], node))
    facts = await tx.facts(command.namespace, nodes, as_of)
    runs = await tx.runs(command.namespace, nodes, as_of)
    return View(nodes, without_shortcuts(edges), facts, runs, reason)


async def _follow(walk: Walk, namespace: str, as_of: datetime, depth: int, tx: Store) -> None:
    level = 0
    while walk.frontier:
        edges = await tx.edges(namespace, walk.frontier, as_of, EDGES_PER_LEVEL, upstream=walk.upstream)
        if len(edges) == EDGES_PER_LEVEL:
            walk.reason = f"more than {EDGES_PER_LEVEL} edges at one distance"
        if depth and level == depth:
            walk.cut(edges, depth)
        else:
            walk.step(edges)
        level += 1


@dataclass(frozen=True)
class Explained:
    """A prediction and the way back from it.

    Attributes:
        answer: As logged; none when its detail is not there.
        names: What is said of each thing on the way.
    """

    predicted_at: datetime
    answer: Answer | None
    way: Explanation
    names: Mapping[str, Mapping[str, Any]]


async def explain(command: Explain, tx: Store) -> Explained:
    """Return the way back from a prediction to the files that it rests on.

    Raises:
        InvalidInput: It is not the id of a prediction.
    """
    try:
        key = read_prediction_id(command.prediction_id)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    deployment = ref("inference.deployment", str(key.deployment_id))
    walk = Walk(deployment, upstream=True, limit=MAX_NODES)
    await _follow(walk, command.namespace, tx.now, 0, tx)
    facts = await tx.facts(command.namespace, list(walk.depths), tx.now)
    way = explanation(deployment, walk.edges, facts)
    if walk.reason:
        way = Explanation(way.hops, [*way.missing, f"the rest: there is {walk.reason}"])
    answer = await tx.answer(command.namespace, command.prediction_id)
    things = {node: said for node, said in facts.items() if kind_of(node) != "run"}
    return Explained(key.answered_at, answer, way, things)


# One row for all topics: what one transaction settles is joined first and written once, in order of the keys.
SUBSCRIPTIONS = (
    on_batch(
        Event,
        assemble,
        start="earliest",
        topics=(*REPORTED, *dict.fromkeys(event.topic for event in LISTENED)),
    ),
)


def reports_of(queue: str) -> tuple[Subscription, ...]:
    """Return the row by which the tasks of a team's queue come into the graph."""
    return (on_batch(TaskReport, assemble, topics=[TaskReport.topic.format(service=queue)], start="earliest"),)
