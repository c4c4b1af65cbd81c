"""What triggers make of events; a test that begins with E and a number answers that complaint about other systems."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator
from millrace.contracts import control as facts
from millrace.contracts.data import VersionPublished
from millrace.control.commands import (
    ApplyTrigger,
    ExplainEvent,
    GetRun,
    PauseTrigger,
    ResumeTrigger,
    UnblockTrigger,
)
from millrace.control.commands.operations import CancelRun, PauseRun, ResumeRun
from millrace.control.domain.explain import Explanation
from millrace.control.handlers import (
    apply_trigger,
    cancel_run,
    explain_event,
    explain_run,
    look_at_triggers,
    pause_run,
    pause_trigger,
    resume_run,
    resume_trigger,
    take_records,
    unblock_trigger,
)
from millrace.control.handlers.triggers import AT_ONCE
from millrace.control.store import Store
from millrace.control.store.due import DUE
from millrace.core.triggers import Source, Trigger, ir, parse_trigger
from millrace.core.triggers.sources import Filter
from millrace.core.yaml import load_document
from millrace.runtime.database import Database, Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.hope import Hope
from millrace.runtime.subscriptions import Record
from millrace.runtime.testing import fresh_database

from .test_handlers import failure, force, orders, report, success, trigger

DO: dict[str, Any] = {"do": {"kind": "data.do", "input": {"given": {"$from": "/trigger/data"}}}}
PAIR = [{"name": "a", "filter": {"type": "a"}}, {"name": "b", "filter": {"type": "b"}}]
LATER = """
WITH m AS (UPDATE trigger_match SET taken_at = taken_at - $1::interval WHERE disposition IN ('waiting', 'queued')),
t AS (UPDATE trigger SET admit_at = admit_at - $1::interval, full_at = full_at - $1::interval)
UPDATE gathering SET opened_at = opened_at - $1::interval, last_at = last_at - $1::interval,
    until_at = until_at - $1::interval, due_at = due_at - $1::interval
"""


async def later(tx: Store, seconds: float) -> None:
    """Let time pass: a transaction's `now()` stands still, so that all else moves back, and what is due happens."""
    await tx.fetch(LATER, timedelta(seconds=seconds))
    await look(tx)


async def look(tx: Store) -> int:
    """Let the clock look at triggers until nothing is due; return how often it had to."""
    for turn in range(1_000):
        _, turns = await tx.due()
        if not turns or not await look_at_triggers(turns, tx):
            return turn
    raise AssertionError("triggers are due for ever")


async def take(tx: Store, *records: Record) -> None:
    await take_records(records, tx)


async def runs(tx: Store, state: str = "") -> list[Any]:
    """The data that runs were started with, the oldest first."""
    found = await tx.list_runs("demo", "w", state, None, 500)
    return [kept.run.trigger["data"] for kept in reversed(found)]


async def explained(tx: Store, event_id: str, name: str = "t") -> Explanation:
    _, found = await explain_event(ExplainEvent(namespace="demo", event_id=event_id), tx)
    return next(one for one in found if one.trigger == name)


async def dispositions(tx: Store, *ids: str) -> list[str]:
    return [(await explained(tx, event_id)).disposition for event_id in ids]


def members(data: dict[str, Any]) -> dict[str, Any]:
    return {name: event["data"] for name, event in data["members"].items()}


async def test_e1_with_mode_per_event_each_has_its_own_run_however_many_are_under_way(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, limit=1)
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(5)))
    for _ in range(4):
        await report(tx, success(orders(tx)[-1]))
        await look(tx)

    assert [order.input["given"] for order in orders(tx)] == [0, 1, 2, 3, 4]
    assert len({(await explained(tx, f"e{n}")).run_id for n in range(5)}) == 5
    assert await dispositions(tx, "e0", "e4") == ["started", "started"]


async def test_e1_with_mode_latest_the_newest_that_waits_has_a_run_and_the_others_name_it(
    tx: Store, landed: Any
) -> None:
    await force(tx, **DO)
    await trigger(tx, mode="latest", strategy="queue")
    for n in range(4):
        await take(tx, landed(f"e{n}", n, offset=n))
    await report(tx, success(orders(tx)[-1]))
    await look(tx)

    assert [order.input["given"] for order in orders(tx)] == [0, 3]
    newest, before, *_ = await tx.list_runs("demo", "", "", None, 10)
    assert before.run.cause == f"run {newest.run.run_id} stands in its place"
    assert await runs(tx, "cancelled") == [1, 2]


