"""What a team's worker does is in the graph and in the ledger, as what the services do is."""

import json
from pathlib import Path
from typing import Any

import pytest
from millrace.runtime.errors import NotFound
from millrace.runtime.testing import Server, until

from tests.journeys.team import team_of, work


@pytest.mark.parametrize("how", ["kafka", "faststream", "grpc"])
async def test_a_run_with_a_task_on_a_teams_queue_has_its_nodes_and_its_cost(
    how: str, postgres: Server, broker: Any, tmp_path: Path
) -> None:
    beside = ("lineage", "observability")
    async with team_of(postgres, broker.servers, tmp_path, how, beside=beside) as team:
        team.start()
        run_id = await team.run({"tasks": {"wave": work(f"{team.queue}.wave", input={"name": "ada"})}})
        run = await team.ended(run_id)
        (task,) = run.tasks

        async def in_the_graph() -> Any:
            try:
                graph = await team.client.graph(f"run:{task.task_id}", "upstream")
            except NotFound:
                return None
            found = {(edge.from_node, edge.to_node) for edge in graph.edges}
            return (f"run:{run_id}", f"run:{task.task_id}") in found and graph

        async def in_the_ledger() -> Any:
            try:
                cost = await team.client.cost(run_id)
            except NotFound:
                return None
            return cost if cost.state == "succeeded" and any(step.duration_s for step in cost.steps) else None

        graph = await until(in_the_graph, seconds=60)
        cost = await until(in_the_ledger, seconds=60)

    (facts,) = (json.loads(node.facts_json) for node in graph.nodes if node.id == f"run:{task.task_id}")
    assert (facts["millrace_task"]["kind"], facts["millrace_task"]["service"]) == (f"{team.queue}.wave", team.queue)
    assert f"job:millrace://demo:{run.workflow}.wave" in {node.id for node in graph.nodes}
    (step,) = cost.steps
    assert (cost.state, step.task, step.attempts) == ("succeeded", "wave", 1)
    assert step.cost == pytest.approx(cost.cost)
