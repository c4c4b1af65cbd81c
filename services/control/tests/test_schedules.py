"""What schedules start; a test that begins with E and a number answers that complaint about other systems."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.tasks import TaskDispatched
from millrace.control.clock import Clock
from millrace.control.commands import GetRun
from millrace.control.commands.operations import CancelRun
from millrace.control.commands.schedules import (
    ApplySchedule,
    CancelBackfill,
    NamedSchedule,
    PreviewSchedule,
    StartBackfill,
)
from millrace.control.handlers import (
    apply_schedule,
    cancel_backfill,
    cancel_run,
    delete_schedule,
    explain_run,
    look_at_schedules,
    pause_schedule,
    preview_schedule,
    resume_schedule,
    start_backfill,
)
from millrace.control.store import NewFire, Store
from millrace.control.store.due import DUE
from millrace.control.store.schedules import FORGET
from millrace.core.schedules import parse_schedule
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.testing import fresh_database

from .test_handlers import failure, force, orders, report, success

DO: dict[str, Any] = {
    "do": {
        "kind": "data.do",
        "input": {
            "day": {"$from": "/trigger/data/day"},
            "at": {"$from": "/trigger/schedule/logical_at"},
            "kind": {"$from": "/trigger/schedule/kind"},
        },
    }
}
HOURLY: dict[str, Any] = {"interval": {"every_s": 3600}}
DAY = timedelta(days=1)


def document(**fields: Any) -> dict[str, Any]:
    timed = {} if fields.keys() & {"cron", "interval", "calendar"} else HOURLY
    return {"name": "n", "workflow": "w", "data": {"day": {"$from": "/schedule/date"}}, **timed, **fields}


async def apply(tx: Store, **fields: Any) -> bool:
    made = parse_schedule(document(**fields))
    return await apply_schedule(ApplySchedule(namespace="demo", principal="ada", schedule=made), tx)


def named(name: str = "n") -> NamedSchedule:
    return NamedSchedule(namespace="demo", principal="bob", name=name)


async def stood_still(tx: Store, hours: float) -> None:
    """Let nothing have been decided for so long: a transaction's `now()` stands still, and the schedule moves back."""
    back = timedelta(hours=hours)
    await tx.fetch("UPDATE schedule SET decided_until = $1, next_at = $1", tx.now - back)


async def tick(tx: Store) -> None:
    """Do all that is due, in turn."""
    for _ in range(100):
        turns = [turn for turn in (await tx.due())[1] if turn.schedule]
        if not turns or not await look_at_schedules(turns, tx):
            return
    raise AssertionError("there is no end to what is due")


def hours(tx: Store, count: int) -> list[datetime]:
    """Return the last full hours, oldest first."""
    last = tx.now.replace(minute=0, second=0, microsecond=0)
    return [last - n * timedelta(hours=1) for n in reversed(range(count))]


def told(tx: Store) -> list[tuple[datetime, str]]:
    """Return for which moments work was ordered, and why then."""
    return [(datetime.fromisoformat(order.input["at"]), order.input["kind"]) for order in orders(tx)]


async def finish(tx: Store, order: TaskDispatched) -> None:
    await report(tx, success(order))
    await tick(tx)


async def test_a_run_is_started_for_each_moment_and_is_told_which(tx: Store) -> None:
    await force(tx, **DO)
    assert await apply(tx, strategy="parallel", catch_up="all", late_after_s=7200)
    assert not await apply(tx, strategy="parallel", catch_up="all", late_after_s=7200)
    await stood_still(tx, 1.5)

    await tick(tx)
    await tick(tx)

    wanted = [at for at in hours(tx, 3) if at > tx.now - timedelta(hours=1.5)]
    assert told(tx) == [(at, "scheduled") for at in wanted]
    (first, *_) = orders(tx)
    kept = await tx.run("demo", first.run_id)
    assert (kept.principal, kept.trigger_name, kept.run.trigger["type"]) == ("ada", "schedule/n", "schedule")
    assert first.input["day"] == f"{wanted[0]:%Y-%m-%d}"
    assert kept.run.trigger["schedule"]["previous_at"] == (wanted[0] - timedelta(hours=1)).isoformat()
    row = await tx.shown_schedule("demo", "n")
    assert row["next_at"] == wanted[-1] + timedelta(hours=1)
    _, reasons = await explain_run(GetRun(namespace="demo", run_id=first.run_id), tx)
    assert reasons[0] == f"schedule n started it for {wanted[0].isoformat()}"