async def test_e1_with_mode_batch_a_run_gets_all_events_and_each_of_them_names_it(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, mode="batch", batch={"size": 3, "within_s": 60})
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(4)))
    assert await dispositions(tx, "e0", "e3") == ["started", "waiting"]

    await later(tx, 60)

    assert [[event["data"] for event in data["events"]] for data in await runs(tx)] == [[0, 1, 2], [3]]
    assert len({(await explained(tx, f"e{n}")).run_id for n in range(3)}) == 1
    kept, reasons = await explain_run(GetRun(namespace="demo", run_id=(await explained(tx, "e0")).run_id), tx)
    assert reasons[0] == "trigger t started it for 3 events under key ''"
    assert kept.run.trigger["type"] == "millrace.batch"


async def test_e2_events_that_come_while_a_trigger_is_paused_start_their_runs_in_order_when_it_goes_on(
    tx: Store, landed: Any
) -> None:
    await force(tx, **DO)
    await trigger(tx)
    command = PauseTrigger(namespace="demo", principal="eve", name="t")
    assert (await pause_trigger(command, tx)).paused_by == "eve"
    for n in range(150):
        await take(tx, landed(f"e{n}", n, offset=n))
    assert await runs(tx) == []
    assert (await explained(tx, "e7")).reason.startswith("the trigger was paused when it came")
    assert (await tx.shown_trigger("demo", "t")).queued_events == 150

    await resume_trigger(ResumeTrigger(**dict(command)), tx)
    await take(tx, landed("after", "after", offset=200))
    assert (await explained(tx, "after")).disposition == "queued", "it stands behind those that came before"
    await look(tx)

    assert await runs(tx) == [*range(150), "after"]
    assert [order.input["given"] for order in orders(tx)] == [*range(150), "after"]
    await take(tx, landed("next", "next", offset=201))
    assert (await explained(tx, "next")).disposition == "started"


async def test_e2_a_trigger_that_says_so_drops_what_comes_while_it_is_paused(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, on_paused="drop", dedupe="/data")
    command = PauseTrigger(namespace="demo", principal="eve", name="t")
    await pause_trigger(command, tx)
    await take(tx, landed("e1", 1))
    await resume_trigger(ResumeTrigger(**dict(command)), tx)
    await look(tx)
    assert (await runs(tx), (await explained(tx, "e1")).reason) == ([], "the trigger was paused")

    await take(tx, landed("e2", 1, offset=1))

    assert await runs(tx) == [1], "what was dropped has not used up its key"


async def test_a_trigger_that_is_applied_as_paused_goes_on_when_it_is_applied_without(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, paused=True)
    await take(tx, landed("e1", 1))
    with pytest.raises(Conflict, match="says `paused: true`; apply it without that"):
        await resume_trigger(ResumeTrigger(namespace="demo", principal="eve", name="t"), tx)

    await trigger(tx)
    await look(tx)

    assert await runs(tx) == [1]


async def test_a_trigger_that_was_paused_by_somebody_stays_so_when_it_is_applied_again(tx: Store) -> None:
    await force(tx, **DO)
    await trigger(tx)
    await pause_trigger(PauseTrigger(namespace="demo", principal="eve", name="t"), tx)
    again = await pause_trigger(PauseTrigger(namespace="demo", principal="bob", name="t"), tx)

    await trigger(tx, when="true")

    assert again.paused_by == (await tx.shown_trigger("demo", "t")).paused_by == "eve"
    with pytest.raises(NotFound, match="trigger x in namespace demo"):
        await pause_trigger(PauseTrigger(namespace="demo", principal="eve", name="x"), tx)


async def test_e3_a_round_that_is_lost_leaves_neither_event_nor_run_and_is_read_again(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR})
    await take(tx, landed("e1", 1, type="a"))
    second = landed("e2", 2, type="b", offset=1)

    async def lost() -> None:
        async with tx.part() as part:
            await take(part, second)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await lost()
    assert await dispositions(tx, "e1") == ["waiting"]

    await take(tx, second)
    await take(tx, second)

    assert [members(data) for data in await runs(tx)] == [{"a": 1, "b": 2}]
    assert (await tx.event("demo", "/airport", "e2")).deliveries == 1  # type: ignore[union-attr]


async def test_e5_close_events_start_a_run_each(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx)

    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(20)))

    assert await runs(tx) == list(range(20))


