"""How the graph is walked, and what a walk tells of one thing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Pair = tuple[str, str]
"""(from, to)"""
Facts = Mapping[str, Mapping[str, Any]]
"""Node -> what is said of it, by name."""

ROOT_KINDS = ("file", "feature.declaration")
"""What no run makes: bytes from outside, and what people declared."""
PROCESS_KINDS = ("run", "job")
NAME_FIELDS = (
    ("dataset", "partition"),
    ("model", "version"),
    ("workflow", "name"),
    ("view",),
    ("workflow",),
    ("uri",),
    ("name",),
)


def kind_of(node: str) -> str:
    """Return what kind of thing a node is, such as `data.version`."""
    return node.partition(":")[0]


@dataclass
class Walk:
    """A walk by levels from one node, that says when a limit cut it.

    Attributes:
        limit: Most nodes it may visit.
        depths: Each visited node's distance from the start.
        edges: Between visited nodes, as (from, to).
        frontier: The nodes of the last level.
        reason: Which limit cut it, or empty.
    """

    start: str
    upstream: bool
    limit: int
    depths: dict[str, int] = field(default_factory=dict)
    edges: set[Pair] = field(default_factory=set)
    frontier: list[str] = field(default_factory=list)
    reason: str = ""

    def __post_init__(self) -> None:
        self.depths = {self.start: 0}
        self.frontier = [self.start]

    def step(self, edges: Iterable[Pair]) -> None:
        """Take the next level: the edges that begin (downstream) or end (upstream) in the frontier."""
        depth = self.depths[self.frontier[0]] + 1
        fresh: list[str] = []
        for edge in sorted(edges):
            node = edge[0] if self.upstream else edge[1]
            if node not in self.depths:
                if len(self.depths) >= self.limit:
                    self.reason = f"more than {self.limit} nodes"
                    continue
                self.depths[node] = depth
                fresh.append(node)
            self.edges.add(edge)
        self.frontier = fresh

    def cut(self, edges: Iterable[Pair], depth: int) -> None:
        """Stop here; `edges` would have been the next level."""
        beyond = (edge[0] if self.upstream else edge[1] for edge in edges)
        if any(node not in self.depths for node in beyond):
            self.reason = self.reason or f"deeper than {depth} edges"
        self.frontier = []


def without_shortcuts(edges: Iterable[Pair]) -> list[Pair]:
    """Return the edges without those that only repeat a way through a run."""
    kept = set(edges)
    into_run: dict[str, list[str]] = {}
    for source, target in kept:
        if kind_of(target) == "run":
            into_run.setdefault(target, []).append(source)
    ways = {(source, target) for run, target in kept if kind_of(run) == "run" for source in into_run.get(run, [])}
    return sorted(edge for edge in kept if edge not in ways)


@dataclass(frozen=True, slots=True)
class Hop:
    """One thing on the way back from a prediction.

    Attributes:
        run: The workflow's run in which it was made, or, from outside, the run itself.
        task: What made it: the task's name in its workflow.
        task_id: That task's id.
        task_kind: What the task did, such as `training.tune`.
        made_from: What it rests on.
    """

    depth: int
    node: str
    run: str
    task: str
    task_id: str
    task_kind: str
    made_from: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The way back from one thing to the files that it rests on.

    Attributes:
        missing: What is not known, in words; empty when every way ends in a file or a declaration.
    """

    hops: Sequence[Hop]
    missing: Sequence[str]


def explanation(start: str, edges: Iterable[Pair], facts: Facts) -> Explanation:
    """Return the hops back from `start`, breadth first, and what is missing on the way.

    Args:
        start: The thing to explain.
        edges: All that lies upstream of it.
        facts: What is said of the runs upstream.
    """
    sources: dict[str, set[str]] = {}
    for source, target in edges:
        sources.setdefault(target, set()).add(source)
    hops: list[Hop] = []
    missing: list[str] = []
    seen, level, depth = {start}, [start], 0
    while level:
        following: set[str] = set()
        for node in level:
            hop = _hop(depth, node, sources, facts)
            hops.append(hop)
            missing += _missing(hop)
            following |= set(hop.made_from) - seen
        seen |= following
        level, depth = sorted(following), depth + 1
    return Explanation(hops, missing)


def _hop(depth: int, node: str, sources: Mapping[str, set[str]], facts: Facts) -> Hop:
    into = sources.get(node, set())
    makers = sorted(source for source in into if kind_of(source) == "run")
    rests_on = into | {thing for maker in makers for thing in sources.get(maker, ())}
    made_from = tuple(sorted(thing for thing in rests_on if kind_of(thing) not in PROCESS_KINDS and thing != node))
    if not makers:
        return Hop(depth, node, "", "", "", "", made_from)
    maker = makers[0]
    about = facts.get(maker, {}).get("millrace_task", {})
    job = facts.get(maker, {}).get("job", {}).get("node", "")
    parents = sorted(source for source in sources.get(maker, ()) if kind_of(source) == "run")
    return Hop(
        depth,
        node,
        identifier((parents or makers)[0]),
        str(about.get("name") or identifier(job)),
        identifier(maker),
        str(about.get("kind", "")),
        made_from,
    )


def _missing(hop: Hop) -> list[str]:
    if kind_of(hop.node) in ROOT_KINDS:
        return []
    if not hop.task_id:
        return [f"{hop.node}: no run is known that made it"]
    if not hop.made_from:
        return [f"{hop.node}: nothing is known that it was made from"]
    return []


def identifier(node: str) -> str:
    """Return a node's id without its kind."""
    return node.partition(":")[2]


def newest(sayings: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return what stands of one node, by name, from what was said of it, oldest first; what was deleted is gone.

    Args:
        sayings: (name, JSON).
    """
    found = {name: json.loads(value) for name, value in sayings}
    return {name: value for name, value in sorted(found.items()) if not _deleted(value)}


def _deleted(value: object) -> bool:
    return isinstance(value, dict) and value.get("_deleted") is True


def display_name(node: str, facts: Mapping[str, Any]) -> str:
    """Return what people call a node: what its facts say it is, or its id."""
    said: dict[str, Any] = {}
    for value in facts.values():
        if isinstance(value, dict):
            more = value.get("facts")
            said |= value | (more if isinstance(more, dict) else {})
    for fields in NAME_FIELDS:
        words = [said.get(name) for name in fields]
        if all(isinstance(word, str | int) and word != "" for word in words):
            return " ".join(map(str, words))
    return identifier(node)