@pytest.mark.parametrize(
    ("catch_up", "window_h", "found"),
    [("all", 24, 5), ("all", 2.999, 3), ("latest", 24, 1), ("latest", 0, 0), ("none", 24, 0)],
)
async def test_what_was_missed_is_caught_up_as_the_schedule_says(
    tx: Store, catch_up: str, window_h: float, found: int
) -> None:
    await force(tx, **DO)
    start = (tx.now - timedelta(hours=100.5)).isoformat()
    window = {"catch_up": catch_up, "catch_up_window_s": window_h * 3600}
    await apply(tx, start=start, strategy="parallel", **window)
    await stood_still(tx, 5.25)

    await tick(tx)

    assert [kind for _, kind in told(tx)] == ["catch_up"] * found
    passed = await tx.passed("demo", "n")
    assert [row["reason"] for row in passed] == (["missed"] if found < 5 else [])
    assert (await tx.shown_schedule("demo", "n"))["next_at"] > tx.now


async def test_a_storm_of_missed_moments_is_met_in_parts_and_ends(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, interval={"every_s": 60}, strategy="parallel", catch_up="all")
    await stood_still(tx, 5)
    (turn,) = [turn for turn in (await tx.due())[1] if turn.schedule]

    assert await look_at_schedules([turn], tx) == 100
    await tick(tx)

    assert len(told(tx)) == len(set(told(tx))) == 300
    assert told(tx) == sorted(told(tx))


async def test_a_storm_of_a_queue_waits_in_its_rows_and_is_begun_one_by_one(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="queue", catch_up="all")
    await stood_still(tx, 4)
    await tick(tx)
    assert len(orders(tx)) == 1

    for place in range(3):
        await finish(tx, orders(tx)[place])

    assert [at for at, _ in told(tx)] == hours(tx, 4)
    (waiting,) = [at for at, _ in told(tx)[3:]]
    assert waiting == hours(tx, 1)[0]
    assert await tx.open_in("demo", "schedule/n", limit=10, waiting=True) == []


@pytest.mark.parametrize(
    ("strategy", "limit", "at_once", "passed"),
    [
        ("parallel", 2, 2, ""),
        ("first_only", None, 1, "skipped"),
        ("latest_only", None, 1, "superseded"),
        ("cancel_in_progress", None, 1, "superseded"),
    ],
)
async def test_runs_that_overlap_do_to_one_another_what_the_strategy_says(
    tx: Store, strategy: str, limit: int | None, at_once: int, passed: str
) -> None:
    await force(tx, **DO)
    await apply(tx, strategy=strategy, catch_up="all", **({"limit": limit} if limit else {}))
    await stood_still(tx, 4)

    await tick(tx)

    assert len(orders(tx)) == at_once
    assert {row["reason"] for row in await tx.passed("demo", "n")} == ({passed} if passed else set())
    if limit:
        await finish(tx, orders(tx)[0])
        assert len(orders(tx)) == at_once + 1


async def test_a_new_run_takes_the_place_of_one_in_progress_and_begins_when_that_has_ended(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="cancel_in_progress", catch_up="all")
    await stood_still(tx, 1)
    await tick(tx)
    await stood_still(tx, 2)
    await tx.fetch("UPDATE schedule_fire SET logical_at = logical_at - interval '5 minutes'")

    await tick(tx)
    (old,) = orders(tx)
    assert (await tx.run("demo", old.run_id)).run.state == "ending"
    await report(tx, failure(old, error="Cancelled"))
    await tick(tx)

    assert len(orders(tx)) == 2


async def test_a_paused_schedule_begins_no_run_that_waits_and_goes_on_with_them(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="queue", catch_up="all")
    await stood_still(tx, 2)
    await tick(tx)
    await pause_schedule(named(), tx)
    await finish(tx, orders(tx)[0])
    (waiting,) = await tx.open_in("demo", "schedule/n", limit=10, waiting=True)
    _, reasons = await explain_run(GetRun(namespace="demo", run_id=waiting.run_id), tx)
    assert (len(orders(tx)), reasons[1]) == (1, "it waits: bob has paused schedule n")

    await resume_schedule(named(), tx)
    await tick(tx)

    assert len(orders(tx)) == 2