async def test_e6_a_join_gives_its_run_all_member_events_whole(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR}, key="/data/day")
    await take(tx, landed("e1", {"day": "d", "n": 1}, type="a", subject="s", time="2026-01-01T00:00:00Z"))
    await take(tx, landed("e2", {"day": "d", "n": 2}, type="b", offset=1))

    (data,) = await runs(tx)
    assert (data["key"], data["complete"], data["missing"]) == ("d", True, [])
    assert data["members"]["a"] == {
        "id": "e1",
        "source": "/airport",
        "type": "a",
        "subject": "s",
        "time": "2026-01-01T00:00:00Z",
        "data": {"day": "d", "n": 1},
    }
    assert data["members"]["b"]["data"] == {"day": "d", "n": 2}
    assert orders(tx)[0].input["given"] == data
    first, second = await explained(tx, "e1"), await explained(tx, "e2")
    assert (first.run_id, first.slot, first.key, second.slot) == (second.run_id, "a", "d", "b")


async def both(begin: Transactions[Store], *work: Callable[[Store], Awaitable[Any]]) -> None:
    """Do several things at once, each in a transaction of its own that hopes, as several replicas do."""
    await asyncio.gather(*(Hope("test").do(begin, what) for what in work))


@pytest.fixture
async def begin(postgres: Any) -> Any:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(await fresh_database(postgres, "control")))
        yield Transactions(database, Store)


async def test_e7_one_event_that_two_replicas_read_starts_one_run_and_one_at_a_time_is_one(
    begin: Transactions[Store], landed: Any
) -> None:
    async with begin() as tx:
        await force(tx, **DO)
        await trigger(tx, strategy="queue")
    records = [landed(f"e{n}", n, offset=n) for n in range(30)]

    for first in range(0, 30, 10):
        some = records[first : first + 10]
        await both(begin, *(lambda tx, some=some: take(tx, *some) for _ in range(3)))
        await both(begin, look, look)

    async with begin() as tx:
        assert await runs(tx) == list(range(30))
        assert len(await runs(tx, "running")) == 1


async def test_e8_each_message_starts_one_run_under_load(begin: Transactions[Store], landed: Any) -> None:
    async with begin() as tx:
        await force(tx, **DO)
        await trigger(tx)
    records = [landed(f"e{n}", n, offset=n) for n in range(600)]

    await both(begin, *(lambda tx, n=n: take(tx, *records[n : n + 200]) for n in (0, 100, 200, 300, 400)))
    await both(begin, look, look)

    async with begin() as tx:
        found = await tx.fetch("SELECT trigger->>'data' AS n, state FROM run")
        assert Counter(row["n"] for row in found) == Counter(map(str, range(600)))
        assert {row["state"] for row in found} == {"running"}


async def test_e9_two_members_that_two_replicas_read_at_once_start_one_run(
    begin: Transactions[Store], landed: Any
) -> None:
    async with begin() as tx:
        await force(tx, **DO)
        await trigger(tx, join={"members": PAIR}, key="/data/n")

    for n in range(10):
        one, two = landed(f"a{n}", {"n": n}, type="a", offset=n), landed(f"b{n}", {"n": n}, type="b", offset=n)
        await both(begin, lambda tx, one=one: take(tx, one), lambda tx, two=two: take(tx, two))

    async with begin() as tx:
        assert sorted(data["key"] for data in await runs(tx)) == [str(n) for n in range(10)]


async def test_what_another_replica_does_with_a_trigger_holds_for_the_very_next_event(
    begin: Transactions[Store], landed: Any
) -> None:
    async with begin() as tx:
        await force(tx, **DO)
        await trigger(tx)
    hope, command = Hope("test"), PauseTrigger(namespace="demo", principal="eve", name="t")
    await hope.do(begin, lambda tx: take(tx, landed("e1", 1)))
    await both(begin, lambda tx: pause_trigger(command, tx))
    await hope.do(begin, lambda tx: take(tx, landed("e2", 2, offset=1)))
    async with begin() as tx:
        assert await dispositions(tx, "e2") == ["queued"]
    await both(begin, lambda tx: resume_trigger(ResumeTrigger(**dict(command)), tx))
    await both(begin, look)
    await hope.do(begin, lambda tx: take(tx, landed("e3", 3, offset=2)))
    await both(begin, lambda tx: trigger(tx, join={"members": PAIR}))
    await hope.do(begin, lambda tx: take(tx, landed("e4", 4, offset=3), landed("e5", 5, type="a", offset=4)))

    async with begin() as tx:
        assert await runs(tx) == [1, 2, 3]
        assert await dispositions(tx, "e4", "e5") == ["filtered", "waiting"]


