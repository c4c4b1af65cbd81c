"""Triggers that somebody deletes: what waits in them ends and says why, what is under way goes on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from millrace.control.commands import DeleteTrigger, ExplainEvent, PauseTrigger
from millrace.control.domain.explain import Explanation
from millrace.control.handlers import (
    definitions,
    delete_trigger,
    explain_event,
    look_at_triggers,
    pause_trigger,
    take_records,
)
from millrace.control.store import Store
from millrace.core.state import RunState
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, NotFound
from millrace.runtime.testing import Server, fresh_database

from .test_handlers import force, orders, report, success, trigger

DO: dict[str, Any] = {"do": {"kind": "data.do", "input": {"given": {"$from": "/trigger/data"}}}}
JOIN: dict[str, Any] = {
    "members": [{"name": "a", "filter": {"type": "a"}}, {"name": "b", "filter": {"type": "b"}}],
    "window_s": 60,
}
DELETE = DeleteTrigger(namespace="demo", principal="eve", name="t")


async def explained(tx: Store, event_id: str) -> list[Explanation]:
    return (await explain_event(ExplainEvent(namespace="demo", event_id=event_id), tx))[1]


async def listed(tx: Store) -> list[str]:
    return [one.name for one in await tx.shown_triggers("demo", "", 10)]


@pytest.fixture
async def begin(postgres: Server) -> AsyncIterator[Transactions[Store]]:
    async with Database(await fresh_database(postgres, "control")) as database:
        yield Transactions(database, Store)


async def test_runs_that_wait_are_cancelled_the_one_under_way_goes_on_and_nothing_more_starts(
    tx: Store, landed: Any
) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="queue")
    await take_records([landed("e1", 1), landed("e2", 2, offset=1), landed("e3", 3, offset=2)], tx)

    assert await delete_trigger(DELETE, tx) == (2, 0)

    await take_records([landed("e4", 4, offset=3)], tx)
    await report(tx, success(orders(tx)[-1]))
    found = await tx.list_runs("demo", "w", "", None, 10)
    ends = [(kept.run.trigger["data"], kept.run.state, kept.run.cause) for kept in reversed(found)]
    cancelled = (RunState.CANCELLED, "eve deleted trigger t")
    assert ends == [(1, RunState.SUCCEEDED, ""), (2, *cancelled), (3, *cancelled)]
    assert await explained(tx, "e4") == []
    assert (await listed(tx), await tx.due()) == ([], ([], []))
    with pytest.raises(NotFound, match="trigger t in namespace demo"):
        await delete_trigger(DELETE, tx)


@pytest.mark.parametrize("paused", [False, True])
async def test_events_that_wait_are_dropped_and_say_who_deleted_the_trigger(
    tx: Store, landed: Any, paused: bool
) -> None:
    await force(tx, **DO)
    await trigger(tx, join=JOIN)
    if paused:
        await pause_trigger(PauseTrigger(**dict(DELETE)), tx)
    await take_records([landed("e1", 1, type="a")], tx)

    assert await delete_trigger(DELETE, tx) == (0, 1)

    (told,) = await explained(tx, "e1")
    assert (told.disposition, told.reason) == ("dropped", "eve deleted trigger t")


async def test_one_that_is_applied_again_begins_anew(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, join=JOIN)
    await trigger(tx, join=JOIN | {"window_s": 90})
    await take_records([landed("e1", 1, type="a")], tx)
    await delete_trigger(DELETE, tx)
    await trigger(tx, join=JOIN)

    await take_records([landed("e2", 2, type="b", offset=1)], tx)
    assert not orders(tx)
    await take_records([landed("e3", 3, type="a", offset=2)], tx)

    (order,) = orders(tx)
    assert {name: one["data"] for name, one in order.input["given"]["members"].items()} == {"a": 3, "b": 2}


@pytest.mark.parametrize("how", [{"join": JOIN}, {"strategy": "queue"}])
async def test_an_event_that_a_replica_takes_while_the_trigger_is_deleted_is_dropped_and_not_forgotten(
    begin: Transactions[Store], landed: Any, how: dict[str, Any]
) -> None:
    async with begin() as tx:
        await force(tx, **DO)
        await trigger(tx, **how)

    async def take() -> None:
        async with begin() as tx:
            await take_records([landed("e1", 1, type="a")], tx)

    async with begin() as tx:
        await delete_trigger(DELETE, tx)
        taking = asyncio.create_task(take())
        await asyncio.wait([taking], timeout=0.5)
        assert not taking.done()
    await asyncio.wait_for(taking, 10)

    async with begin() as tx:
        (told,) = await explained(tx, "e1")
        assert (told.disposition, told.reason, told.run_id) == ("dropped", "the trigger was deleted", None)
        assert await tx.list_runs("demo", "", "", None, 10) == []
        _, turns = await tx.due()
        assert not await look_at_triggers(turns, tx)


async def test_runs_of_one_that_is_applied_again_wait_for_those_of_the_former_one(tx: Store, landed: Any) -> None:
    await force(tx, **DO)
    await trigger(tx, strategy="queue")
    await take_records([landed("e1", 1), landed("e2", 2, offset=1)], tx)
    await delete_trigger(DELETE, tx)
    await trigger(tx, strategy="queue")

    await take_records([landed("e3", 3, offset=2)], tx)
    assert [order.input["given"] for order in orders(tx)] == [1]
    await report(tx, success(orders(tx)[-1]))
    await look_at_triggers((await tx.due())[1], tx)

    assert [order.input["given"] for order in orders(tx)] == [1, 3]


@pytest.mark.parametrize(
    ("bound", "how", "said"),
    [
        ("MAX_CANCELLED", {"strategy": "queue"}, "more than 1 runs of trigger t wait for their turn"),
        ("MAX_DROPPED", {"paused": True}, "more than 1 events wait in trigger t"),
    ],
)
async def test_where_more_waits_than_one_transaction_bears_nothing_is_changed(
    tx: Store, landed: Any, monkeypatch: pytest.MonkeyPatch, bound: str, how: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(definitions, bound, 1)
    await force(tx, **DO)
    await trigger(tx, **how)
    await take_records([landed(f"e{n}", n, offset=n, type="a") for n in range(3)], tx)

    with pytest.raises(Conflict, match=said):
        await delete_trigger(DELETE, tx)
    assert await listed(tx) == ["t"]