async def test_a_schedule_of_which_nothing_waits_any_more_is_left_alone(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="queue", catch_up="all")
    await stood_still(tx, 2)
    await tick(tx)
    (waiting,) = await tx.open_in("demo", "schedule/n", limit=10, waiting=True)
    await cancel_run(CancelRun(namespace="demo", principal="ada", run_id=waiting.run_id), tx)
    await finish(tx, orders(tx)[0])

    assert [turn for turn in (await tx.due())[1] if turn.schedule] == []


async def test_a_schedule_that_is_deleted_and_made_again_waits_for_runs_of_before(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="queue", catch_up="all")
    await stood_still(tx, 2)
    await tick(tx)
    await delete_schedule(named(), tx)
    await apply(tx, strategy="queue", catch_up="all", interval={"every_s": 1800})
    await stood_still(tx, 1.9)
    await tick(tx)
    assert len(orders(tx)) == 1

    await finish(tx, orders(tx)[0])

    assert len(orders(tx)) == 2


async def test_a_strict_sequence_stands_behind_what_failed_until_it_is_resumed(tx: Store) -> None:
    await force(tx, do=DO["do"] | {"retries": {"max_attempts": 1}})
    await apply(tx, strategy="strict_sequence", catch_up="all")
    await stood_still(tx, 2)
    await tick(tx)
    await report(tx, failure(orders(tx)[0], retryable=False))
    await tick(tx)
    assert len(orders(tx)) == 1
    shown = await tx.shown_schedule("demo", "n")
    assert shown["blocked_by"] == orders(tx)[0].run_id
    (waiting,) = await tx.open_in("demo", "schedule/n", limit=10, waiting=True)
    _, reasons = await explain_run(GetRun(namespace="demo", run_id=waiting.run_id), tx)
    assert "`millrace schedule resume n` lets it go on" in reasons[1]

    await resume_schedule(named(), tx)
    await tick(tx)

    assert len(orders(tx)) == 2


@pytest.mark.parametrize(("on_paused", "found"), [("drop", 0), ("queue", 3)])
async def test_what_comes_due_while_it_is_paused_is_dropped_or_caught_up(tx: Store, on_paused: str, found: int) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="parallel", on_paused=on_paused, catch_up="all")
    shown = await pause_schedule(named(), tx)
    assert (shown["paused_by"], shown["next_at"]) == ("bob", None)
    await tx.fetch("UPDATE schedule SET decided_until = $1", hours(tx, 4)[0])
    await tick(tx)
    assert orders(tx) == []

    await resume_schedule(named(), tx)
    await tick(tx)

    assert len(orders(tx)) == found
    assert [row["reason"] for row in await tx.passed("demo", "n")] == (["paused"] if not found else [])
    assert (await tx.shown_schedule("demo", "n"))["paused_at"] is None


async def test_a_schedule_that_becomes_another_starts_what_had_come_due_and_nothing_of_the_past(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="parallel", late_after_s=7200)
    await stood_still(tx, 1)

    await apply(tx, strategy="parallel", interval={"every_s": 60})
    await tick(tx)

    assert told(tx) == [(hours(tx, 1)[0], "scheduled")]


async def test_a_schedule_that_starts_something_else_at_the_same_moments_misses_none(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="parallel")
    await stood_still(tx, 1)

    assert await apply(tx, strategy="parallel", data={"day": "another"})
    await tick(tx)

    assert [order.input["day"] for order in orders(tx)] == ["another"]


async def test_a_schedule_that_will_never_fire_or_has_no_workflow_is_refused(tx: Store) -> None:
    with pytest.raises(NotFound, match="workflow w"):
        await apply(tx)
    await force(tx, **DO)
    with pytest.raises(InvalidInput, match="schedule n has no moment after"):
        await apply(tx, cron="0 0 * * mon", exclude=[{"weekdays": ["mon"]}])
    for asked in (pause_schedule, resume_schedule, delete_schedule):
        with pytest.raises(NotFound, match="schedule n in namespace demo"):
            await asked(named(), tx)


async def test_a_deleted_schedule_starts_nothing_and_what_waited_is_cancelled(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="queue", catch_up="all")
    await stood_still(tx, 3)
    await tick(tx)

    assert await delete_schedule(named(), tx) == (2, 0)
    await finish(tx, orders(tx)[0])

    states = sorted(str(row["state"]) for row in await tx.fetch("SELECT state FROM run"))
    assert states == ["cancelled", "cancelled", "succeeded"]
    assert await apply(tx)