async def test_e9_rapid_events_of_a_join_are_not_lost(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR})
    await take(tx, *(landed(f"a{n}", n, type="a", offset=n) for n in range(5)))
    await take(tx, *(landed(f"b{n}", n, type="b", offset=10 + n) for n in range(5)))

    assert [members(data) for data in await runs(tx)] == [{"a": n, "b": n} for n in range(5)]


async def test_e10_a_storm_becomes_rows_that_wait_and_are_admitted_by_rate(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, throttle={"runs": 50, "per_s": 1})
    for first in range(0, 13_000, 1_000):
        await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(first, first + 1_000)))

    states = Counter(row["state"] for row in await tx.fetch("SELECT state FROM run"))
    assert states == {"running": 50, "pending": 12_950}
    await look(tx)
    assert len(orders(tx)) == 50, "the throttle lets no more begin"
    await later(tx, 1)
    assert [order.input["given"] for order in orders(tx)] == list(range(100)), "in their order"


async def test_e10_a_storm_without_a_throttle_begins_in_many_small_transactions(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx)
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(500)))
    assert len(orders(tx)) == AT_ONCE

    assert await look(tx) == 4

    assert [order.input["given"] for order in orders(tx)] == list(range(500))
    assert await tx.due() == ([], [])


async def test_e11_the_first_task_is_handed_out_in_the_transaction_that_keeps_the_event(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, limit=4, throttle={"runs": 10, "per_s": 1})

    await take(tx, landed("e1", 1))

    assert [order.input["given"] for order in orders(tx)] == [1]


async def test_first_only_starts_no_run_while_one_is_under_way(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="first_only")
    await take(tx, landed("e1", 1), landed("e2", 2, offset=1))
    await take(tx, landed("e3", 3, offset=2))
    first = (await explained(tx, "e1")).run_id
    assert await dispositions(tx, "e1", "e2", "e3") == ["started", "skipped", "skipped"]
    assert (await explained(tx, "e3")).reason == f"run {first} is under way"

    await report(tx, success(orders(tx)[-1]))
    await take(tx, landed("e4", 4, offset=3))

    assert await runs(tx) == [1, 4]


async def test_latest_only_lets_the_one_under_way_end_and_then_runs_the_newest(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="latest_only")
    await take(tx, landed("e1", 1))
    await take(tx, landed("e2", 2, offset=1))
    await take(tx, landed("e3", 3, offset=2), landed("e4", 4, offset=3))
    assert await dispositions(tx, "e2", "e3", "e4") == ["started", "superseded", "started"]
    assert await runs(tx, "cancelled") == [2]

    await report(tx, success(orders(tx)[-1]))
    await look(tx)

    assert [order.input["given"] for order in orders(tx)] == [1, 4]


async def test_cancel_in_progress_stops_the_one_under_way_and_then_runs_the_newest(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="cancel_in_progress")
    await take(tx, landed("e1", 1))
    order = orders(tx)[-1]
    await take(tx, landed("e2", 2, offset=1))
    assert (await runs(tx, "ending"), await runs(tx, "pending")) == ([1], [2])
    assert await look(tx) == 0, "it waits for the worker to stop"

    await report(tx, failure(order, "cancelled", retryable=False))
    await look(tx)

    assert [order.input["given"] for order in orders(tx)] == [1, 2]
    assert await runs(tx, "cancelled") == [1]


async def test_a_run_of_a_strict_sequence_that_fails_holds_up_those_behind_it_until_somebody_says_so(
    tx: Store, landed: Any
) -> None:
    await force(tx, do={**DO["do"], "retries": {"max_attempts": 1}})
    await trigger(tx, strategy="strict_sequence")
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(3)))
    command = UnblockTrigger(namespace="demo", principal="eve", name="t")
    with pytest.raises(Conflict, match="is not blocked"):
        await unblock_trigger(command, tx)
    await report(tx, failure(orders(tx)[-1]))
    await look(tx)
    await take(tx, landed("e3", 3, offset=3))

    failed = (await explained(tx, "e0")).run_id
    assert (await tx.due(), len(orders(tx))) == (([], []), 1)
    assert (await tx.shown_trigger("demo", "t")).blocked_by == failed
    _, reasons = await explain_run(GetRun(namespace="demo", run_id=(await explained(tx, "e2")).run_id), tx)
    assert f"it waits: run {failed} of the same strict sequence has failed; `millrace trigger unblock t`" in reasons[1]
    assert reasons[-1] == "1 runs wait before it"

    await unblock_trigger(command, tx)
    await look(tx)
    assert [order.input["given"] for order in orders(tx)] == [0, 1]
    await report(tx, success(orders(tx)[-1]))
    await look(tx)
    assert [order.input["given"] for order in orders(tx)] == [0, 1, 2]


