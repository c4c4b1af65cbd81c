"""gRPC in: translate, hand over, translate back."""

import json
from collections.abc import Mapping
from typing import Any

from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as pb
from millrace.lineage.commands import USUAL_NODES, Direction, Explain, GetGraph
from millrace.lineage.domain.graph import Run
from millrace.lineage.domain.walk import Hop, display_name, kind_of
from millrace.lineage.handlers import Explained, View, explain, view_graph
from millrace.lineage.store import Store
from millrace.runtime.command import instant

DIRECTIONS: dict[int, Direction] = {
    pb.DIRECTION_UNSPECIFIED: "both",
    pb.DIRECTION_UPSTREAM: "upstream",
    pb.DIRECTION_DOWNSTREAM: "downstream",
    pb.DIRECTION_BOTH: "both",
}


class LineageApi:
    """`LineageService`."""

    async def GetGraph(self, request: pb.GetGraphRequest, tx: Store) -> pb.GetGraphResponse:
        """See the proto."""
        return _graph(await view_graph(_get_graph(request), tx))

    async def Explain(self, request: pb.ExplainRequest, tx: Store) -> pb.ExplainResponse:
        """See the proto."""
        return _explained(await explain(Explain(namespace=request.namespace, prediction_id=request.prediction_id), tx))


def _get_graph(request: pb.GetGraphRequest) -> GetGraph:
    return GetGraph(
        namespace=request.namespace,
        node=request.node,
        direction=DIRECTIONS.get(request.direction, "both"),
        depth=request.depth,
        max_nodes=request.max_nodes or USUAL_NODES,
        as_of=instant(request.as_of, "as_of") if request.HasField("as_of") else None,
    )


def _graph(view: View) -> pb.GetGraphResponse:
    return pb.GetGraphResponse(
        nodes=[_node(node, view.facts.get(node, {}), view.runs.get(node)) for node in view.nodes],
        edges=[pb.Edge(from_node=source, to_node=target) for source, target in view.edges],
        truncated=bool(view.reason),
        reason=view.reason,
    )


def _node(node: str, facts: Mapping[str, Any], run: Run | None = None) -> pb.Node:
    shown = dict(facts)
    if run:
        times = {"started_at": run.started_at, "ended_at": run.ended_at}
        shown["run"] = {"state": run.state} | {name: at.isoformat() for name, at in times.items() if at}
    return pb.Node(id=node, kind=kind_of(node), name=display_name(node, facts), facts_json=json.dumps(shown))


def _explained(explained: Explained) -> pb.ExplainResponse:
    response = pb.ExplainResponse(
        prediction_json=explained.answer.detail if explained.answer else "",
        hops=[_hop(hop, explained.names.get(hop.node, {})) for hop in explained.way.hops],
        complete=not explained.way.missing,
        missing=explained.way.missing,
    )
    response.predicted_at.FromDatetime(explained.predicted_at)
    return response


def _hop(hop: Hop, facts: Mapping[str, Any]) -> pb.Hop:
    return pb.Hop(
        depth=hop.depth,
        node=_node(hop.node, facts),
        made_by_run=hop.run,
        made_by=hop.task,
        made_by_task=hop.task_id,
        made_by_kind=hop.task_kind,
        made_from=hop.made_from,
    )