async def test_a_preview_is_what_fires(tx: Store) -> None:
    await force(tx, **DO)
    # A range that has passed is previewed as what will come is: it is the same function.
    timed = {"cron": "*/7 * * * *", "zone": "Australia/Lord_Howe", "jitter_s": 300, "exclude": [{"month_days": [31]}]}
    await apply(tx, strategy="parallel", catch_up="all", **timed)
    begin = tx.now - timedelta(hours=3)
    asked = PreviewSchedule(namespace="demo", name="n", count=100, after=begin)
    _, planned = await preview_schedule(asked, tx)
    await tx.fetch("UPDATE schedule SET decided_until = $1, next_at = $1", begin)

    await tick(tx)

    assert told(tx)
    assert [at for at, _ in told(tx)] == [one.logical_at for one in planned if one.due_at <= tx.now]
    next_at = next(one.due_at for one in planned if one.due_at > tx.now)
    assert (await tx.shown_schedule("demo", "n"))["next_at"] == next_at
    again = PreviewSchedule(namespace="demo", schedule=parse_schedule(document(**timed)), count=100, after=begin)
    assert (await preview_schedule(again, tx))[1] == planned
    with pytest.raises(InvalidInput, match="say which"):
        PreviewSchedule(namespace="demo")


async def test_the_database_refuses_a_second_run_for_a_moment(tx: Store) -> None:
    fire = NewFire(datetime(2026, 1, 1, tzinfo=UTC), "scheduled", UUID(int=1))
    tx.add_fires("demo", "n", [fire])
    assert await tx.fired("demo", "n", [fire.logical_at]) == {fire.logical_at}
    assert await tx.fired("demo", "n", [fire.logical_at], "again") == set()

    tx.add_fires("demo", "n", [fire])
    with pytest.raises(Exception, match="schedule_fire_pkey"):
        await tx.fired("demo", "n", [fire.logical_at])


class Killed(Exception):
    pass


async def killed(begin: Transactions[Store]) -> None:
    """Do what is due as far as the commit, and no further."""
    async with begin() as tx:
        assert await look_at_schedules([turn for turn in (await tx.due())[1] if turn.schedule], tx)
        await tx.flush()
        raise Killed


def clock(begin: Transactions[Store]) -> Clock:
    return Clock(begin, 1.0)


async def committed(begin: Transactions[Store], **fields: Any) -> None:
    async with begin() as tx:
        await force(tx, **DO)
        await apply(tx, strategy="parallel", catch_up="all", **fields)
        await stood_still(tx, 3)


async def fired(begin: Transactions[Store]) -> list[datetime]:
    async with begin() as tx:
        rows = await tx.fetch("SELECT trigger->'schedule'->>'logical_at' AS at FROM run ORDER BY at")
    return [datetime.fromisoformat(row["at"]) for row in rows]


async def test_e7_one_schedule_tick_on_three_replicas_is_one_run(postgres: Any) -> None:
    dsn = await fresh_database(postgres, "control")
    async with AsyncExitStack() as stack:
        replicas = [Transactions(await stack.enter_async_context(Database(dsn, pool_size=2)), Store) for _ in range(3)]
        await committed(replicas[0])

        await asyncio.gather(*(clock(begin).look() for begin in replicas for _ in range(3)))

        found = await fired(replicas[0])
        async with replicas[0]() as tx:
            assert found == hours(tx, len(found))
        assert len(found) in {3, 4}, "another hour may have begun"


async def test_a_crash_between_a_fire_and_the_next_moment_loses_none_and_doubles_none(postgres: Any) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        await committed(begin)
        with pytest.raises(Killed):
            await killed(begin)
        assert await fired(begin) == []

        assert await clock(begin).look()
        await clock(begin).look()

        found = await fired(begin)
        async with begin() as tx:
            assert found == hours(tx, len(found))
        assert len(found) in {3, 4}, "another hour may have begun"


async def test_a_schedule_that_cannot_be_decided_on_keeps_no_other_from_firing(postgres: Any) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        await committed(begin)
        async with begin() as tx:
            await apply(tx, name="broken")
            await tx.fetch(
                'UPDATE schedule SET next_at = now(), document = document || \'{"zone": "No/Where"}\' WHERE name = $1',
                "broken",
            )

        assert await Clock(begin, 1.0).look()

        assert len(await fired(begin)) == 3