async def test_a_run_that_comes_after_the_last_of_a_strict_sequence_has_failed_waits_too(
    tx: Store, landed: Any
) -> None:
    await force(tx, do={**DO["do"], "retries": {"max_attempts": 1}})
    await trigger(tx, strategy="strict_sequence")
    await take(tx, landed("e1", 1))
    await report(tx, failure(orders(tx)[-1]))

    await take(tx, landed("e2", 2, offset=1))

    assert await look(tx) == 0
    assert await runs(tx, "pending") == [2]


async def test_a_limit_is_never_passed_and_a_free_place_is_taken_at_once(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, limit=3)
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(6)))
    assert len(orders(tx)) == 3
    waiting = await tx.list_runs("demo", "", "pending", None, 10)
    await cancel_run(CancelRun(namespace="demo", principal="eve", run_id=waiting[-1].run.run_id), tx)

    await report(tx, success(orders(tx)[1]))
    await look(tx)

    assert [order.input["given"] for order in orders(tx)] == [0, 1, 2, 4], "3 was cancelled"
    assert len(await runs(tx, "running")) == 3


async def test_a_queue_whose_last_waiting_run_is_cancelled_is_not_looked_at_for_ever(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="queue")
    await take(tx, landed("e1", 1), landed("e2", 2, offset=1))
    (waiting,) = await tx.list_runs("demo", "", "pending", None, 10)
    await cancel_run(CancelRun(namespace="demo", principal="eve", run_id=waiting.run.run_id), tx)

    await look(tx)

    assert await tx.due() == ([], [])
    await take(tx, landed("e3", 3, offset=2))
    await report(tx, success(orders(tx)[-1]))
    await look(tx)
    assert [order.input["given"] for order in orders(tx)] == [1, 3]


@pytest.mark.parametrize("missing", ["expire", "fire_partial"])
async def test_a_join_whose_window_is_over_expires_or_starts_its_run_without_the_others(
    tx: Store, landed: Any, missing: str
) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR, "window_s": 3600, "missing": missing})
    await take(tx, landed("e1", 1, type="a"))
    waits = await explained(tx, "e1")
    assert waits.reason.startswith("it waits for the others of its join under key '', until ")
    assert waits.waits_until is not None

    await later(tx, 3599)
    assert await dispositions(tx, "e1") == ["waiting"]
    await later(tx, 1)

    found = await explained(tx, "e1")
    if missing == "expire":
        assert (found.disposition, found.run_id) == ("expired", None)
        assert found.reason == "it waited 3600 s for what belongs to it; it did not come: b"
        assert await tx.fetch("SELECT FROM gathering") == []
    else:
        assert [(members(data), data["missing"]) for data in await runs(tx)] == [({"a": 1}, ["b"])]
        _, reasons = await explain_run(GetRun(namespace="demo", run_id=found.run_id), tx)
        assert reasons[0] == "trigger t started it for 1 events under key '', without b, whose time was over"


async def test_an_event_that_a_join_did_without_names_the_run(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"of": "any", "members": PAIR})
    await take(tx, landed("e1", 1, type="a"))
    await take(tx, landed("e2", 2, type="b", offset=1))

    late = await explained(tx, "e2")
    assert (late.disposition, late.run_id) == ("late", (await explained(tx, "e1")).run_id)


async def test_events_that_wait_go_on_to_when_the_trigger_changes_and_by_the_old_rule_when_its_join_does(
    tx: Store, landed: Any
) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR})
    await take(tx, landed("e1", 1, type="a"))
    await trigger(tx, join={"members": PAIR}, strategy="queue")
    await take(tx, landed("e2", 2, type="b", offset=1))
    assert [members(data) for data in await runs(tx)] == [{"a": 1, "b": 2}]

    await take(tx, landed("e3", 3, type="a", offset=2))
    await trigger(tx, join={"members": PAIR, "missing": "fire_partial", "window_s": 5})
    await take(tx, landed("e4", 4, type="b", offset=3))
    await later(tx, 86_400)

    assert [(await explained(tx, name)).disposition for name in ("e3", "e4")] == ["expired", "started"]


async def test_a_debounce_starts_one_run_and_each_event_says_by_which_it_was_superseded(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, mode="latest", debounce={"quiet_s": 10})
    for n in range(3):
        await take(tx, landed(f"e{n}", n, offset=n, time=f"2026-01-01T00:00:0{n}Z"))
        await later(tx, 5)
    assert await runs(tx) == []

    await later(tx, 5)

    assert await runs(tx) == [2]
    assert [(await explained(tx, f"e{n}")).reason for n in range(2)] == [
        "event e1 of /airport is newer",
        "event e2 of /airport is newer",
    ]


