"""What a worker begins by itself: in the transaction that says it, once, and never beside what is ordered."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from millrace.contracts.tasks import ChainCut, ChainedTask, Hole, TaskDispatched
from millrace.runtime.database import Transactions
from millrace.runtime.ids import new_id
from millrace.runtime.tasks.chains import MAX_INPUT_BYTES, order_after
from millrace.runtime.tasks.leases import CUT
from millrace.runtime.testing import until
from runtime_effects import Effects
from task_service import TaskService, exists
from test_tasks import kept

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MILLISECOND = new_id().bytes[:6]


def token() -> UUID:
    """Return a token of one millisecond, as all of a chain have: their reports lie in one partition."""
    return UUID(bytes=MILLISECOND + new_id().bytes[6:])


def link(name: str, given: dict[str, Any], *holes: Hole, kind: str = "x.wait") -> ChainedTask:
    return ChainedTask(task_id=new_id(), token=token(), kind=kind, name=name, input=given, holes=holes, lasts_s=60)


def order(*chain: ChainedTask, name: str = "each[1].a") -> TaskDispatched:
    made = {"task_id": new_id(), "attempt": 3, "token": new_id(), "run_id": new_id(), "name": name, "input": {}}
    also = {"namespace": "demo", "queue": "x", "kind": "x.y", "workflow": "w", "principal": "p", "deadline": NOW}
    return TaskDispatched(**made, **also, chain=chain)


def test_what_an_attempt_hands_on_fills_the_holes_of_all_that_follow() -> None:
    b = link("each[1].b", {"deep": [0, {"n": None}]}, Hole(path=("deep", 1, "n"), task="a", pointer=("list", "1")))
    c = link("each[1].c", {"x": None, "y": None}, Hole(path=("x",), task="a"), Hole(path=("y",), task="b"))
    output = {"list": [5, NOW]}

    second = order_after(order(b, c), output, NOW)
    assert second is not None
    third = order_after(second, {"z": 1}, NOW)

    assert third is not None
    at = "2026-01-01T00:00:00Z"
    assert (second.input, third.input) == ({"deep": [0, {"n": at}]}, {"x": {"list": [5, at]}, "y": {"z": 1}})
    assert (second.task_id, second.token, second.attempt, second.name) == (b.task_id, b.token, 1, b.name)
    assert second.deadline == NOW + timedelta(seconds=60)
    assert third.chain == ()
    assert b.input == {"deep": [0, {"n": None}]}, "it may be asked again, when a transaction is tried again"


@pytest.mark.parametrize(
    ("output", "pointer"),
    [
        ({}, ("n",)),
        ({"n": [1]}, ("n", "1")),
        ({"n": [1]}, ("n", "00")),
        ({"n": [1]}, ("n", "-1")),
        ({"n": 7}, ("n", "m")),
        ({"n": "text"}, ("n", "0")),
        ({"n": "x" * MAX_INPUT_BYTES}, ("n",)),
        ({"n": 1, "$plan": {"tasks": {}}}, ("n",)),
    ],
)
def test_what_is_not_there_or_is_too_much_is_left_to_control(output: dict[str, Any], pointer: tuple[str, ...]) -> None:
    assert order_after(order(link("b", {"x": None}, Hole(path=("x",), task="a", pointer=pointer))), output, NOW) is None


def test_a_hole_that_nobody_has_filled_is_left_to_control() -> None:
    assert order_after(order(link("b", {"x": None}, Hole(path=("x",), task="elsewhere"))), {}, NOW) is None


def test_nothing_follows_the_last() -> None:
    assert order_after(order(), {}, NOW) is None


def follows(tasks: TaskService, mark: str, **changes: Any) -> ChainedTask:
    given = {"folder": str(tasks.folder), "mark": mark, "then": "succeed"} | changes
    return link(mark, given)


async def test_a_chain_is_done_by_one_order_each_link_with_what_the_one_before_hands_on(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    tasks.start()
    b = follows(tasks, "b")
    c = follows(tasks, "").model_copy(update={"holes": (Hole(path=("mark",), task="a", pointer=("mark",)),)})
    first = tasks.order("a", name="a", token=token(), chain=(b, c))

    await tasks.publish(first, times=2)
    ends = await tasks.ends([first.task_id, b.task_id, c.task_id])

    assert [(end.task_id, end.token, end.attempt, end.went_on) for end in ends] == [
        (first.task_id, first.token, 1, True),
        (b.task_id, b.token, 1, True),
        (c.task_id, c.token, 1, False),
    ]
    assert await kept(begin) == ["kept a", "kept b", "kept a"]


async def test_what_is_ordered_takes_the_place_of_a_link_that_was_begun(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    tasks.start()
    b = follows(tasks, "b", then="wait")
    first = tasks.order("a", name="a", token=token(), chain=(b,))
    await tasks.publish(first)
    await tasks.ended(first.task_id)

    ordered = tasks.order("other", kind="x.wait", task_id=b.task_id, name="b")
    await tasks.publish(ordered)
    (success,) = await tasks.ended(b.task_id)
    (tasks.folder / "released").touch()

    assert (success.token, success.output["mark"]) == (ordered.token, "other")
    last = tasks.order("last")
    await tasks.publish(last)
    await tasks.ended(last.task_id)
    assert await kept(begin) == ["kept a", "kept other", "kept last"]
    assert len(await tasks.ended(b.task_id)) == 1, "what gave way has said nothing"


async def test_a_link_that_was_cancelled_before_is_not_begun(tasks: TaskService, begin: Transactions[Effects]) -> None:
    tasks.start()
    b = follows(tasks, "b")
    first = tasks.order("a", kind="x.wait", then="wait", name="a", chain=(b,))
    await tasks.publish(first)
    await until(lambda: tasks.began(first.task_id))

    await tasks.publish(tasks.cancel(first.model_copy(update={"task_id": b.task_id, "token": b.token})))
    after = tasks.order("after")  # of another task, and so perhaps of another partition: all of them are read by then
    await tasks.publish(after)
    await tasks.ended(after.task_id)
    await until(lambda: cancelled(begin, b))
    (tasks.folder / "released").touch()
    (success,) = await tasks.ended(first.task_id)

    assert not success.went_on


async def cancelled(begin: Transactions[Effects], task: ChainedTask) -> bool:
    async with begin() as tx:
        return bool(await tx.fetch("SELECT 1 FROM job WHERE task_id = $1 AND state = 'cancelled'", task.task_id))


async def test_nothing_is_begun_after_a_chain_is_cut(tasks: TaskService) -> None:
    tasks.start()
    first = tasks.order("a", kind="x.wait", then="wait", name="a", chain=(follows(tasks, "b"),))
    await tasks.publish(first)
    await until(lambda: tasks.began(first.task_id))

    same = {name: getattr(first, name) for name in ("namespace", "queue", "task_id", "attempt", "token")}
    stopped = tasks.order("c", kind="x.wait", then="wait", task_id=first.task_id, attempt=2)
    # Orders of one task stay in order: once the second is cancelled, the first is cut.
    await tasks.publish(ChainCut(**same), stopped, tasks.cancel(stopped))
    await tasks.ended(first.task_id)
    (tasks.folder / "released").touch()
    ends = await tasks.ended(first.task_id, 2)

    assert [(end.attempt, getattr(end, "went_on", None)) for end in ends] == [(1, False), (2, None)]


async def test_a_chain_is_cut_wherever_its_worker_is(tasks: TaskService, begin: Transactions[Effects]) -> None:
    tasks.start()
    first = tasks.order("a", kind="x.wait", then="wait", name="a", chain=(follows(tasks, "b"),))
    await tasks.publish(first)
    await until(lambda: tasks.began(first.task_id))

    async with begin() as tx:  # as another replica does it
        await tx.fetch(CUT, first.task_id, 1, first.token)
        ((at,),) = await tx.fetch("SELECT heartbeat_at FROM job WHERE task_id = $1", first.task_id)
    for _ in range(2):  # it beats, and the next time it has taken to heart what it has read
        at = await until(partial(beaten, begin, first, at))
    (tasks.folder / "released").touch()
    (success,) = await tasks.ended(first.task_id)

    assert not success.went_on


async def beaten(begin: Transactions[Effects], order: TaskDispatched, since: datetime) -> datetime | None:
    async with begin() as tx:
        ((at,),) = await tx.fetch("SELECT heartbeat_at FROM job WHERE task_id = $1", order.task_id)
    return at if at > since else None


async def test_what_gave_way_does_not_take_along_what_has_its_place(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    tasks.start()
    carries = follows(tasks, "b", then="hang").model_copy(update={"kind": "x.carry_waiting"})
    first = tasks.order("a", name="a", token=token(), chain=(carries,))
    await tasks.publish(first)
    await until(exists(tasks.folder / "b.pid"))

    ordered = tasks.order("other", kind="x.wait", then="wait", task_id=carries.task_id, name="b")
    await tasks.publish(ordered)
    await until(lambda: leased_by(begin, ordered))
    async with begin() as tx:
        ((at,),) = await tx.fetch("SELECT heartbeat_at FROM job WHERE task_id = $1", ordered.task_id)
    await until(lambda: beaten(begin, ordered, at))
    (tasks.folder / "released").touch()
    (success,) = await tasks.ended(carries.task_id)

    assert (success.token, success.output["mark"]) == (ordered.token, "other")


async def leased_by(begin: Transactions[Effects], order: TaskDispatched) -> bool:
    async with begin() as tx:
        rows = await tx.fetch("SELECT token FROM job WHERE task_id = $1 AND state = 'leased'", order.task_id)
    return [row["token"] for row in rows] == [order.token]


async def test_a_link_whose_worker_was_killed_is_reported_lost_after_the_success_that_it_followed(
    tasks: TaskService, begin: Transactions[Effects]
) -> None:
    process = tasks.start()
    hangs = follows(tasks, "b", then="hang").model_copy(update={"kind": "x.compute"})
    first = tasks.order("a", name="a", token=token(), chain=(hangs,))
    await tasks.publish(first)
    await until(exists(tasks.folder / "b.1.pid"))

    process.kill()
    process.wait(10)
    (tasks.folder / "released").touch()
    tasks.start()
    success, lost = await tasks.ends([first.task_id, hangs.task_id])

    assert (success.task_id, success.went_on) == (first.task_id, True)
    assert (lost.task_id, lost.error, lost.token) == (hangs.task_id, "lost", hangs.token)
    again = tasks.order("b", task_id=hangs.task_id, attempt=2, name="b")
    await tasks.publish(again)
    await tasks.ended(hangs.task_id, 2)
    assert await kept(begin) == ["kept a", "kept b"]


@pytest.mark.parametrize("change", [{"kind": "x.unknown"}, {"input": {"mark": "no folder"}}])
async def test_a_link_that_cannot_be_done_is_left_to_control(change: dict[str, Any], tasks: TaskService) -> None:
    tasks.start()
    first = tasks.order("a", name="a", token=token(), chain=(follows(tasks, "b").model_copy(update=change),))

    await tasks.publish(first)
    (success,) = await tasks.ended(first.task_id)

    assert not success.went_on