async def test_looking_for_schedules_that_are_due_reads_indexes(tx: Store) -> None:
    plan = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN {DUE}"))
    assert "Seq Scan on schedule" not in plan
    assert "Seq Scan on backfill" not in plan
    await tx.fetch(f"PREPARE asked (timestamptz, int) AS {FORGET}")
    plan = "\n".join(row[0] for row in await tx.fetch("EXPLAIN EXECUTE asked (now(), 10)"))
    await tx.fetch("DEALLOCATE asked")
    assert "Seq Scan" not in plan


def backfill(tx: Store, days: int, **fields: Any) -> StartBackfill:
    midnight = tx.now.replace(hour=0, minute=0, second=0, microsecond=0)
    about = {"namespace": "demo", "principal": "eve", "schedule": "n", "from_at": midnight - days * DAY}
    return StartBackfill(**about | {"to_at": midnight} | fields)


def nights(tx: Store, days: int) -> list[datetime]:
    midnight = tx.now.replace(hour=0, minute=0, second=0, microsecond=0)
    return [midnight - n * DAY for n in range(days, 0, -1)]


async def do_some(begin: Transactions[Store], queue: str, at_most: int) -> int:
    """Do the work of up to three runs of a backfill, of which no more are under way than may be; return of how many."""
    async with begin() as tx:
        open_runs = await tx.open_in("demo", queue, limit=100)
        assert 0 < len(open_runs) <= at_most
        kept_runs = await tx.hold_runs(run.run_id for run in open_runs[:3])
        for kept in kept_runs:
            task = kept.run.tasks["do"]
            order = TaskDispatched(
                namespace="demo",
                queue="data",
                kind="data.do",
                workflow="w",
                name="do",
                task_id=task.task_id,
                attempt=task.attempt,
                token=task.token,
                run_id=kept.run.run_id,
                input={},
                principal="eve",
                deadline=tx.now,
                heartbeat_timeout_s=30,
            )
            await report(tx, success(order))
    return len(kept_runs)


async def test_a_backfill_of_30_days_killed_midway_and_asked_for_again_is_30_runs_and_none_twice(postgres: Any) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await force(tx, **DO)
            await apply(tx, cron="@daily")
            asked, wanted = backfill(tx, 30, at_once=7), nights(tx, 30)
            await start_backfill(asked, tx)
        done, kills = 0, 0
        while done < 30:
            if done < 23:  # after that, all have been started
                with pytest.raises(Killed):
                    await killed(begin)
                kills += 1
            await clock(begin).look()
            async with begin() as tx:
                await start_backfill(asked, tx)
            done += await do_some(begin, f"backfill/n/{asked.id}", 7)
        while await clock(begin).look():
            pass
        async with begin() as tx:
            again = await start_backfill(asked, tx)

        assert await fired(begin) == wanted
        assert kills > 5
        assert (again.row["state"], again.row["started"], again.row["ended"]) == ("done", 30, {"succeeded": 30})


async def test_a_backfill_starts_in_its_order_as_many_as_may_be_under_way(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, cron="@daily")

    await start_backfill(backfill(tx, 5, newest_first=True, at_once=2), tx)
    await tick(tx)
    assert [at for at, _ in told(tx)] == nights(tx, 2)[::-1]
    for place in range(5):
        await finish(tx, orders(tx)[place])

    assert told(tx) == [(at, "backfill") for at in nights(tx, 5)[::-1]]
    (row,) = await tx.backfills("demo", "n")
    assert (row["state"], row["started"], row["skipped"], row["ended"]) == ("done", 5, 0, {"succeeded": 5})
    kept = await tx.run("demo", orders(tx)[0].run_id)
    assert (kept.principal, kept.run.trigger["schedule"]["backfill"]) == ("eve", row["backfill_id"])
    _, reasons = await explain_run(GetRun(namespace="demo", run_id=kept.run.run_id), tx)
    assert reasons[0].endswith(f", in backfill {row['backfill_id']}")


