"""What the checker is told of a load: the logs of its clients, and what anybody may read afterwards."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.lineage.v1 import lineage_pb2
from millrace.contracts.rpc.observability.v1 import observability_pb2

from tests.faults.effects import Effect
from tests.faults.history import Entry
from tests.journeys.shop import Told


@dataclass(frozen=True)
class Facts:
    """All that the checker is told.

    Attributes:
        history: The clients' logs.
        told: What the services told while the load ran, per partition in order.
        everybody: The same, with what was told of other tenants: facts of a key are numbered for all of them together.
        explained: event -> what control says of it.
        runs: The runs that began meanwhile, by id.
        effects: What was done outside.
        versions: Of the dataset that the load's files go to.
        aliases: Of the model in use.
        graphs: node -> what lineage says of it and around it; None for one that it does not know.
        explanations: prediction -> the way back from it; None for one that lineage does not know.
        costs: run -> what it took; None for one that observability does not know.
        handled: topic -> how many of its events observability has counted meanwhile.
    """

    history: Sequence[Entry] = ()
    told: Sequence[Told] = ()
    everybody: Sequence[Told] = ()
    explained: Mapping[str, control_pb2.ExplainEventResponse] = field(default_factory=dict)
    runs: Mapping[str, control_pb2.Run] = field(default_factory=dict)
    effects: Sequence[Effect] = ()
    versions: Sequence[data_pb2.Version] = ()
    aliases: Sequence[str] = ()
    graphs: Mapping[str, lineage_pb2.GetGraphResponse | None] = field(default_factory=dict)
    explanations: Mapping[str, lineage_pb2.ExplainResponse | None] = field(default_factory=dict)
    costs: Mapping[str, observability_pb2.GetRunCostResponse | None] = field(default_factory=dict)
    handled: Mapping[str, int] = field(default_factory=dict)


def once(told: Sequence[Told]) -> list[Told]:
    """Return each event where it came first: a relay that is killed sends again what it cannot know to have arrived."""
    return list({one.event_id: one for one in told}.values())  # a dict keeps the place of the first


def grown(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Return by how much each count has grown; one that has not is among them."""
    return {name: now.get(name, 0) - before.get(name, 0) for name in now.keys() | before.keys()}


def event_of(run: control_pb2.Run) -> str:
    """Return what a run was started for: its event, or what the call that started it said."""
    if run.event_id:
        return run.event_id
    data = json.loads(run.trigger_data_json or "null")
    return str(data.get("event", "")) if isinstance(data, dict) else ""