async def test_a_debounce_by_key_starts_a_run_for_each_of_its_keys(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, mode="latest", debounce={"quiet_s": 10}, key="/data/k", strategy="queue")
    await take(tx, *(landed(f"e{n}", {"k": n % 2, "n": n}, offset=n) for n in range(4)))

    await later(tx, 10)

    assert sorted(data["k"] for data in await runs(tx)) == [0, 1]


async def test_an_event_that_looks_like_a_join_is_explained_as_the_one_that_it_is(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx)
    await take(tx, landed("e1", {"members": 5}, type="millrace.join", source="/millrace/control/triggers/t"))

    _, reasons = await explain_run(GetRun(namespace="demo", run_id=(await explained(tx, "e1")).run_id), tx)

    assert reasons[0] == "trigger t started it for event e1 of /millrace/control/triggers/t"


async def test_a_paused_join_waits_with_all_that_it_has(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR, "window_s": 60})
    await take(tx, landed("e1", 1, type="a"))
    command = PauseTrigger(namespace="demo", principal="eve", name="t")
    await pause_trigger(command, tx)
    await take(tx, landed("e2", 2, type="b", offset=1))
    await later(tx, 30)
    assert await dispositions(tx, "e1", "e2") == ["waiting", "queued"]

    await resume_trigger(ResumeTrigger(**dict(command)), tx)
    await look(tx)

    assert [members(data) for data in await runs(tx)] == [{"a": 1, "b": 2}]


def published(dataset: str, partition: str, offset: int = 0) -> Record:
    """A record of `data.versions`, as the data service writes it."""
    fact = VersionPublished(
        namespace="demo",
        dataset=dataset,
        partition=partition,
        version_id=f"{dataset}-{partition}-{offset}",
        contract=dataset,
        contract_hash="0",
        source_uri="file:///x",
        source_sha256="0",
        good_rows=1,
        quarantined_rows=0,
        landed_at=datetime.fromisoformat("2026-01-01T00:00:00Z"),
    )
    now = datetime.fromisoformat(f"2026-01-01T00:{offset % 60:02}:00Z")
    headers = headers_of(fact, UUID(int=1_000 + offset), now, None, "")
    sent = tuple((name, str(value).encode()) for name, value in headers.items())
    return Record("data.versions", 0, offset, b"", fact.model_dump_json().encode(), sent, 0)


async def test_a_month_is_rolled_up_once_all_of_its_days_are_published_with_the_newest_version_of_each(
    tx: Store,
) -> None:
    await force(tx, **DO)
    await trigger(
        tx,
        source={"topic": "data.versions"},
        filter={"subject": "flights"},
        join={"partitions": {"each": "day", "per": "month"}, "window_s": 3_000_000},
    )
    days = [f"2013-02-{day:02}" for day in range(1, 29)]
    for offset, day in enumerate([*reversed(days[1:]), days[5]]):
        await take(tx, published("flights", day, offset), published("weather", day, 100 + offset))
    assert await runs(tx) == []

    await take(tx, published("flights", days[0], 50))

    (data,) = await runs(tx)
    assert data["key"] == "2013-02"
    assert [event["data"]["partition"] for event in data["events"]] == days
    assert data["events"][5]["data"]["version_id"] == "flights-2013-02-06-27", "the version that came last"
    assert data["events"][0]["type"] == "millrace.data.VersionPublished"
    superseded = await explained(tx, str(UUID(int=1_000 + 22)))
    assert (superseded.disposition, superseded.slot) == ("superseded", "2013-02-06")


async def test_a_run_waits_for_all_of_its_upstreams_of_a_partition(tx: Store) -> None:
    await force(tx, **DO)
    upstreams = [{"name": name, "filter": {"subject": name}} for name in ("flights", "weather", "planes")]
    await trigger(tx, source={"topic": "data.versions"}, join={"members": upstreams}, key="/data/partition")
    for offset, (name, month) in enumerate(
        [("flights", "01"), ("weather", "02"), ("weather", "01"), ("flights", "02")]
    ):
        await take(tx, published(name, f"2013-{month}", offset))

    await take(tx, published("planes", "2013-02", 9))

    (data,) = await runs(tx)
    assert {name: event["data"]["partition"] for name, event in data["members"].items()} == dict.fromkeys(
        ("flights", "weather", "planes"), "2013-02"
    )


