"""What is due happens in time, whatever stands beside it, and nobody asks all the while whether it is."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest
from millrace.control.clock import APPLIED, Clock, Queues
from millrace.control.commands import ApplyQueue, ApplyWorkflow, StartRun
from millrace.control.handlers import apply_queue, apply_workflow, start_run
from millrace.control.store import Look, Signals, Store
from millrace.core.parse import parse_workflow
from millrace.core.triggers import Source
from millrace.runtime.database import Database, Transactions
from millrace.runtime.testing import fresh_database, until

WORKFLOW = parse_workflow({"name": "w", "tasks": {"a": {"kind": "data.x"}}})


async def test_a_run_that_cannot_be_decided_on_keeps_no_other_from_what_is_due(postgres: Any) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=WORKFLOW), tx)
            asked = StartRun(namespace="demo", principal="ada", workflow="w")
            runs = [(await start_run(asked, tx)).run.run_id for _ in range(5)]
        async with begin() as tx:
            await tx.fetch("UPDATE run SET due_at = now() - interval '1 s'")
            await tx.fetch("UPDATE run SET sha256 = 'gone' WHERE run_id = $1", runs[2])

        assert await Clock(begin, 1.0).look()
        assert not await Clock(begin, 1.0).look()

        async with begin() as tx:
            states = {row["run_id"]: row["state"] for row in await tx.fetch("SELECT run_id, state FROM run")}
    assert [states[run_id] for run_id in runs] == ["ending", "ending", "running", "ending", "ending"]


async def test_what_another_replica_has_left_is_done_when_it_is_due_not_when_the_clock_comes_round(
    postgres: Any,
) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        async with begin() as tx:
            await apply_workflow(ApplyWorkflow(namespace="demo", principal="ada", workflow=WORKFLOW), tx)
            run_id = (await start_run(StartRun(namespace="demo", principal="ada", workflow="w"), tx)).run.run_id
        async with begin() as tx:
            await tx.fetch("UPDATE run SET due_at = now() + interval '500 ms'")
            due_at = tx.now.timestamp() + 0.5

        async def fired() -> bool:
            async with begin() as tx:
                return (await tx.run("demo", run_id)).run.state == "ending"

        running = asyncio.create_task(Clock(begin, 60.0).run())
        await until(fired, seconds=20)
        running.cancel()

        assert database.clock.time() >= due_at


async def test_the_clock_sleeps_until_the_first_of_what_it_was_told_and_not_longer() -> None:
    signals = Signals()
    signals.due_in(30.0)
    waiting = asyncio.create_task(signals.wait_until_due(60.0))
    await asyncio.sleep(0)
    signals.due_in(40.0)
    signals.due_in(0.1)
    began = time.monotonic()
    async with asyncio.timeout(10):
        await waiting
    assert time.monotonic() - began >= 0.09

    signals.due_in(0.0)  # while it looks
    async with asyncio.timeout(10):
        await signals.wait_until_due(60.0)


async def test_while_somebody_waits_for_the_tasks_of_a_queue_others_tasks_are_looked_for_each_second() -> None:
    signals = Signals()
    async with asyncio.timeout(10):
        waiting = asyncio.create_task(signals.wait_until_due(60.0))
        await asyncio.sleep(0)
        with signals.watching("acme"):
            await waiting
            await signals.wait_until_due(60.0)


async def test_what_is_applied_is_announced_to_every_replica_after_its_commit(postgres: Any) -> None:
    dsn = await fresh_database(postgres, "control")
    another, heard = await asyncpg.connect(dsn), asyncio.Event()
    await another.add_listener(APPLIED, lambda *_: heard.set())
    async with Database(dsn) as database:
        begin = Transactions(database, Store)
        running = asyncio.create_task(Clock(begin, 60.0).run())
        async with begin() as tx:
            tx.put_source("demo", Source(topic="late", start="now"))
            await tx.flush()
            before = heard.is_set()
        async with asyncio.timeout(20):
            await heard.wait()
        running.cancel()
    await another.close()

    assert not before


async def test_a_look_tells_what_other_replicas_were_asked_for(postgres: Any) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        looks: list[Look] = []
        queues = Queues(begin, "nobody:1", lambda _: None)
        async with begin() as tx:
            await apply_queue(ApplyQueue(namespace="demo", principal="ada", queue="acme", transport="kafka"), tx)
        await Store.signals.wait_for_queue()  # who was asked is told at once

        assert not await Clock(begin, 60.0, looks.append, queues.told).look()

        assert looks[0].queues == {"acme": False}
        assert looks[0].next_s is None
        async with asyncio.timeout(1):
            await Store.signals.wait_for_queue()
        queues.told(Look([], [], None, {}, {}, [], chains=False))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Store.signals.wait_for_queue()
