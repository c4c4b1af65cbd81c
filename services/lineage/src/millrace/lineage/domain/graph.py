"""The lineage graph, and the merge that gives the same graph in whatever order its parts arrive."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from millrace.runtime.errors import InvalidInput

MAX_FACT_BYTES = 64 * 1024
MAX_NAME_CHARS = 512

STATE_RANK = {"OTHER": 0, "START": 1, "RUNNING": 2, "COMPLETE": 3, "ABORT": 3, "FAIL": 3}
"""A run never goes back: of two states the higher rank stands, then the later, then the greater name."""
START_RANK = STATE_RANK["START"]
END_RANK = STATE_RANK["COMPLETE"]


@dataclass(frozen=True, order=True, slots=True)
class Saying:
    """That an event said something of a node.

    Attributes:
        name: What kind of thing is said; of one name the newest by (at, event_id) stands.
        event_id: Who said it: ties at the same instant are settled by it.
    """

    namespace: str
    node: str
    name: str
    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Run:
    """How far a run is known to have come.

    Attributes:
        state: As OpenLineage has it.
        state_at: When the event that gave the state took place.
        started_at: The earliest START.
        ended_at: The latest end.
    """

    state: str
    state_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @classmethod
    def seen(cls, state: str, at: datetime) -> Self:
        """Return what one event tells of a run."""
        rank = STATE_RANK[state]
        return cls(state, at, at if rank == START_RANK else None, at if rank == END_RANK else None)

    def joined(self, other: "Run") -> "Run":
        """Return what both tell together."""
        ahead = max(self, other, key=lambda run: (STATE_RANK[run.state], run.state_at, run.state))
        starts = [at for at in (self.started_at, other.started_at) if at]
        ends = [at for at in (self.ended_at, other.ended_at) if at]
        return Run(ahead.state, ahead.state_at, min(starts, default=None), max(ends, default=None))


@dataclass(frozen=True, order=True, slots=True)
class Answer:
    """One prediction as logged; of two with the same id the greater stands.

    Attributes:
        detail: Canonical JSON.
    """

    predicted_at: datetime
    deployment: str
    detail: str


Node = tuple[str, str]
"""(namespace, id)"""
Edge = tuple[str, str, str]
"""(namespace, from, to): `to` rests on `from`."""


@dataclass(slots=True)
class Graph:
    """A part of the graph, or all of it; parts are joined by `join`.

    Joining is commutative, associative and idempotent: every field is a set that only grows, a least or greatest
    time, or a greatest element of a total order. A node that was only mentioned is a node with no facts yet.

    Attributes:
        nodes: When each was first heard of.
        edges: When each was first heard of.
        facts: All that was ever said, canonical JSON each, so that any moment's view can be told; where one event says
            two things of one name, the greater text stands.
        runs: By the run's node.
        answers: Single predictions; they are looked up, not walked.
    """

    nodes: dict[Node, datetime] = field(default_factory=dict)
    edges: dict[Edge, datetime] = field(default_factory=dict)
    facts: dict[Saying, str] = field(default_factory=dict)
    runs: dict[Node, Run] = field(default_factory=dict)
    answers: dict[Node, Answer] = field(default_factory=dict)

    def mention(self, namespace: str, node: str, at: datetime) -> str:
        """Note that a node exists; return its id."""
        key = (namespace, node)
        self.nodes[key] = min(at, self.nodes.get(key, at))
        return node

    def connect(self, namespace: str, source: str, target: str, at: datetime) -> None:
        """Note that `target` rests on `source`."""
        self.mention(namespace, source, at)
        self.mention(namespace, target, at)
        key = (namespace, source, target)
        self.edges[key] = min(at, self.edges.get(key, at))

    def say(self, namespace: str, node: str, name: str, value: object, *, at: datetime, event_id: str) -> None:
        """Note what an event says of a node."""
        self.mention(namespace, node, at)
        saying, text = Saying(namespace, node, clean(name), at, event_id), capped(canonical(value))
        self.facts[saying] = max(text, self.facts.get(saying, text))

    def reach(self, namespace: str, node: str, state: str, at: datetime) -> None:
        """Note that a run came to a state."""
        self.mention(namespace, node, at)
        seen, key = Run.seen(state, at), (namespace, node)
        self.runs[key] = self.runs[key].joined(seen) if key in self.runs else seen

    def answer(self, namespace: str, prediction_id: str, answer: Answer) -> None:
        """Note a prediction."""
        key = (namespace, prediction_id)
        self.answers[key] = max(answer, self.answers.get(key, answer))

    def join(self, other: "Graph") -> Self:
        """Take in another part."""
        for node, at in other.nodes.items():
            self.nodes[node] = min(at, self.nodes.get(node, at))
        for edge, at in other.edges.items():
            self.edges[edge] = min(at, self.edges.get(edge, at))
        for saying, text in other.facts.items():
            self.facts[saying] = max(text, self.facts.get(saying, text))
        for node, run in other.runs.items():
            self.runs[node] = self.runs[node].joined(run) if node in self.runs else run
        for key, answer in other.answers.items():
            self.answers[key] = max(answer, self.answers.get(key, answer))
        return self

    def dump(self) -> bytes:
        """Return the graph as text that is the same for the same graph."""
        return canonical(
            {
                "nodes": [(*node, at.isoformat()) for node, at in sorted(self.nodes.items())],
                "edges": [(*edge, at.isoformat()) for edge, at in sorted(self.edges.items())],
                "facts": [
                    (saying.namespace, saying.node, saying.name, saying.at.isoformat(), saying.event_id, text)
                    for saying, text in sorted(self.facts.items())
                ],
                "runs": [
                    (*node, run.state, *(at and at.isoformat() for at in (run.state_at, run.started_at, run.ended_at)))
                    for node, run in sorted(self.runs.items())
                ],
                "answers": [
                    (*key, answer.predicted_at.isoformat(), answer.deployment, answer.detail)
                    for key, answer in sorted(self.answers.items())
                ],
            }
        ).encode()


def joined(graphs: Iterable[Graph]) -> Graph:
    """Return all parts together."""
    whole = Graph()
    for graph in graphs:
        whole.join(graph)
    return whole


def canonical(value: object) -> str:
    """Return JSON that is the same text for the same value, in ASCII.

    Raises:
        InvalidInput: It nests too deeply, or holds a number beyond any bound.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        raise InvalidInput("the value nests too deeply or holds a number that JSON does not have") from None


def content_id(value: object) -> str:
    """Return the SHA-256 of a value's canonical JSON, hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def capped(value: str) -> str:
    """Return a fact's JSON, or, where it is too long to keep, its length and digest in its place."""
    if len(value) <= MAX_FACT_BYTES:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()
    return canonical({"_truncated": {"bytes": len(value), "sha256": digest}})


def clean(name: str) -> str:
    """Return a name as the database can keep and index it; a very long one ends in its digest."""
    plain = name.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    if len(plain) <= MAX_NAME_CHARS:
        return plain
    return f"{plain[:MAX_NAME_CHARS]}…{hashlib.sha256(plain.encode()).hexdigest()}"


def utc(at: datetime) -> datetime:
    """Return an instant in UTC; one without a zone is taken to be in it."""
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
