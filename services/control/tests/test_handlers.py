import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts import control as facts
from millrace.contracts.openlineage import LineageReported
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.contracts.tasks import (
    TaskCancelled,
    TaskDispatched,
    TaskFailed,
    TaskProgressed,
    TaskReport,
    TaskStarted,
    TaskSucceeded,
)
from millrace.control.api import ControlApi
from millrace.control.commands import (
    ApplyTrigger,
    ApplyWorkflow,
    DecideTask,
    ExplainEvent,
    SignalRun,
    StartRun,
)
from millrace.control.commands.operations import CancelRun
from millrace.control.domain.shown import in_order
from millrace.control.handlers import (
    apply_reports,
    apply_trigger,
    apply_workflow,
    cancel_run,
    decide_task,
    explain_event,
    fire_due,
    look_at_triggers,
    missing_subflows,
    signal_run,
    start_run,
    take_records,
)
from millrace.control.store import Store, definitions
from millrace.core.parse import parse_workflow
from millrace.core.triggers import Source, parse_trigger
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound
from millrace.runtime.hope import Hope
from millrace.runtime.subscriptions import Record
from millrace.runtime.telemetry import EVENTS_HELD
from millrace.runtime.testing import Server, fresh_database

CHAIN: dict[str, Any] = {
    "ingest": {"kind": "data.ingest", "input": {"uri": {"$from": "/trigger/data/uri"}}},
    "judge": {"kind": "training.evaluate", "needs": ["ingest"], "input": {"v": {"$from": "/tasks/ingest/output/v"}}},
    "refuse": {"needs": ["judge"], "when": "!outputs.judge.ok", "end": {"state": "refused", "reason": "not better"}},
    "deploy": {"kind": "inference.deploy", "needs": ["judge"], "when": "outputs.judge.ok"},
}
URI = {"uri": "file:///x"}


async def force(tx: Store, **tasks: Any) -> None:
    workflow = parse_workflow({"name": "w", "tasks": tasks or CHAIN})
    await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=workflow), tx)


async def trigger(tx: Store, name: str = "t", **fields: Any) -> bool:
    made = parse_trigger({"name": name, "workflow": "w", "source": {"topic": "triggers"}, **fields})
    return await apply_trigger(ApplyTrigger(namespace="demo", principal="bob", trigger=made), tx)


async def started(tx: Store) -> UUID:
    kept = await start_run(StartRun(namespace="demo", principal="ada", workflow="w", data=URI), tx)
    return kept.run.run_id


def orders(tx: Store) -> list[TaskDispatched]:
    return [event for event in tx.emitted if isinstance(event, TaskDispatched)]


def about(order: TaskDispatched) -> dict[str, Any]:
    names = ("namespace", "task_id", "attempt", "token", "run_id", "kind", "name", "workflow")
    return {"service": order.queue, **{name: getattr(order, name) for name in names}}


def success(order: TaskDispatched, **output: Any) -> TaskSucceeded:
    return TaskSucceeded(**about(order), output=output, duration_s=1.0, cpu_s=0.5)


def failure(order: TaskDispatched, error: str = "ValueError", **fields: Any) -> TaskFailed:
    return TaskFailed(**about(order), error=error, message="no", **{"retryable": True, **fields})


async def report(tx: Store, *reports: TaskReport) -> None:
    await apply_reports(reports, tx)


async def test_l3_a_run_goes_on_by_the_version_that_it_began_with_and_the_next_by_the_one_in_force(tx: Store) -> None:
    await force(tx, a={"kind": "data.x"}, b={"kind": "data.before", "needs": ["a"]})
    going = await started(tx)
    await force(tx, z={"kind": "data.after"})
    new = await started(tx)
    await report(tx, success(orders(tx)[0]))

    kinds = [(order.run_id, order.kind) for order in orders(tx)]
    assert kinds == [(going, "data.x"), (new, "data.after"), (going, "data.before")]


