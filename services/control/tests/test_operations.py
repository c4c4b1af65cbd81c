"""What people do with runs, against a real PostgreSQL. Rows of complaints are in the names."""

from typing import Any
from uuid import UUID

import pytest
from millrace.contracts import control as facts
from millrace.contracts.tasks import TaskCancelled, TaskDispatched, TaskFailed, TaskReport, TaskSucceeded
from millrace.control.commands import ApplyWorkflow, SignalRun, StartRun
from millrace.control.commands.operations import (
    CancelRun,
    ChangeRuns,
    PauseRun,
    RerunRun,
    ResumeRun,
    SetTaskResult,
)
from millrace.control.domain.changes import Change, Outcome
from millrace.control.handlers import (
    apply_reports,
    apply_workflow,
    cancel_run,
    change_runs,
    fire_due,
    pause_run,
    rerun_run,
    resume_run,
    set_task_result,
    signal_run,
    start_run,
)
from millrace.control.store import Store
from millrace.control.store.operations import LOOKED_AT_FOR_EACH
from millrace.core.parse import parse_workflow
from millrace.core.state import SET_BY, TAKEN_FROM
from millrace.runtime.errors import Conflict, InvalidInput, NotFound

WORK = {"kind": "data.ingest", "retries": {"max_attempts": 1}}
CHAIN: dict[str, Any] = {
    "a": WORK,
    "b": {**WORK, "needs": ["a"], "input": {"x": {"$from": "/tasks/a/output/x", "default": 0}}},
}
ADA = {"namespace": "demo", "principal": "ada"}


async def force(tx: Store, name: str = "w", **tasks: Any) -> None:
    workflow = parse_workflow({"name": name, "tasks": tasks or CHAIN})
    await apply_workflow(ApplyWorkflow(**ADA, workflow=workflow), tx)


async def started(tx: Store, name: str = "w") -> UUID:
    return (await start_run(StartRun(**ADA, workflow=name, data={"n": 1}), tx)).run.run_id


def orders(tx: Store) -> list[TaskDispatched]:
    return [event for event in tx.emitted if isinstance(event, TaskDispatched)]


def about(order: TaskDispatched) -> dict[str, Any]:
    names = ("namespace", "task_id", "attempt", "token", "run_id", "kind", "name", "workflow")
    return {"service": order.queue, **{name: getattr(order, name) for name in names}}


async def succeed(tx: Store, order: TaskDispatched, **output: Any) -> None:
    told: list[TaskReport] = [TaskSucceeded(**about(order), output=output, duration_s=1.0, cpu_s=0.5)]
    await apply_reports(told, tx)


async def fail(tx: Store, order: TaskDispatched) -> None:
    await apply_reports([TaskFailed(**about(order), error="ValueError", message="no", retryable=True)], tx)


async def failed(tx: Store) -> UUID:
    """A run of CHAIN of which only the last task failed."""
    run_id = await started(tx)
    await succeed(tx, orders(tx)[-1], x=7)
    await fail(tx, orders(tx)[-1])
    return run_id


def said(tx: Store, *kinds: type[Any]) -> list[Any]:
    return [event for event in tx.emitted if isinstance(event, kinds)]


async def state(tx: Store, run_id: UUID) -> str:
    return str((await tx.run("demo", run_id)).run.state)


async def pause(tx: Store, run_id: UUID) -> Change:
    return await pause_run(PauseRun(**ADA, run_id=run_id, reason="the store moves"), tx)


async def many(tx: Store, action: str, **fields: Any) -> tuple[list[Outcome], UUID | None]:
    told, next_before = await change_runs(ChangeRuns(**ADA, action=action, **fields), tx)
    return [*told], next_before


async def test_a_paused_run_is_kept_so_and_goes_on_where_it_was(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)

    paused = await pause(tx, run_id)
    await succeed(tx, orders(tx)[0], x=1)
    kept = await tx.run("demo", run_id)
    assert kept.run.pause is not None
    assert (paused.lines, str(kept.run.state), kept.run.pause.cause) == (
        ("run: running -> paused",),
        "paused",
        "ada: the store moves",
    )
    assert len(orders(tx)) == 1
    assert await tx.due() == ([], []), "what is paused keeps nobody busy"

    resumed = await resume_run(ResumeRun(**ADA, run_id=run_id), tx)
    assert resumed.lines == ("run: paused -> running", "b: dispatched")
    assert orders(tx)[-1].input == {"x": 1}
    assert [(type(e), e.cause) for e in said(tx, facts.RunPaused, facts.RunResumed)] == [
        (facts.RunPaused, "ada: the store moves"),
        (facts.RunResumed, "ada"),
    ]