async def test_members_come_from_several_topics_and_a_topic_may_be_named_by_a_pattern(tx: Store, landed: Any) -> None:
    def on(topic: str, record: Record) -> Record:
        return replace(record, topic=topic)

    await force(tx, **DO)
    made = {
        "members": [
            {"name": "a", "source": {"topic": "orders.*"}},
            {"name": "b", "source": {"topic": "stock", "format": "json", "id": "/id"}},
        ]
    }
    await trigger(tx, source=None, join=made)
    await take(tx, on("orders.eu", landed("e1", 1)), on("other", landed("e9", 9, offset=9)))
    stock = Record("stock", 0, 1, None, b'{"id": "s1"}', (), 1_700_000_000_000)
    await take(tx, stock)

    assert [members(data) for data in await runs(tx)] == [{"a": 1, "b": {"id": "s1"}}]
    with pytest.raises(Conflict, match=r"topic stock is read as .* by trigger t"):
        await trigger(tx, "other", source={"topic": "stock"})


async def test_an_event_says_why_each_trigger_did_not_take_it_by_what_that_said_when_it_came(
    tx: Store, landed: Any
) -> None:
    await force(tx, **DO)
    await trigger(tx, when="trigger.data == 2")
    await take(tx, landed("e1", 1))
    await tx.fetch("UPDATE event SET received_at = now() - interval '1 hour'")
    await tx.fetch("UPDATE trigger_version SET applied_at = now() - interval '2 hours'")

    await trigger(tx, when="trigger.data == 1")
    await trigger(tx, "new")

    found = await explained(tx, "e1")
    assert (found.disposition, found.reason) == ("filtered", "'trigger.data == 2' is false for it")
    late = await explained(tx, "e1", "new")
    assert (late.disposition, late.reason.startswith("it was put in force at ")) == ("unseen", True)


async def test_an_id_that_two_sources_have_is_asked_for_with_its_source(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx)
    await take(tx, landed("e1", 1), landed("e1", 2, offset=1, source="/b"), landed("e2", 3, offset=2, source="/c"))

    with pytest.raises(InvalidInput, match="several have an event e1, say which: /airport, /b"):
        await explain_event(ExplainEvent(namespace="demo", event_id="e1"), tx)
    arrived, _ = await explain_event(ExplainEvent(namespace="demo", event_id="e2"), tx)
    assert arrived is not None
    assert arrived.event.source == "/c"


async def test_a_run_says_what_started_it_and_what_it_waits_for(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="queue", throttle={"runs": 1, "per_s": 60})
    await take(tx, landed("e1", 1), landed("e2", 2, offset=1))
    first, second = (await explained(tx, "e1")).run_id, (await explained(tx, "e2")).run_id

    _, running = await explain_run(GetRun(namespace="demo", run_id=first), tx)
    _, waiting = await explain_run(GetRun(namespace="demo", run_id=second), tx)

    assert running[:2] == ["trigger t started it for event e1 of /airport", "it is running"]
    assert running[2].startswith("task do is dispatched, until ")
    assert f"run {first} of the same trigger is under way" in waiting
    assert waiting[-1] == "0 runs wait before it"
    await report(tx, success(orders(tx)[-1]))
    _, ended = await explain_run(GetRun(namespace="demo", run_id=first), tx)
    assert ended[1] == "it succeeded"


async def test_what_waits_is_kept_beyond_the_time_after_which_events_are_forgotten(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR})
    await take(tx, landed("e1", 1, type="a"), landed("e2", 2, type="x", offset=1))
    await tx.fetch("UPDATE event SET received_at = now() - interval '100 days'")

    assert await tx.forget_events(tx.now, 10) == 1

    await take(tx, landed("e3", 3, type="b", offset=2))
    assert [members(data) for data in await runs(tx)] == [{"a": 1, "b": 3}]


def applied(namespace: str, name: str) -> ApplyTrigger:
    made = parse_trigger({"name": name, "workflow": "w", "source": {"topic": "triggers"}})
    return ApplyTrigger(namespace=namespace, principal="bob", trigger=made)


async def test_looking_for_triggers_that_are_due_reads_neither_all_triggers_nor_all_runs(tx: Store) -> None:
    await force(tx, **DO)
    for n in range(20):
        await apply_trigger(applied("demo", f"t{n}"), tx)
    plan = "\n".join(row[0] for row in await tx.fetch(f"EXPLAIN {DUE}"))

    assert "Seq Scan" not in plan
    assert "Seq Scan" not in plan
    assert {"trigger_waits", "gathering_due", "run_waits"} <= set(plan.replace("(", " ").split())