async def test_a_run_is_dispatched_step_by_step_to_its_end(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    for output in ({"v": "v1"}, {"ok": True}, {}):
        await report(tx, success(orders(tx)[-1], **output))

    assert [(order.kind, order.input, order.principal) for order in orders(tx)] == [
        ("data.ingest", URI, "ada"),
        ("training.evaluate", {"v": "v1"}, "ada"),
        ("inference.deploy", {}, "ada"),
    ]
    assert [type(event) for event in tx.emitted if isinstance(event, facts.RunEvent)] == [
        facts.RunStarted,
        facts.RunSucceeded,
    ]
    kept = await tx.run("demo", run_id)
    assert {name: str(task.state) for name, task in kept.run.tasks.items()} == {
        "ingest": "succeeded",
        "judge": "succeeded",
        "refuse": "skipped",
        "deploy": "succeeded",
    }


EACH: dict[str, Any] = {
    "list": {"kind": "data.list"},
    "each": {
        "needs": ["list"],
        "foreach": {
            "items": {"$from": "/tasks/list/output/months"},
            "concurrency": 2,
            "do": {
                "tasks": {"fit": {"kind": "training.tune", "input": {"month": {"$from": "/item/each"}}}},
                "output": {"$from": "/tasks/fit/output/score"},
            },
        },
    },
    "best": {
        "kind": "training.promote",
        "needs": ["each"],
        "input": {"scores": {"$from": "/tasks/each/output/items"}},
    },
}


async def test_a_run_goes_over_a_list_that_a_task_has_made_and_hands_on_what_each_item_came_to(tx: Store) -> None:
    await force(tx, **EACH)
    run_id = await started(tx)
    await report(tx, success(orders(tx)[-1], months=list(range(12))))
    most = 0
    while (order := orders(tx)[-1]).kind == "training.tune":
        told = [success(one, score=one.input["month"] * 10) for one in orders(tx) if one.kind == "training.tune"]
        await report(tx, *told)
        most = max(most, len((await tx.run("demo", run_id)).run.tasks))
    await report(tx, success(order, done=True))

    assert [one.name for one in orders(tx)[1:4]] == ["each[0].fit", "each[1].fit", "each[2].fit"]
    assert order.input == {"scores": [month * 10 for month in range(12)]}
    assert most <= 3 + 2 * 2, "a decision reads what goes on, not what is over"
    kept = await tx.run("demo", run_id)
    shown = [name for name, task in in_order(kept, (await tx.past(run_id, 100)).records) if task is not None]
    assert kept.run.state == "succeeded"
    assert shown[:5] == ["list", "each", "each[0]", "each[0].fit", "each[1]"]
    assert shown[-3:] == ["each[11]", "each[11].fit", "best"]


async def test_an_item_told_twice_counts_once(tx: Store) -> None:
    await force(tx, **EACH)
    run_id = await started(tx)
    await report(tx, success(orders(tx)[-1], months=[1, 2, 3]))
    first = next(order for order in orders(tx) if order.name == "each[0].fit")

    await report(tx, success(first, score=1), success(first, score=1))
    await report(tx, success(first, score=1))

    assert [order.name for order in orders(tx)][1:] == ["each[0].fit", "each[1].fit", "each[2].fit"]
    inner = (await tx.run("demo", run_id)).run.tasks["each"].inner
    assert inner is not None
    assert (inner["succeeded"], inner["open"]) == (1, 2)


async def test_a_run_over_nothing_ends_in_the_transaction_that_starts_it_with_its_output(tx: Store) -> None:
    tasks = {"each": {"foreach": EACH["each"]["foreach"] | {"items": []}}}
    workflow = parse_workflow(
        {"name": "w", "tasks": tasks, "output": {"scores": {"$from": "/tasks/each/output/items"}}}
    )
    await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=workflow), tx)

    run = (await tx.run("demo", await started(tx))).run

    assert (run.state, run.output) == ("succeeded", {"scores": []})


async def test_a_wait_of_weeks_holds_nobody_and_ends_by_the_clock(tx: Store) -> None:
    tasks = {"pause": {"wait": {"for_s": 14 * 86_400}}, "then": {"kind": "data.ingest", "needs": ["pause"]}}
    workflow = parse_workflow({"name": "w", "timeout_s": 30 * 86_400, "tasks": tasks})
    await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=workflow), tx)
    run_id = await started(tx)
    assert orders(tx) == []

    await tx.fetch(
        "UPDATE task SET due_at = now(), inner_state = jsonb_build_object('until', now()) WHERE run_id = $1", run_id
    )
    await fire_due([run_id], tx)

    assert [order.name for order in orders(tx)] == ["then"]


PLANNING: dict[str, Any] = {
    "ask": {"kind": "training.tune", "plans": True},
    "then": {"kind": "data.ingest", "needs": ["ask"], "input": {"n": {"$from": "/tasks/ask/output/n"}}},
}