async def test_a_retry_that_is_due_in_a_paused_run_is_kept_back_once(tx: Store) -> None:
    await force(tx, a={**WORK, "retries": {"max_attempts": 2, "backoff_s": 0}})
    run_id = await started(tx)
    await pause(tx, run_id)
    await fail(tx, orders(tx)[0])
    assert (await tx.due())[0] == [run_id]

    await fire_due([run_id], tx)
    assert (await tx.due(), len(orders(tx))) == (([], []), 1)

    await resume_run(ResumeRun(**ADA, run_id=run_id), tx)
    await fire_due([run_id], tx)
    assert [order.attempt for order in orders(tx)] == [1, 2]


async def test_a_child_is_paused_with_its_run_and_stopped_by_force_with_it(tx: Store) -> None:
    await force(tx, name="inner", a=WORK, b={**WORK, "needs": ["a"]})
    await force(tx, a={"subflow": {"workflow": "inner"}})
    parent = await started(tx)
    child = UUID(((await tx.run("demo", parent)).run.tasks["a"].inner or {})["run_id"])
    await fire_due([child], tx)

    await pause(tx, parent)
    await fire_due([child], tx)
    assert await state(tx, child) == "paused"
    await resume_run(ResumeRun(**ADA, run_id=parent), tx)
    await fire_due([child], tx)
    assert await state(tx, child) == "running"

    await cancel_run(CancelRun(**ADA, run_id=parent, force=True), tx)
    await fire_due([child], tx)
    assert [await state(tx, run_id) for run_id in (parent, child)] == ["cancelled", "cancelled"]


async def test_a_cancel_says_what_it_stops_and_a_second_with_force_ends_it_r9(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)

    asked = await cancel_run(CancelRun(**ADA, run_id=run_id, grace_s=600), tx)
    again = await cancel_run(CancelRun(**ADA, run_id=run_id), tx)
    forced = await cancel_run(CancelRun(**ADA, run_id=run_id, force=True), tx)

    assert asked.lines == ("run: running -> ending", "a: dispatched -> cancelling")
    assert again.lines == ()
    assert forced.lines == ("run: ending -> cancelled", "a: cancelling -> cancelled")
    assert len(said(tx, TaskCancelled)) == 1
    assert said(tx, facts.RunCancelled)[0].cause == "cancelled by ada; stopped at once by ada"
    await succeed(tx, orders(tx)[0])
    assert await state(tx, run_id) == "cancelled"


