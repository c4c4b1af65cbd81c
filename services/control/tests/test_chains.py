"""What control says of chains, and what it makes of what a worker has begun by itself."""

from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import pytest
from millrace.contracts.tasks import ChainCut, ChainedTask, TaskCancelled, TaskDispatched
from millrace.control.clock import Clock
from millrace.control.commands.operations import CancelRun, PauseRun
from millrace.control.handlers import cancel_run, pause_run
from millrace.control.store import Store
from millrace.control.store.due import POST_CHAINS
from millrace.core import attempts
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import NotFound
from millrace.runtime.tasks import chains as chains_of_workers
from millrace.runtime.testing import Server, fresh_database

from .test_handlers import force, orders, report, started, success
from .test_leases import begun as leased

WORK: dict[str, Any] = {"kind": "data.x", "resources": {"cpu": 2}, "heartbeat_timeout_s": 20}
TASKS: dict[str, Any] = {
    "a": WORK,
    "b": WORK | {"needs": ["a"], "input": {"n": {"$from": "/tasks/a/output/n"}}},
    "c": WORK | {"needs": ["b"]},
}


@pytest.fixture
async def chains(tx: Store) -> AsyncIterator[None]:
    Store.signals.chains = True
    yield
    Store.signals.chains = False


def of(order: TaskDispatched, link: ChainedTask) -> TaskDispatched:
    """Return what a worker takes for the order of a link."""
    return order.model_copy(update={"task_id": link.task_id, "token": link.token, "name": link.name, "attempt": 1})


@pytest.mark.usefixtures("chains")
async def test_an_order_has_its_chain_and_a_run_of_which_all_was_done_by_it_ends(tx: Store) -> None:
    await force(tx, **TASKS)
    run_id = await started(tx)
    (order,) = orders(tx)
    b, c = order.chain
    assert (b.kind, b.input, b.holes[0].path, b.heartbeat_timeout_s) == ("data.x", {"n": None}, ("n",), 10)
    assert b.resources is not None
    assert b.lasts_s == 7200

    await report(
        tx,
        success(order, n=1).model_copy(update={"went_on": True}),
        success(of(order, b)).model_copy(update={"went_on": True}),
        success(of(order, c), done=True),
    )

    kept = await tx.run("demo", run_id)
    assert str(kept.run.state) == "succeeded"
    assert {name: (task.attempt, task.output) for name, task in kept.run.tasks.items()} == {
        "a": (1, {"n": 1}),
        "b": (1, {}),
        "c": (1, {"done": True}),
    }
    assert len(orders(tx)) == 1


async def test_no_order_has_a_chain_while_a_replica_may_be_there_that_does_not_know_of_them(postgres: Server) -> None:
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)

        async def chained() -> bool:
            await Clock(begin, 2.0).look()
            async with begin() as tx:
                await force(tx, **TASKS)
                await started(tx)
                return bool(orders(tx)[-1].chain)

        assert await chained()
        async with begin() as tx:
            marked = await tx.fetch("DELETE FROM schema_version WHERE migration LIKE '%_post_chains.sql' RETURNING 1")
        assert len(marked) == 1
        assert not await chained()
    Store.signals.chains = False


def test_the_migration_that_is_looked_for_is_one_that_is_applied_once_the_former_version_is_gone() -> None:
    assert "_post_" in POST_CHAINS
    assert resources.files("millrace.control").joinpath("migrations", POST_CHAINS).is_file()


@pytest.mark.usefixtures("chains")
async def test_what_comes_before_the_success_that_it_follows_waits_for_that(tx: Store) -> None:
    await force(tx, **TASKS)
    run_id = await started(tx)
    (order,) = orders(tx)
    last = success(of(order, order.chain[0]))

    with pytest.raises(NotFound, match="the success with which its worker has begun it is to come first"):
        async with tx.part() as part:
            await report(part, last)
    first = success(order, n=1).model_copy(update={"went_on": True})
    with pytest.raises(NotFound):
        async with tx.part() as part:
            await report(part, last, first)
    await report(tx, first)
    await report(tx, last)

    states = {name: str(task.state) for name, task in (await tx.run("demo", run_id)).run.tasks.items()}
    assert states == {"a": "succeeded", "b": "succeeded", "c": "dispatched"}


@pytest.mark.usefixtures("chains")
async def test_what_is_leased_has_no_chain(tx: Store) -> None:
    await leased(tx, a={"kind": "acme.x"}, b={"kind": "acme.y", "needs": ["a"]})

    rows = await tx.fetch("SELECT dispatched FROM task_lease")

    assert [row["dispatched"]["chain"] for row in rows] == [[]]
    assert not [event for event in tx.emitted if isinstance(event, ChainCut)]


@pytest.mark.usefixtures("chains")
@pytest.mark.parametrize("other", [{"service": "training"}, {"namespace": "other"}])
async def test_what_somebody_else_says_to_have_begun_counts_for_nothing(other: dict[str, str], tx: Store) -> None:
    await force(tx, **TASKS)
    await started(tx)
    (order,) = orders(tx)

    await report(tx, success(order, n=1).model_copy(update={"went_on": True, **other}))

    assert [one.name for one in orders(tx)] == ["a", "b"]
    assert not [event for event in tx.emitted if isinstance(event, TaskCancelled)]


def test_what_a_worker_and_control_take_for_too_much_is_the_same() -> None:
    assert chains_of_workers.MAX_INPUT_BYTES == attempts.MAX_INPUT_BYTES


@pytest.mark.usefixtures("chains")
async def test_a_pause_cuts_the_chain(tx: Store) -> None:
    await force(tx, **TASKS)
    run_id = await started(tx)

    await pause_run(PauseRun(namespace="demo", principal="ada", run_id=run_id, reason="look"), tx)

    (order,) = orders(tx)
    cuts = [event for event in tx.emitted if isinstance(event, ChainCut)]
    assert [(cut.queue, cut.task_id, cut.attempt, cut.token) for cut in cuts] == [
        ("data", order.task_id, 1, order.token)
    ]


@pytest.mark.usefixtures("chains")
async def test_what_a_worker_has_begun_for_a_run_that_is_over_is_stopped(tx: Store) -> None:
    await force(tx, **TASKS)
    run_id = await started(tx)
    await cancel_run(CancelRun(namespace="demo", principal="ada", run_id=run_id, reason="enough", force=True), tx)
    (order,) = orders(tx)

    await report(tx, success(order, n=1).model_copy(update={"went_on": True}))

    last = [event for event in tx.emitted if isinstance(event, TaskCancelled)][-1]
    assert (last.task_id, last.token) == (order.chain[0].task_id, order.chain[0].token)