async def test_what_a_task_plans_is_shown_before_it_runs_and_done_by_whoever_reads_it_next(tx: Store) -> None:
    await force(tx, **PLANNING)
    run_id = await started(tx)
    body = {"tasks": {"a": {"kind": "data.x"}, "b": {"kind": "data.y", "needs": ["a"]}}, "output": {"n": 7}}
    await report(tx, success(orders(tx)[-1], **{"$plan": body}))
    kept = await tx.run("demo", run_id)

    shown = {name: str(task.state) if task else "blocked" for name, task in in_order(kept, [])}
    assert shown == {
        "ask": "open",
        "ask.plan0": "open",
        "ask.plan0.a": "dispatched",
        "ask.plan0.b": "blocked",
        "then": "blocked",
    }
    definitions._plans.clear()  # as in another process
    await report(tx, success(orders(tx)[-1]))
    await report(tx, success(orders(tx)[-1]))
    assert [order.name for order in orders(tx)] == ["ask", "ask.plan0.a", "ask.plan0.b", "then"]
    assert orders(tx)[-1].input == {"n": 7}
    assert kept.sha256 == (await tx.run("demo", run_id)).sha256, "the run keeps its version"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"kind": "nobody.x"}, "InvalidPlan: a: there is no queue nobody"),
        (
            {"kind": "data.x", "heartbeat_timeout_s": 1},
            "InvalidPlan: ask.plan0.a: heartbeat_timeout_s: is less than 15",
        ),
        (
            {"kind": "data.x", "needs": ["b"]},
            "InvalidPlan: tasks.ask.planned.plan0.tasks.a.needs: there is no",
        ),
    ],
)
async def test_a_plan_that_no_worker_could_do_fails_its_task(tx: Store, task: dict[str, Any], said: str) -> None:
    await force(tx, **PLANNING)
    run_id = await started(tx)

    await report(tx, success(orders(tx)[-1], **{"$plan": {"tasks": {"a": task}}}))

    assert said in (await tx.run("demo", run_id)).run.cause


async def test_a_run_tells_why_its_tasks_were_skipped(tx: Store) -> None:
    work = {"kind": "data.x"}
    await force(tx, a=work, b={**work, "needs": ["a"], "when": "outputs.a.n > 1"}, c={**work, "needs": ["b"]})
    run_id = await started(tx)
    await report(tx, success(orders(tx)[-1], n=1))

    told = (await ControlApi().GetRun(pb.GetRunRequest(namespace="demo", run_id=str(run_id)), tx)).run.tasks

    assert [(task.state, task.skipped_because) for task in told] == [
        ("succeeded", ""),
        ("skipped", "its `when` was false: outputs.a.n > 1"),
        ("skipped", "it needs b, which was skipped"),
    ]


async def test_items_of_a_run_are_told_by_their_state_whether_they_are_kept_at_hand_or_not(tx: Store) -> None:
    fit = {"kind": "data.x", "retries": {"max_attempts": 1}, "compensate": {"tasks": {"undo": {"kind": "data.y"}}}}
    body = {"tasks": {"fit": fit}}
    await force(tx, each={"foreach": {"items": [0, 1, 2, 3], "tolerate": {"count": 2}, "do": body}})
    run_id = await started(tx)
    first = orders(tx)
    await report(tx, success(first[0]), failure(first[1]), success(first[2]))

    async def told(**asked: Any) -> tuple[list[str], str]:
        request = pb.GetRunRequest(namespace="demo", run_id=str(run_id), **asked)
        found = await ControlApi().GetRun(request, tx)
        return [task.name for task in found.run.tasks if task.name.endswith("]")], found.next_after

    assert await told() == (["each[0]", "each[1]", "each[2]", "each[3]"], "")
    assert await told(items="failed") == (["each[1]"], "")
    assert await told(items="succeeded") == (["each[0]", "each[2]"], "")
    with pytest.raises(InvalidInput, match="items"):
        await told(items="broken")
    with pytest.raises(InvalidInput, match="after"):
        await told(after="each[1]")


async def test_what_only_a_run_can_plan_is_refused_from_an_author() -> None:
    planned = {"plan0": {"tasks": {"a": {"kind": "data.x"}}}}
    workflow = parse_workflow({"name": "w", "tasks": {"ask": {**PLANNING["ask"], "planned": planned}}})

    with pytest.raises(InvalidInput, match="what is planned is found out in a run"):
        ApplyWorkflow(namespace="demo", principal="ada", workflow=workflow)


async def test_a_subflow_may_be_applied_later_and_is_told_of_until_it_is(tx: Store) -> None:
    sub = {"subflow": {"workflow": "child"}}
    outer = parse_workflow({"name": "w", "tasks": {"a": {"foreach": {"items": [1], "do": {"tasks": {"b": sub}}}}}})

    before = await missing_subflows(outer, "demo", tx)
    await tx.put_workflow("demo", parse_workflow({"name": "child", "tasks": {"a": {"kind": "data.x"}}}), "ada")

    field = "tasks.a.foreach.do.tasks.b.subflow.workflow"
    assert before == [f"{field}: there is no workflow child in namespace demo yet: apply it before a run comes to this"]
    assert await missing_subflows(outer, "demo", tx) == []
    assert len(await missing_subflows(outer, "other", tx)) == 1


async def family(tx: Store, **subflow: Any) -> tuple[UUID, UUID]:
    """A run that has started a run of another workflow: the ids of both."""
    child = parse_workflow(
        {
            "name": "child",
            "tasks": {"fit": {"kind": "training.tune", "input": {"n": {"$from": "/trigger/data/n"}}}},
            "output": {"score": {"$from": "/tasks/fit/output/score"}},
        }
    )
    await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=child), tx)
    tasks = {
        "sub": {"subflow": {"workflow": "child", "data": {"n": {"$from": "/trigger/data/uri"}}, **subflow}},
        "then": {"kind": "data.ingest", "needs": ["sub"], "input": {"s": {"$from": "/tasks/sub/output/score"}}},
    }
    await force(tx, **tasks)
    parent = await started(tx)
    inner = (await tx.run("demo", parent)).run.tasks["sub"].inner
    assert inner is not None
    assert str((await tx.run("demo", UUID(inner["run_id"]))).run.state) == "pending", "it begins by itself"
    await deliver(tx)
    return parent, UUID(inner["run_id"])