def ids(events: Sequence[Any]) -> list[str]:
    return [event.event_id for event in events if isinstance(event, facts.RunStarted)]


async def test_a_dedupe_key_is_taken_by_an_event_that_waits(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join={"members": PAIR}, dedupe="/data")
    await take(tx, landed("e1", 1, type="a"))
    await take(tx, landed("e2", 1, type="a", offset=1), landed("e3", 3, type="b", offset=2))

    assert await dispositions(tx, "e1", "e2", "e3") == ["started", "duplicate", "started"]
    assert (await explained(tx, "e2")).run_id == (await explained(tx, "e1")).run_id
    assert len(ids(tx.emitted)) == 1


PAGE = (Path(__file__).resolve().parents[3] / "docs/triggers.md").read_text()
SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "libs/core/schemas/trigger.json").read_text())
EXAMPLES = re.findall(r"```yaml\n(.*?)```\n```events\n(.*?)```", PAGE, re.DOTALL)
LINE = re.compile(r"(?:(?P<topic>[\w.]+): )?(?P<type>\S+) (?P<subject>.+?) (?P<data>\{.*\}) → (?P<becomes>\w+)")


def test_the_page_shows_each_construct_and_names_each_field() -> None:
    made = [parse_trigger(load_document(text, "trigger")) for text, _ in EXAMPLES]

    assert len(EXAMPLES) == PAGE.count("```yaml")
    assert {one.join.of for one in made if one.join} == {"all", "any", "n_of", "sequence"}
    assert {one.mode for one in made} == {"per_event", "latest", "batch"}
    parts = (Trigger, Source, Filter, ir.Join, ir.Member, ir.Partitions, ir.Batch, ir.Debounce, ir.Throttle)
    assert not {name for part in parts for name in part.model_fields if not re.search(rf"\b{name}\b", PAGE)}
    strategies = Trigger.model_json_schema()["properties"]["strategy"]["enum"]
    assert not {name for name in strategies if f"`{name}`" not in PAGE}


@pytest.mark.parametrize(("text", "events"), EXAMPLES, ids=lambda text: text.split("\n")[0])
async def test_what_the_page_shows_is_what_becomes_of_the_events(
    tx: Store, landed: Any, text: str, events: str
) -> None:
    await force(tx, **DO)
    document = load_document(text, "trigger")
    Draft202012Validator(SCHEMA).validate(document)
    made = parse_trigger(document)
    await apply_trigger(ApplyTrigger(namespace="demo", principal="bob", trigger=made), tx)
    expected: list[tuple[str, str]] = []
    for n, line in enumerate(events.splitlines()):
        if line.endswith(" s later"):
            await later(tx, float(line.split()[0]))
            continue
        found = LINE.fullmatch(line)
        assert found, line
        data, topic = json.loads(found["data"]), found["topic"] or made.sources()[0].topic
        time = f"2026-01-01T00:00:{n:02}Z"
        attributes = {"type": found["type"], "subject": found["subject"], "time": time}
        if found["type"] == "-":
            record, event_id = Record(topic, 0, n, None, json.dumps(data).encode(), (), 0), data["id"]
        else:
            event_id = f"e{n}"
            record = replace(landed(event_id, data, offset=n, **attributes), topic=topic)
        await take(tx, record)
        expected.append((event_id, found["becomes"]))
    await look(tx)

    assert [(name, (await explained(tx, name, made.name)).disposition) for name, _ in expected] == expected


@pytest.mark.parametrize("resumed", ["before its turn", "after its turn"])
async def test_a_run_that_is_paused_while_it_waits_keeps_its_turn_and_begins_when_it_is_resumed(
    tx: Store, landed: Any, resumed: str
) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="queue")
    await take(tx, *(landed(f"e{n}", n, offset=n) for n in range(3)))
    second = (await tx.list_runs("demo", "", "pending", None, 10))[-1].run.run_id
    await pause_run(PauseRun(namespace="demo", principal="eve", run_id=second), tx)
    if resumed == "before its turn":
        await resume_run(ResumeRun(namespace="demo", principal="eve", run_id=second), tx)

    await report(tx, success(orders(tx)[-1]))
    await look(tx)
    if resumed == "after its turn":
        assert [order.input["given"] for order in orders(tx)] == [0]
        await resume_run(ResumeRun(namespace="demo", principal="eve", run_id=second), tx)
        await look(tx)

    await report(tx, success(orders(tx)[-1]))
    await look(tx)
    assert [order.input["given"] for order in orders(tx)] == [0, 1, 2]
    assert await tx.due() == ([], [])
