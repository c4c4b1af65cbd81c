"""Services in one process without a broker: what one tells, the others understand."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts import control as facts
from millrace.contracts.event import Event
from millrace.contracts.inference import DeploymentReady, prediction_id
from millrace.contracts.openlineage import LineageReported, ref, run_event
from millrace.contracts.tasks import TaskDispatched, TaskFailed, TaskReport, TaskSucceeded
from millrace.control import handlers as control
from millrace.control.commands import ApplyTrigger, ApplyWorkflow, read_trigger, read_workflow
from millrace.control.store import Store as ControlStore
from millrace.core.ir import Task
from millrace.core.yaml import load_workflow
from millrace.lineage import handlers as lineage
from millrace.lineage.commands import Explain
from millrace.lineage.store import Store as LineageStore
from millrace.observability import handlers as observability
from millrace.observability.commands import GetRunCost
from millrace.observability.domain import Price
from millrace.observability.store import Store as ObservabilityStore
from millrace.runtime.database import Database, Transactions
from millrace.runtime.subscriptions import Record, on
from millrace.runtime.testing import Participant, Server, fresh_database, settle
from millrace.runtime.transaction import Transaction

from infra.documents import said, tasks

ROOT = Path(__file__).resolve().parents[1]
DECLARATIONS = ROOT / "tests/journeys/declarations"
WORKFLOWS = [
    DECLARATIONS / "workflow.yaml",
    *sorted((ROOT / "examples").glob("*/workflows/*.yaml")),
]
DIGEST = "ab" * 32
DEPLOYMENT = UUID(int=77)
#: What each kind of task reads, makes and hands on, in the one run there is.
WORK: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "data.ingest": ([ref("file", f"sha256:{DIGEST}")], ref("data.version", "v"), {"version_id": "v"}),
    "feature.training_set": ([ref("data.version", "v")], ref("feature.training_set", "s"), {"training_set_id": "s"}),
    "training.tune": ([ref("feature.training_set", "s")], ref("training.model", "m"), {"version": 1}),
    "training.evaluate": ([ref("training.model", "m")], ref("training.evaluation", "e"), {"verdict": "passed"}),
    "feature.materialise": ([ref("data.version", "v")], ref("feature.view", "g"), {}),
    "inference.deploy": (
        [ref("training.model", "m")],
        ref("inference.deployment", str(DEPLOYMENT)),
        {"deployment_id": str(DEPLOYMENT), "first": True},
    ),
    "inference.shift": ([], "", {}),
    "training.promote": ([], "", {}),
}
CPU_S = 0.25


@dataclass
class Company:
    """Control, lineage and observability, with one that does all the work as the others would report it."""

    control: Participant
    lineage: Participant
    observability: Participant
    workers: Participant

    async def settle(self, *events: Event) -> list[Event]:
        return await settle(events, self.control, self.lineage, self.observability, self.workers)

    async def trigger(self) -> list[Event]:
        """Let the event of a month come in, and all that follows happen; return what was told."""
        async with self.control.begin() as tx:
            await control.take_records([landed()], tx)
        return await self.settle(*tx.emitted)


@pytest.fixture
async def company(postgres: Server) -> AsyncIterator[Company]:
    async with AsyncExitStack() as opened:

        async def begin(service: str, store: type[Transaction]) -> Transactions[Any]:
            database = Database(await fresh_database(postgres, service), pool_size=2)
            return Transactions(await opened.enter_async_context(database), store)

        queues = [f"control.tasks.{name}" for name in ("data", "feature", "training", "inference")]
        made = Company(
            Participant(control.SUBSCRIPTIONS, await begin("control", ControlStore)),
            Participant(lineage.SUBSCRIPTIONS, await begin("lineage", LineageStore)),
            Participant(observability.SUBSCRIPTIONS, await begin("observability", ObservabilityStore)),
            Participant([on(TaskDispatched, work, start="now", topics=queues)], await begin("data", Transaction)),
        )
        async with made.control.begin() as tx:
            own = {"namespace": "shop", "principal": "ada"}
            workflow = read_workflow((DECLARATIONS / "workflow.yaml").read_text())
            await control.apply_workflow(ApplyWorkflow(**own, workflow=workflow), tx)
            trigger = read_trigger((DECLARATIONS / "trigger.yaml").read_text())
            await control.apply_trigger(ApplyTrigger(**own, trigger=trigger), tx)
        async with made.observability.begin() as tx:
            tx.set_price(Price(Decimal("3.6"), "EUR"))
        yield made


async def work(order: TaskDispatched, tx: Transaction) -> None:
    """Do as a service does in the transaction that ends a task."""
    used, made, output = WORK[order.kind]
    if order.kind == "inference.deploy":
        ready = {"deployment_id": DEPLOYMENT, "model": "orders.returned", "version": 1, "version_id": "m"}
        tx.emit(DeploymentReady(namespace=order.namespace, **ready))
    event = run_event(
        namespace=order.namespace, service=order.queue, task=order, time=tx.now, state="COMPLETE", used=used,
        made={made: {}} if made else {},
    )  # fmt: skip
    tx.emit(LineageReported(namespace=order.namespace, service=order.queue, run_id=order.task_id, event=event))
    tx.emit(TaskSucceeded(**about(order), output=output, duration_s=1.0, cpu_s=CPU_S))


async def fail(order: TaskDispatched, tx: Transaction) -> None:
    """Do as a service does when the work can never succeed."""
    reason = {"error": "InvalidInput", "message": "the file lacks column pieces", "retryable": False}
    tx.emit(TaskFailed(**about(order), **reason))


def about(order: TaskDispatched) -> dict[str, Any]:
    names = ("namespace", "task_id", "attempt", "token", "run_id", "kind", "name", "workflow")
    return {"service": order.queue, **{name: getattr(order, name) for name in names}}


def landed() -> Record:
    attributes = {"specversion": "1.0", "id": "2024-01", "source": "/shop/books", "type": "shop.orders.closed"}
    headers = tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
    data = {"month": "2024-01", "uri": "file:///orders.csv", "sha256": DIGEST}
    return Record("triggers", 0, 0, None, json.dumps(data).encode(), headers, 1_700_000_000_000)


def the_run(told: list[Event]) -> UUID:
    (started,) = [event for event in told if isinstance(event, facts.RunStarted)]
    return started.run_id


async def test_a_trigger_leads_step_by_step_to_a_run_that_succeeded(company: Company) -> None:
    told = await company.trigger()

    assert [event.kind for event in told if isinstance(event, TaskDispatched)] == list(WORK)
    assert [type(event) for event in told if isinstance(event, facts.RunEvent)] == [
        facts.RunStarted,
        facts.RunSucceeded,
    ]


async def test_lineage_knows_the_way_from_a_prediction_to_the_file_that_the_trigger_named(company: Company) -> None:
    told = await company.trigger()

    async with company.lineage.begin() as tx:
        asked = prediction_id(DEPLOYMENT, tx.new_id())
        explained = await lineage.explain(Explain(namespace="shop", prediction_id=asked), tx)

    assert explained.way.missing == []
    assert [hop.node for hop in explained.way.hops] == [
        ref("inference.deployment", str(DEPLOYMENT)),
        ref("training.model", "m"),
        ref("feature.training_set", "s"),
        ref("data.version", "v"),
        ref("file", f"sha256:{DIGEST}"),
    ]
    assert {hop.run for hop in explained.way.hops if hop.run} == {str(the_run(told))}


async def test_observability_knows_what_each_step_of_the_run_cost(company: Company) -> None:
    told = await company.trigger()

    async with company.observability.begin() as tx:
        cost = await observability.view_run_cost(GetRunCost(namespace="shop", run_id=the_run(told)), tx)

    assert cost.state == "succeeded"
    assert [(step.task, step.attempts, step.cpu_s) for step in cost.steps] == [
        (event.name, 1, CPU_S) for event in told if isinstance(event, TaskDispatched)
    ]
    assert cost.cpu_s == pytest.approx(CPU_S * len(WORK))


async def test_reports_and_the_trigger_told_again_move_nothing(company: Company) -> None:
    told = await company.trigger()
    reports = [event for event in told if isinstance(event, TaskReport)]

    assert await company.trigger() == []
    assert await company.settle(*reports) == reports


async def test_a_task_that_fails_for_good_ends_the_run_and_everybody_knows_why(company: Company) -> None:
    company.workers.subscriptions = [on(TaskDispatched, fail, start="now", topics=["control.tasks.data"])]

    told = await company.trigger()

    (ended,) = [event for event in told if isinstance(event, facts.RunFailed)]
    assert "the file lacks column pieces" in ended.cause
    async with company.observability.begin() as tx:
        cost = await observability.view_run_cost(GetRunCost(namespace="shop", run_id=the_run(told)), tx)
    async with company.lineage.begin() as tx:
        known = await tx.runs("shop", [ref("run", str(the_run(told)))], datetime(9999, 1, 1, tzinfo=UTC))
    assert cost.state == "failed"
    assert {run.state for run in known.values()} == {"FAIL"}


def test_every_event_that_is_told_has_somebody_who_listens() -> None:
    assert [f"{row.event.__name__} on {row.topic}" for row in said() if not row.listeners] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_task_of_a_workflow_is_work_that_its_service_takes_with_that_input(path: Path) -> None:
    workflow = load_workflow(path.read_text())

    wrong = {name: found for name, task in workflow.tasks.items() if task.kind and (found := misfit(task))}

    assert wrong == {}


def misfit(task: Task) -> str:
    """Return what is wrong between a task and the service that its order goes to, or nothing."""
    kinds = {row.kind: row.input for row in tasks(task.work_queue)}
    if task.kind not in kinds:
        return f"{task.work_queue} takes {', '.join(kinds) or 'no work'}, not {task.kind}"
    fields = kinds[task.kind].model_fields
    unknown = task.input.keys() - fields.keys()
    missing = {name for name, field in fields.items() if field.is_required()} - task.input.keys()
    return f"unknown {sorted(unknown)}, missing {sorted(missing)}" if unknown or missing else ""