async def deliver(tx: Store) -> None:
    """Do what is due, as the clock does, until nothing is."""
    while (due := (await tx.due())[0]) and await fire_due(due, tx):
        if not await tx.fetch("SELECT 1 FROM mail LIMIT 1"):
            return


async def test_a_task_starts_a_run_of_another_workflow_and_hands_on_what_that_does(tx: Store) -> None:
    parent, child = await family(tx)
    assert (orders(tx)[-1].run_id, orders(tx)[-1].input) == (child, {"n": URI["uri"]})

    await report(tx, success(orders(tx)[-1], score=0.9))
    assert (await tx.run("demo", parent)).run.tasks["sub"].state == "waiting", "it is told under its own lock"
    await deliver(tx)
    await deliver(tx)

    assert (orders(tx)[-1].run_id, orders(tx)[-1].input) == (parent, {"s": 0.9})
    lineage = [event for event in tx.emitted if isinstance(event, LineageReported) and event.run_id == child]
    assert lineage[0].event["run"]["facets"]["parent"]["job"]["name"] == "sub"


@pytest.mark.parametrize(("on_stop", "ends"), [("cancel", "cancelled"), ("abandon", "running")])
async def test_a_run_that_is_cancelled_takes_the_one_it_has_started_with_it_or_leaves_it(
    tx: Store, on_stop: str, ends: str
) -> None:
    parent, child = await family(tx, on_stop=on_stop)
    order = orders(tx)[-1]

    await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=parent), tx)
    await deliver(tx)
    if on_stop == "cancel":
        assert str((await tx.run("demo", parent)).run.state) == "ending", "it waits for the other"
        await report(tx, failure(order, "cancelled"))
        await deliver(tx)

    assert str((await tx.run("demo", child)).run.state) == ends
    assert str((await tx.run("demo", parent)).run.state) == "cancelled"


async def test_a_child_that_is_started_and_stopped_at_once_is_cancelled_and_mail_is_told_once(tx: Store) -> None:
    child = parse_workflow({"name": "child", "tasks": {"fit": {"kind": "training.tune"}}})
    await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=child), tx)
    await force(tx, sub={"subflow": {"workflow": "child"}}, stop={"gate": {"condition": "false"}})
    parent = await started(tx)
    await fire_due((await tx.due())[0], tx)
    await report(tx, *(failure(order, "cancelled") for order in orders(tx)))
    await deliver(tx)

    runs = {kept.workflow: str(kept.run.state) for kept in await tx.list_runs("demo", "", "", None, 10)}
    assert runs == {"w": "refused", "child": "cancelled"}
    assert await tx.take_mail([parent]) == {}
    assert len([event for event in tx.emitted if isinstance(event, facts.RunCancelled)]) == 1


async def test_a_workflow_that_starts_many_of_itself_starts_them_one_transaction_after_another(tx: Store) -> None:
    await force(tx, **{f"sub{n}": {"subflow": {"workflow": "w"}} for n in range(3)})
    await started(tx)
    counts = [len(await tx.list_runs("demo", "", "", None, 500))]
    for _ in range(2):
        await fire_due((await tx.due())[0], tx)
        counts.append(len(await tx.list_runs("demo", "", "", None, 500)))

    assert counts == [1 + 3, 1 + 3 + 9, 1 + 3 + 9 + 27]


async def test_a_run_that_fails_fails_the_task_that_started_it_with_its_cause(tx: Store) -> None:
    parent, child = await family(tx)

    await report(tx, failure(orders(tx)[-1], retryable=False))
    await deliver(tx)

    run = (await tx.run("demo", parent)).run
    assert run.cause == f"task sub failed: SubflowFailed: run {child} failed: task fit failed: ValueError: no"


async def test_a_workflow_that_does_not_exist_fails_its_task_and_one_that_starts_itself_ends(
    tx: Store,
) -> None:
    await force(tx, sub={"subflow": {"workflow": "nothing"}})
    lost = await started(tx)
    await force(tx, sub={"subflow": {"workflow": "w"}})
    endless = await started(tx)
    for _ in range(20):
        await deliver(tx)

    assert "workflow nothing in namespace demo does not exist" in (await tx.run("demo", lost)).run.cause
    run = (await tx.run("demo", endless)).run
    assert run.state == "failed"
    assert "runs start one another more than 8 deep" in run.cause