async def test_a_moment_that_had_a_run_has_another_only_in_a_backfill_with_an_id(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, cron="@daily")
    await start_backfill(backfill(tx, 3, at_once=10), tx)
    await tick(tx)
    wider = backfill(tx, 5, at_once=10)

    planned = await start_backfill(wider.model_copy(update={"dry_run": True}), tx)
    assert (planned.row["state"], planned.row["total"], planned.row["skipped"]) == ("planned", 5, 3)
    assert list(planned.moments) == nights(tx, 5)[:2]
    assert len(orders(tx)) == 3
    await start_backfill(wider, tx)
    await tick(tx)
    assert [at for at, _ in told(tx)[3:]] == nights(tx, 5)[:2]

    for _ in range(2):
        await start_backfill(backfill(tx, 5, backfill_id="fixed", at_once=10), tx)
        await tick(tx)
    assert [at for at, _ in told(tx)[5:]] == nights(tx, 5)


async def test_a_scheduled_moment_that_a_backfill_was_first_with_is_not_run_again(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, strategy="parallel", catch_up="all")
    last = hours(tx, 1)[0]
    await start_backfill(backfill(tx, 1, from_at=last - timedelta(hours=1), to_at=tx.now, at_once=10), tx)
    await stood_still(tx, 3)

    await tick(tx)

    assert sorted(at for at, _ in told(tx)) == hours(tx, 3)


async def test_a_cancelled_backfill_starts_no_more_and_goes_on_when_asked_for_again(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, cron="@daily")
    asked = backfill(tx, 4)
    await start_backfill(asked, tx)
    await tick(tx)
    about = {"namespace": "demo", "principal": "eve", "schedule": "n"}

    stopped = await cancel_backfill(CancelBackfill(**about, backfill_id=asked.id), tx)
    await finish(tx, orders(tx)[0])
    assert (stopped.row["state"], len(orders(tx))) == ("cancelled", 1)
    await start_backfill(asked, tx)
    await tick(tx)
    stopped = await cancel_backfill(CancelBackfill(**about, backfill_id=asked.id, cancel_runs=True), tx)

    assert len(orders(tx)) == 2
    assert (await tx.run("demo", orders(tx)[1].run_id)).run.state == "ending"
    assert stopped.row["started"] == 2
    with pytest.raises(NotFound, match="backfill other of schedule n"):
        await cancel_backfill(CancelBackfill(**about, backfill_id="other"), tx)


async def test_a_backfill_that_cannot_be_is_refused(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, cron="@daily")
    await start_backfill(backfill(tx, 3, backfill_id="b"), tx)

    with pytest.raises(Conflict, match="backfill b of schedule n is from"):
        await start_backfill(backfill(tx, 4, backfill_id="b"), tx)
    with pytest.raises(InvalidInput, match="to: it is later than now"):
        await start_backfill(backfill(tx, 3, to_at=tx.now + DAY), tx)
    night = nights(tx, 3)[0]
    between = {"from_at": night + timedelta(minutes=1), "to_at": night + timedelta(hours=1)}
    with pytest.raises(InvalidInput, match="no moment between"):
        await start_backfill(backfill(tx, 3, **between), tx)
    for place in range(19):
        await start_backfill(backfill(tx, 3, backfill_id=f"b{place}"), tx)
    with pytest.raises(Conflict, match="20 backfills of schedule n go on already"):
        await start_backfill(backfill(tx, 3), tx)
    await start_backfill(backfill(tx, 3, backfill_id="b"), tx)
    await apply(tx, name="often", interval={"every_s": 1})
    with pytest.raises(InvalidInput, match="more than 10000 moments"):
        await start_backfill(backfill(tx, 3, schedule="often"), tx)
    with pytest.raises(InvalidInput, match="`from` is not before `to`"):
        backfill(tx, 0)
    with pytest.raises(InvalidInput, match="schedules are of 1900 to 2999"):
        backfill(tx, 3, from_at=datetime(1800, 1, 1, tzinfo=UTC))


async def test_what_schedules_have_done_goes_when_it_is_old(tx: Store) -> None:
    await force(tx, **DO)
    await apply(tx, cron="@daily")
    await start_backfill(backfill(tx, 2, at_once=2), tx)
    await tick(tx)
    for place in range(2):
        await finish(tx, orders(tx)[place])
    await tx.fetch(
        "UPDATE schedule_fire SET fired_at = fired_at - interval '91 days' WHERE logical_at = $1", nights(tx, 2)[0]
    )

    assert await tx.forget_fires(tx.now - 90 * DAY, 10) == 1
    assert len(await tx.fires("demo", "n")) == 1
    assert await tx.forget_fires(tx.now + DAY, 10) == 2
    assert await tx.backfills("demo", "n") == []
