"""Large values between the functions of a team, with control between them: it hands on references, and reads none."""

from pathlib import Path
from typing import Any

import pytest
from millrace.contracts.tasks import Carried, TaskDispatched
from millrace.control.commands import StartRun
from millrace.control.handlers import fire_due, look_at_results, start_run
from millrace.control.store import Store
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.tasks.attempts import check_size
from millrace.sdk.worker import kinds_of

from .test_handlers import force, orders, report, success

TASKS = """
from millrace.sdk.flows import task

@task("data.rows")
def rows(n):
    return {"n": n, "table": ["x" * 1_000] * n}

@task("data.count")
def count(table):
    return {"n": len(table)}
"""
ROWS: dict[str, Any] = {"kind": "data.rows", "input": {"n": {"$from": "/trigger/data/n"}}, "cache": {}}
FLOW: dict[str, Any] = {
    "rows": ROWS,
    "count": {"kind": "data.count", "needs": ["rows"], "input": {"table": {"$from": "/tasks/rows/output/table"}}},
    "each": {
        "needs": ["rows"],
        "foreach": {
            "items": {"$from": "/tasks/rows/output/table"},
            "do": {
                "tasks": {"one": {"kind": "data.count", "input": {"table": {"$from": "/item/each"}}}},
                "output": {"$from": "/tasks/one/output/n"},
            },
        },
    },
    "large": {"kind": "data.tell", "needs": ["rows"], "when": "outputs.rows.n > 100"},
    "wrong": {"kind": "data.tell", "needs": ["rows", "count", "each"], "when": "size(outputs.rows.table) > 100"},
}


class _Job:
    """An attempt's surroundings, as far as a function of a team sees them."""

    preempted = False

    def __init__(self, artifacts: Artifacts, task: TaskDispatched) -> None:
        self.artifacts, self.task = artifacts, task

    def progress(self, fraction: float, message: str = "") -> None:
        """Nobody listens."""

    def carry(self, carried: Carried) -> None:
        """Nothing is left to a next attempt."""


async def test_l4_a_large_value_goes_through_control_by_reference_and_from_the_cache_too(
    tx: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_large.py").write_text(TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    kinds = {row.kind: row for row in kinds_of("acme_large", "data")}
    artifacts = Artifacts((tmp_path / "artifacts").as_uri())
    await force(tx, **FLOW)

    async def work() -> None:
        """Do what is ordered and let happen what is due, until nothing is."""
        done = 0
        while True:
            due, turns = await tx.due()
            if keys := [turn for turn in turns if turn.key]:
                await look_at_results(keys, tx)
            await fire_due(due, tx)
            if not due and not turns and done == len(orders(tx)):
                return
            for order in orders(tx)[done:]:
                done += 1
                job: Any = _Job(artifacts, order)
                row = kinds.get(order.kind)
                output = row.work(row.input.model_validate(order.input), job) if row is not None else {}
                check_size(order, output)
                await report(tx, success(order, **output))

    outputs = []
    for _ in range(2):
        asked = StartRun(namespace="demo", principal="ada", workflow="w", data={"n": 300})
        run_id = (await start_run(asked, tx)).run.run_id
        await work()
        run = (await tx.run("demo", run_id)).run
        outputs.append({name: task.output for name, task in run.tasks.items()})
        assert {name: str(task.state) for name, task in run.tasks.items()} == {
            **dict.fromkeys(("rows", "count", "each", "large"), "succeeded"),
            "wrong": "failed",
        }
        assert str(run.tasks["wrong"].failure).startswith("LargeValue: ")

    assert [order.kind for order in orders(tx)].count("data.rows") == 1
    assert outputs[0] == outputs[1]
    assert outputs[0]["count"] == {"n": 300}
    assert outputs[0]["each"]["items"] == [1_000] * 300
    assert outputs[0]["rows"]["table"].keys() == {"$artifact", "$bytes", "$items"}