PEOPLE: dict[str, Any] = {
    "labels": {"wait": {"signal": "labels_ready"}},
    "ok": {
        "needs": ["labels"],
        "approve": {"assignees": ["eve"], "role": "MANAGE", "need": 2, "form": {"budget": {"type": "number"}}},
    },
    "deploy": {"kind": "inference.deploy", "needs": ["ok"], "when": "outputs.ok.approved"},
}


def vote(run_id: UUID, principal: str, role: int = 1, **more: Any) -> DecideTask:
    told = {"task": "ok", "approve": True, "form": {"budget": 3}, **more}
    return DecideTask(namespace="demo", principal=principal, role=role, run_id=run_id, **told)


async def asking(tx: Store) -> UUID:
    await force(tx, **PEOPLE)
    run_id = await started(tx)
    signal = SignalRun(namespace="demo", principal="ada", run_id=run_id, signal="labels_ready", data={"n": 1})
    await signal_run(signal, tx)
    return run_id


async def test_a_signal_that_comes_before_its_task_waits_is_kept_with_the_run(tx: Store) -> None:
    await force(tx, first={"kind": "data.x"}, then={"wait": {"signal": "go"}, "needs": ["first"]})
    run_id = await started(tx)
    await signal_run(SignalRun(namespace="demo", principal="ada", run_id=run_id, signal="go", data=[1]), tx)

    kept = (await tx.run("demo", run_id)).run.signals
    await report(tx, success(orders(tx)[-1]))

    assert kept == (("go", [1]),)
    run = (await tx.run("demo", run_id)).run
    assert (run.state, run.tasks["then"].output, run.signals) == ("succeeded", [1], ())


async def test_people_who_are_named_or_have_the_role_decide_and_nobody_else(tx: Store) -> None:
    run_id = await asking(tx)
    (waiting,) = await tx.waiting("demo", 10)
    assert (waiting.run_id, waiting.task, waiting.asked.need) == (run_id, "ok", 2)
    with pytest.raises(Denied, match="bob may not decide on task ok: that is for eve or who may MANAGE"):
        await decide_task(vote(run_id, "bob", role=2), tx)
    with pytest.raises(Denied, match="ada started the run"):
        await decide_task(vote(run_id, "ada", role=3), tx)

    await decide_task(vote(run_id, "eve"), tx)
    with pytest.raises(Conflict, match="eve has decided on task ok already"):
        await decide_task(vote(run_id, "eve"), tx)
    await decide_task(vote(run_id, "max", role=3), tx)

    assert [order.name for order in orders(tx)] == ["deploy"]
    assert await tx.waiting("demo", 10) == []
    with pytest.raises(Conflict, match="no task 'ok' that waits to be decided"):
        await decide_task(vote(run_id, "moe", role=3), tx)


async def test_one_who_rejects_refuses_the_run_with_the_reason(tx: Store) -> None:
    run_id = await asking(tx)

    await decide_task(vote(run_id, "eve", approve=False, form=None, comment="too risky"), tx)

    (ended,) = [event for event in tx.emitted if isinstance(event, facts.RunRefused)]
    assert ended.cause == "task ok: eve rejected it: too risky"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (None, "form.budget: is missing; it is a number"),
        ({"budget": "3"}, "form.budget: it is '3', not a number"),
        ({"budget": 3, "x": 1}, "form.x: unknown field; known are budget"),
        ([3], "form: it is list, not an object"),
    ],
)
async def test_a_form_that_is_not_filled_in_is_refused_with_its_field(tx: Store, form: Any, said: str) -> None:
    run_id = await asking(tx)

    with pytest.raises(InvalidInput, match=re.escape(said)):
        await decide_task(vote(run_id, "eve", form=form), tx)


async def test_a_task_that_is_not_for_people_is_not_found_and_an_ended_run_takes_no_signal(tx: Store) -> None:
    run_id = await asking(tx)
    with pytest.raises(NotFound, match="no task labels that is for people to decide"):
        await decide_task(vote(run_id, "eve", task="labels"), tx)
    await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=run_id), tx)

    with pytest.raises(Conflict, match="is cancelled"):
        await signal_run(SignalRun(namespace="demo", principal="ada", run_id=run_id, signal="go"), tx)