async def test_a_result_set_by_hand_says_who_set_it_and_the_late_one_changes_nothing(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    fixed = SetTaskResult(**ADA, run_id=run_id, task="a", state="succeeded", output={"x": 3}, reason="fixed the file")

    change = await set_task_result(fixed, tx)
    await succeed(tx, orders(tx)[0], x=4)

    kept = await tx.run("demo", run_id)
    assert change.lines == ("a: dispatched -> succeeded", "b: dispatched")
    assert (kept.run.tasks["a"].output, kept.run.tasks["a"].inner) == ({"x": 3}, {SET_BY: "ada: fixed the file"})
    assert orders(tx)[-1].input == {"x": 3}
    assert [(row["name"], row["error"]) for row in await tx.attempts(run_id)] == [("a", "SetByHand")]
    with pytest.raises(Conflict, match="not to be set any more"):
        await set_task_result(fixed, tx)


async def test_work_hands_on_an_object_by_hand_too(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    about_a = {**ADA, "run_id": run_id, "task": "a", "reason": "so"}

    with pytest.raises(InvalidInput, match="output_json: task a is work, which hands on an object"):
        await set_task_result(SetTaskResult(**about_a, state="succeeded", output=[1]), tx)
    with pytest.raises(InvalidInput, match="hands on nothing"):
        SetTaskResult(**about_a, state="skipped", output={})
    with pytest.raises(InvalidInput, match="reason"):
        SetTaskResult(**{**about_a, "reason": ""}, state="skipped")


async def test_only_the_last_task_is_done_again_in_a_new_run_m4(tx: Store) -> None:
    await force(tx)
    origin = await failed(tx)

    change = await rerun_run(RerunRun(namespace="demo", principal="bob", run_id=origin), tx)

    kept = await tx.run("demo", change.kept.run.run_id)
    assert change.lines == ("run: pending -> running", "a: taken over, succeeded", "b: dispatched")
    assert (kept.rerun_of, kept.principal, kept.run.trigger["data"]) == (origin, "bob", {"n": 1})
    assert kept.run.tasks["a"].inner == {TAKEN_FROM: str(origin)}
    assert (orders(tx)[-1].input, orders(tx)[-1].run_id) == ({"x": 7}, kept.run.run_id)
    assert said(tx, facts.RunStarted)[-1].rerun_of == origin
    await succeed(tx, orders(tx)[-1])
    assert [await state(tx, origin), await state(tx, kept.run.run_id)] == ["failed", "succeeded"]


async def test_a_rerun_takes_the_version_in_force_or_says_why_not(tx: Store) -> None:
    await force(tx)
    origin = await failed(tx)
    latest = RerunRun(**ADA, run_id=origin, version="latest")
    await force(tx, a=WORK, b={**WORK, "needs": ["a"], "input": {"fixed": True}})

    change = await rerun_run(latest, tx)
    assert orders(tx)[-1].input == {"fixed": True}
    assert change.kept.sha256 != (await tx.run("demo", origin)).sha256

    await force(tx, a={**WORK, "input": {"other": 1}}, b={**WORK, "needs": ["a"]})
    with pytest.raises(Conflict, match=r"does otherwise now what would be taken over: a \(input\)"):
        await rerun_run(latest, tx)
    pinned = await rerun_run(RerunRun(**ADA, run_id=origin, from_task="a"), tx)
    assert pinned.lines[1:] == ("a: dispatched",)


async def test_of_a_list_only_the_items_that_did_not_succeed_are_done_again_m3(tx: Store) -> None:
    body = {
        "tasks": {"fit": {**WORK, "input": {"n": {"$from": "/item/each"}}}},
        "output": {"$from": "/tasks/fit/output/y"},
    }
    each = {"foreach": {"items": [1, 2, 3, 4], "concurrency": 4, "tolerate": {"count": 1}, "do": body}}
    await force(tx, each=each, b={**WORK, "needs": ["each"], "input": {"all": {"$from": "/tasks/each/output/items"}}})
    first = await started(tx)
    one, two, three, four = orders(tx)
    await succeed(tx, one, y=10)
    await succeed(tx, three, y=30)
    await fail(tx, two)
    await fail(tx, four)

    second = await rerun_run(RerunRun(**ADA, run_id=first), tx)
    again = orders(tx)[4:]
    await fail(tx, again[0])
    await fail(tx, again[1])
    third = await rerun_run(RerunRun(**ADA, run_id=second.kept.run.run_id), tx)
    for order in orders(tx)[6:8]:
        await succeed(tx, order, y=10 * order.input["n"])

    assert second.lines[:2] == ("run: pending -> running", "each: open, 2 of 4 items taken over")
    assert [order.name for order in orders(tx)[4:8]] == ["each[1].fit", "each[3].fit"] * 2
    assert orders(tx)[-1].input == {"all": [10, 20, 30, 40]}
    await succeed(tx, orders(tx)[-1])
    run_id = third.kept.run.run_id
    assert await state(tx, run_id) == "succeeded"
    taken = {task.name: (task.inner or {}).get(TAKEN_FROM) for task in (await tx.past(run_id, 100)).records}
    assert (taken["each[0]"], taken["each[1]"]) == (str(first), None)


async def test_a_run_that_goes_on_is_not_done_again(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    with pytest.raises(Conflict, match="is running: cancel it, or wait for its end"):
        await rerun_run(RerunRun(**ADA, run_id=run_id), tx)


@pytest.mark.parametrize("operation", ["pause", "resume", "cancel", "rerun", "set"])
async def test_a_run_that_is_not_there_or_somebody_elses_is_not_found(tx: Store, operation: str) -> None:
    await force(tx)
    other = {"namespace": "other", "principal": "eve", "run_id": await started(tx)}
    calls = {
        "pause": lambda: pause_run(PauseRun(**other), tx),
        "resume": lambda: resume_run(ResumeRun(**other), tx),
        "cancel": lambda: cancel_run(CancelRun(**other), tx),
        "rerun": lambda: rerun_run(RerunRun(**other), tx),
        "set": lambda: set_task_result(SetTaskResult(**other, task="a", state="skipped", reason="so"), tx),
    }
    with pytest.raises(NotFound):
        await calls[operation]()


# Many at once.


async def test_a_dry_run_says_what_would_change_and_changes_nothing(tx: Store) -> None:
    await force(tx)
    run_ids = [await started(tx) for _ in range(3)]
    said_before = len(tx.emitted)

    told, _ = await many(tx, "cancel", workflow="w", dry_run=True)

    assert [(one.kept.run.run_id, one.outcome) for one in told] == [(i, "would_change") for i in reversed(run_ids)]
    assert told[0].changes == ("run: running -> ending", "a: dispatched -> cancelling")
    assert [await state(tx, run_id) for run_id in run_ids] == ["running"] * 3
    assert len(tx.emitted) == said_before


async def test_pages_go_over_all_runs_of_a_filter_once(tx: Store) -> None:
    await force(tx)
    await force(tx, name="other")
    run_ids = [await started(tx) for _ in range(5)]
    others = [await started(tx, "other") for _ in range(2)]

    seen: list[UUID] = []
    before: UUID | None = None
    for _ in range(10):
        told, before = await many(tx, "pause", workflow="w", limit=2, before_run_id=before)
        seen += [one.kept.run.run_id for one in told]
        if before is None:
            break

    assert seen == run_ids[::-1]
    assert [await state(tx, run_id) for run_id in others] == ["running"] * 2
    assert (await many(tx, "pause", workflow="w"))[0] == []


async def test_a_page_looks_at_so_many_runs_whether_they_match_or_not(tx: Store) -> None:
    await force(tx)
    await force(tx, name="other")
    first = await started(tx)
    others = [await started(tx, "other") for _ in range(LOOKED_AT_FOR_EACH + 1)]

    told, before = await many(tx, "pause", workflow="w", limit=1)
    assert (told, before) == ([], others[1])
    told, before = await many(tx, "pause", workflow="w", limit=1, before_run_id=before)
    assert ([one.kept.run.run_id for one in told], before) == ([first], None)


async def test_a_run_whose_state_forbids_it_is_told_and_the_others_go_on(tx: Store) -> None:
    await force(tx)
    first, second = await started(tx), await started(tx)
    await pause(tx, first)

    told, _ = await many(tx, "pause", states=["running", "paused"])

    assert [(one.kept.run.run_id, one.outcome, one.reason) for one in told] == [
        (second, "changed", ""),
        (first, "refused", f"run {first} is paused already"),
    ]


async def test_many_runs_are_done_again_once_however_often_it_is_asked(tx: Store) -> None:
    await force(tx)
    run_ids = [await failed(tx) for _ in range(2)]

    tried, _ = await many(tx, "rerun", dry_run=True)
    done, _ = await many(tx, "rerun")
    again, _ = await many(tx, "rerun")

    assert [one.outcome for one in tried] == ["would_change"] * 2
    assert [one.rerun_run_id for one in tried] == [None, None]
    assert [one.changes for one in done] == [
        ("run: pending -> running", "a: taken over, succeeded", "b: dispatched")
    ] * 2
    for one in done:
        assert one.rerun_run_id is not None
        assert (await tx.run("demo", one.rerun_run_id)).rerun_of == one.kept.run.run_id
    assert [one.reason for one in again] == [f"run {one.rerun_run_id} does it again already" for one in done]
    assert [one.kept.run.run_id for one in done] == run_ids[::-1]


async def test_a_run_that_cannot_be_done_again_does_not_hold_up_the_others(tx: Store) -> None:
    await force(tx)
    first = await failed(tx)
    whole = await started(tx)
    await fail(tx, orders(tx)[-1])
    await force(tx, a={**WORK, "input": {"other": 1}}, b={**WORK, "needs": ["a"]})

    told, _ = await many(tx, "rerun", version="latest")

    assert [(one.kept.run.run_id, one.outcome) for one in told] == [(whole, "changed"), (first, "refused")]
    assert "does otherwise now what would be taken over: a (input)" in told[1].reason


async def test_many_are_resumed_signalled_and_cancelled_by_trigger_and_time(tx: Store) -> None:
    await force(tx, a={"wait": {"signal": "go"}})
    run_ids = [await started(tx) for _ in range(2)]

    assert [one.outcome for one in (await many(tx, "pause"))[0]] == ["changed"] * 2
    assert [one.outcome for one in (await many(tx, "resume"))[0]] == ["changed"] * 2
    assert (await many(tx, "cancel", trigger="somebody"))[0] == []
    assert (await many(tx, "cancel", until=tx.now.replace(year=2000)))[0] == []
    assert (await many(tx, "cancel", since=tx.now.replace(year=2100)))[0] == []
    told, _ = await many(tx, "signal", signal="go", data={"x": 1}, since=tx.now.replace(year=2000))
    assert [one.changes for one in told] == [("run: running -> succeeded", "a: waiting -> succeeded")] * 2
    assert [await state(tx, run_id) for run_id in run_ids] == ["succeeded"] * 2


async def test_a_signal_that_no_task_waits_for_yet_is_said_to_be_kept(tx: Store) -> None:
    await force(tx)
    run_id = await started(tx)
    told = await signal_run(SignalRun(**ADA, run_id=run_id, signal="go"), tx)
    assert told.lines == ("run: keeps signal go",)


def test_a_signal_for_many_has_a_name() -> None:
    with pytest.raises(InvalidInput, match=r"signal\.signal is not set"):
        ChangeRuns(**ADA, action="signal")
    with pytest.raises(InvalidInput, match="states"):
        ChangeRuns(**ADA, action="pause", states=["asleep"])