async def test_a_gate_refuses_a_run_with_its_reason_and_lineage_says_so(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    await report(tx, success(orders(tx)[-1], v="v1"))
    await report(tx, success(orders(tx)[-1], ok=False))

    ended = next(event for event in tx.emitted if isinstance(event, facts.RunRefused))
    lineage = next(event for event in tx.emitted if isinstance(event, LineageReported))
    assert (ended.run_id, ended.cause) == (run_id, "not better")
    assert lineage.topic_name() == "control.lineage"
    assert lineage.event["run"]["runId"] == str(run_id)
    assert lineage.event["run"]["facets"]["millrace_run"]["cause"] == "not better"
    assert len(orders(tx)) == 2


async def test_a_report_told_twice_counts_once(tx: Store) -> None:
    await force(tx)
    await started(tx)
    told = success(orders(tx)[-1], v="v1")

    await report(tx, told, told)
    await report(tx, told)

    assert len(orders(tx)) == 2


async def test_many_runs_move_on_in_one_batch(tx: Store) -> None:
    await force(tx)
    for _ in range(5):
        await started(tx)

    await report(tx, *(success(order, v=str(order.run_id)) for order in orders(tx)))

    moved = orders(tx)[5:]
    assert {str(order.run_id) for order in moved} == {order.input["v"] for order in moved}
    assert len(moved) == 5


async def test_a_report_of_an_unknown_run_or_token_changes_nothing(tx: Store) -> None:
    await force(tx)
    await started(tx)
    told = success(orders(tx)[-1], v="v1")
    before = len(tx.emitted)

    await report(tx, told.model_copy(update={"run_id": UUID(int=1)}), told.model_copy(update={"token": UUID(int=1)}))

    assert len(tx.emitted) == before


async def test_a_failed_attempt_is_dispatched_again_when_its_wait_is_over(tx: Store) -> None:
    await force(tx, a={"kind": "data.x", "retries": {"backoff_s": 30}})
    run_id = await started(tx)
    await report(tx, failure(orders(tx)[0]))
    assert await tx.due() == ([], [])

    await tx.fetch("UPDATE task SET due_at = now()")
    due, _ = await tx.due()
    await fire_due(due, tx)

    assert [(order.attempt, order.task_id) for order in orders(tx)] == [
        (1, orders(tx)[0].task_id),
        (2, orders(tx)[0].task_id),
    ]
    assert orders(tx)[0].token != orders(tx)[1].token
    (task,) = (await ControlApi().GetRun(pb.GetRunRequest(namespace="demo", run_id=str(run_id)), tx)).run.tasks
    (ended,) = task.ended_attempts
    assert (task.attempts, task.error) == (2, "")
    assert (ended.attempt, ended.error, ended.lost) == (1, "ValueError: no", False)
    assert ended.ended_at.seconds


async def test_a_lost_worker_is_retried_and_a_bad_input_is_not(tx: Store) -> None:
    await force(tx, a={"kind": "data.x", "retries": {"max_attempts": 1, "backoff_s": 0}})
    lost, bad = await started(tx), await started(tx)
    first, second = orders(tx)
    await report(tx, failure(first, "lost"), failure(second, "InvalidInput", retryable=False))

    await fire_due((await tx.due())[0], tx)

    assert [(order.run_id, order.attempt) for order in orders(tx)[2:]] == [(lost, 2)]
    ended = next(event for event in tx.emitted if isinstance(event, facts.RunFailed))
    assert (ended.run_id, ended.cause) == (bad, "task a failed: InvalidInput: no")


async def test_progress_is_kept_and_keeps_an_attempt_alive(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    order = orders(tx)[0]
    await report(tx, TaskStarted(**about(order)), TaskProgressed(**about(order), fraction=0.5, message="half"))

    task = (await tx.run("demo", run_id)).run.tasks["ingest"]
    assert (str(task.state), task.fraction, task.message) == ("running", 0.5, "half")


async def test_an_attempt_nobody_takes_is_cancelled_and_tried_again(tx: Store) -> None:
    await force(tx, a={"kind": "data.x", "retries": {"backoff_s": 0}})
    await started(tx)
    await tx.fetch("UPDATE task SET due_at = now(), dispatched_at = now() - interval '2 hours'")
    await fire_due((await tx.due())[0], tx)
    await fire_due((await tx.due())[0], tx)

    cancelled = next(event for event in tx.emitted if isinstance(event, TaskCancelled))
    assert (cancelled.attempt, cancelled.token) == (1, orders(tx)[0].token)
    assert [order.attempt for order in orders(tx)] == [1, 2]


async def test_a_cancelled_run_waits_for_its_worker_to_stop(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    command = CancelRun(namespace="demo", principal="ann", run_id=run_id, reason="wrong month")
    assert str((await cancel_run(command, tx)).kept.run.state) == "ending"

    await report(tx, failure(orders(tx)[0], "cancelled", retryable=False))

    ended = next(event for event in tx.emitted if isinstance(event, facts.RunCancelled))
    assert ended.cause == "cancelled by ann: wrong month"
    with pytest.raises(Conflict, match="is cancelled"):
        await cancel_run(command, tx)


async def test_an_unknown_workflow_or_run_is_not_found(tx: Store) -> None:
    with pytest.raises(NotFound, match="workflow w in namespace demo"):
        await started(tx)
    with pytest.raises(NotFound, match="workflow w"):
        await trigger(tx)
    with pytest.raises(NotFound, match="run 0000"):
        await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=UUID(int=1)), tx)


async def test_an_event_starts_one_run_however_often_it_comes(tx: Store, landed: Any) -> None:
    await force(tx)
    await trigger(tx)
    await take_records([landed("e1", URI), landed("e1", URI, offset=1)], tx)
    await take_records([landed("e1", URI, offset=2)], tx)

    assert len(orders(tx)) == 1
    run = next(event for event in tx.emitted if isinstance(event, facts.RunStarted))
    assert (run.trigger, run.event_source, run.event_id, run.principal) == ("t", "/airport", "e1", "bob")


async def test_an_event_starts_a_run_of_each_trigger_that_takes_it(tx: Store, landed: Any) -> None:
    await force(tx)
    await trigger(tx, "a")
    await trigger(tx, "b", filter={"subject": "2013-*"})
    await trigger(tx, "c", filter={"type": "other"})
    await take_records([landed("e1", URI, subject="2013-01")], tx)

    assert sorted(event.trigger for event in tx.emitted if isinstance(event, facts.RunStarted)) == ["a", "b"]


async def test_queued_runs_go_one_at_a_time_in_the_order_of_their_events(tx: Store, landed: Any) -> None:
    await force(tx, a={"kind": "data.x", "input": {"month": {"$from": "/trigger/data/month"}}})
    await trigger(tx, strategy="queue")
    await take_records([landed(f"e{month}", {"month": month}, offset=month) for month in (1, 2)], tx)
    await take_records([landed("e3", {"month": 3}, offset=3)], tx)
    for _ in range(3):
        await report(tx, success(orders(tx)[-1]))
        _, turns = await tx.due()
        if turns:
            await look_at_triggers(turns, tx)
            await look_at_triggers(turns, tx)

    assert [order.input["month"] for order in orders(tx)] == [1, 2, 3]


async def test_a_cancelled_run_leaves_its_queue(tx: Store, landed: Any) -> None:
    await force(tx, a={"kind": "data.x", "input": {"month": {"$from": "/trigger/data/month"}}})
    await trigger(tx, strategy="queue")
    await take_records([landed(f"e{month}", {"month": month}, offset=month) for month in (1, 2, 3)], tx)
    second = (await tx.list_runs("demo", "", "pending", None, 10))[-1]
    await cancel_run(CancelRun(namespace="demo", principal="ann", run_id=second.run.run_id), tx)
    await report(tx, success(orders(tx)[-1]))

    await look_at_triggers((await tx.due())[1], tx)

    assert [order.input["month"] for order in orders(tx)] == [1, 3]


async def test_a_record_that_is_no_event_is_refused(tx: Store, landed: Any) -> None:
    await force(tx)
    await trigger(tx)

    with pytest.raises(InvalidInput, match="attributes missing: type"):
        await take_records([landed("e1", type="")], tx)


async def test_a_trigger_applied_again_as_it_is_changes_nothing(tx: Store) -> None:
    await force(tx)

    assert await trigger(tx)
    assert not await trigger(tx)
    assert await trigger(tx, paused=True)


async def test_a_topic_is_read_in_one_way_by_all_its_triggers(tx: Store) -> None:
    await force(tx)
    await trigger(tx, "a")
    await trigger(tx, "b", source={"topic": "orders", "format": "json"})
    await trigger(tx, "b", source={"topic": "orders", "format": "json", "id": "/id"})

    with pytest.raises(Conflict, match=r"topic triggers is read as .* by trigger a"):
        await trigger(tx, "b", source={"topic": "triggers", "format": "json"})


@pytest.mark.parametrize("topic", ["data.tasks", "control.tasks.data"])
async def test_a_trigger_on_tasks_is_refused(tx: Store, topic: str) -> None:
    await force(tx)

    with pytest.raises(InvalidInput, match="carries tasks"):
        await trigger(tx, source={"topic": topic})


async def test_an_event_explains_itself(tx: Store, landed: Any) -> None:
    await force(tx)
    await trigger(tx, "taken", dedupe="/data/uri")
    await trigger(tx, "filtered", filter={"type": "other"})
    await take_records([landed("e1", URI), landed("e2", URI, offset=1)], tx)

    def asked(event_id: str) -> ExplainEvent:
        return ExplainEvent(namespace="demo", source="/airport", event_id=event_id)

    _, first = await explain_event(asked("e1"), tx)
    _, second = await explain_event(asked("e2"), tx)
    nothing, _ = await explain_event(asked("e3"), tx)

    assert [(found.trigger, found.disposition) for found in first] == [("taken", "started"), ("filtered", "filtered")]
    assert [(found.trigger, found.disposition) for found in second] == [
        ("taken", "duplicate"),
        ("filtered", "filtered"),
    ]
    assert second[0].run_id == first[0].run_id
    assert nothing is None


async def test_a_run_goes_on_with_the_trace_that_started_it(tx: Store, landed: Any) -> None:
    await force(tx)
    await trigger(tx)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    record = landed("e1", URI, traceparent=traceparent)
    await take_records([record], tx)

    runs = await tx.list_runs("demo", "", "", None, 1)
    assert runs[0].traceparent.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"kind": "nobody.x"}, "task a: there is no queue nobody; queues are "),
        ({"kind": "data.x", "queue": "dta"}, "task a: there is no queue dta"),
        ({"kind": "data.x", "heartbeat_timeout_s": 5}, "tasks.a.heartbeat_timeout_s: is less than 15"),
        (
            {"wait": {"for_s": 604_800}},
            "tasks.a.wait.for_s: is 604800, and its run ends after 86400 s: give the workflow",
        ),
        ({"kind": "data.x", "when": "trigger.dta.n > 1"}, "tasks.a.when: trigger has no 'dta': did you mean 'data'"),
        ({"approve": {}, "timeout_s": 604_800}, "tasks.a.timeout_s: is 604800, and its run ends after 86400 s"),
    ],
)
async def test_a_workflow_that_cannot_be_done_is_refused(tx: Store, task: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await force(tx, a=task)


async def test_a_namespace_that_reads_a_topic_in_another_way_keeps_it_from_nobody_else(tx: Store, landed: Any) -> None:
    await force(tx)
    await trigger(tx)
    tx.put_source("another", Source(topic="triggers", format="json", id="/nothing"))
    counter = EVENTS_HELD.labels("triggers")
    before = counter._value.get()

    await take_records([landed("e1", URI)], tx)
    tx.committed()

    assert len(orders(tx)) == 1
    (held,) = await tx.fetch("SELECT reason FROM held")
    assert held["reason"].startswith("namespace another: the value has no id")
    assert counter._value.get() == before + 1


async def test_an_event_that_names_its_namespace_is_for_no_other(tx: Store, landed: Any) -> None:
    await force(tx)
    await trigger(tx)

    await take_records([landed("e1", URI, namespace="another"), landed("e2", URI, offset=1, namespace="demo")], tx)

    assert [event.event_id for event in tx.emitted if isinstance(event, facts.RunStarted)] == ["e2"]
    assert await tx.event("demo", "/airport", "e1") is None


async def test_a_trigger_applied_by_another_replica_takes_the_very_next_event(
    postgres: Server, landed: Callable[..., Record]
) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin, hope = Transactions(database, Store), Hope("test")

        async def take(event_id: str, offset: int) -> None:
            await hope.do(begin, partial(take_records, [landed(event_id, URI, offset=offset)]), possible=True)

        async with begin() as tx:
            await force(tx)
            await trigger(tx, "first")
        await take("e1", 1)
        await take("e2", 2)
        async with begin() as tx:
            await trigger(tx, "second")
        await take("e3", 3)
        await take("e3", 4)

        async with begin() as tx:
            runs = await tx.list_runs("demo", "w", "", None, 10)
            again = await tx.event("demo", "/airport", "e3")
    assert sorted((kept.run.trigger["id"], kept.trigger_name) for kept in runs) == [
        ("e1", "first"),
        ("e2", "first"),
        ("e3", "first"),
        ("e3", "second"),
    ]
    assert again is not None
    assert again.deliveries == 2


async def test_rules_are_those_of_now_for_every_topic_of_a_round(
    postgres: Server, landed: Callable[..., Record]
) -> None:
    def on_topic(topic: str, event_id: str) -> Record:
        return replace(landed(event_id, URI), topic=topic)

    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)

        async def each(rounds: list[list[Record]], tx: Store) -> None:
            for records in rounds:  # as one round has the records of each listener
                await take_records(records, tx)

        async def take(*rounds: list[Record]) -> None:
            await Hope("test").do(begin, partial(each, list(rounds)))

        async with begin() as tx:
            await force(tx)
            await trigger(tx, "first", source={"topic": "a"})
            await trigger(tx, "other", source={"topic": "b", "start": "now"})
        await take([on_topic("a", "a1")])
        async with begin() as tx:
            await trigger(tx, "second", source={"topic": "a"})
        await take([on_topic("b", "b1")])
        await take([on_topic("a", "a2")], [on_topic("b", "b2")])

        async with begin() as tx:
            runs = await tx.list_runs("demo", "w", "", None, 10)
    assert ("a2", "second") in {(kept.run.trigger["id"], kept.trigger_name) for kept in runs}


async def test_a_new_trigger_and_its_workflow_are_applied_at_once(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await force(tx)

        async def apply_one() -> None:
            async with begin() as one:
                one.put_source("demo", Source(topic="a"))
                await one.fetch("SELECT 1")
                first.set()
                await second.wait()
                await trigger(one, "t", source={"topic": "a"})

        async def apply_other() -> None:
            await first.wait()
            async with begin() as other:
                await force(other, only={"kind": "data.ingest"})
                await other.fetch("SELECT 1")
                second.set()

        first, second = asyncio.Event(), asyncio.Event()
        await asyncio.gather(apply_one(), apply_other())
        async with begin() as tx:
            assert await tx.hold_trigger("demo", "t") is not None
