"""Queues of teams."""

from typing import Any

import pytest
from millrace.contracts.catalogue import queue_topics
from millrace.control.clock import Queues
from millrace.control.commands import ApplyQueue, ApplyWorkflow
from millrace.control.domain.plans import misfit_in_plan
from millrace.control.handlers import apply_queue, apply_workflow
from millrace.control.store import Store
from millrace.core.parse import parse_workflow
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, InvalidInput
from millrace.runtime.testing import Server, fresh_database


def queue(name: str = "acme", namespace: str = "demo") -> ApplyQueue:
    return ApplyQueue(namespace=namespace, principal="ada", queue=name)


def workflow(namespace: str = "demo", **task: Any) -> ApplyWorkflow:
    parsed = parse_workflow({"name": "w", "tasks": {"a": {"kind": "acme.do", **task}}})
    return ApplyWorkflow(namespace=namespace, principal="ada", workflow=parsed)


async def test_a_queue_that_is_asked_for_twice_is_one(tx: Store) -> None:
    first, new = await apply_queue(queue(), tx)
    again, still_new = await apply_queue(queue(), tx)

    assert (first, new, still_new) == (again, True, False)
    assert [(row["name"], row["principal"], row["live"]) for row in await tx.queues("demo")] == [("acme", "ada", False)]


async def test_the_queue_of_one_namespace_is_no_others(tx: Store) -> None:
    await apply_queue(queue(), tx)
    tx.save_live(["acme"])

    with pytest.raises(Conflict, match="queue acme is another namespace's"):
        await apply_queue(queue(namespace="other"), tx)
    with pytest.raises(InvalidInput, match="task a: there is no queue acme"):
        await apply_workflow(workflow(namespace="other"), tx)
    assert await tx.queues("other") == []


async def test_a_workflow_may_name_a_queue_once_its_topics_are_there(tx: Store) -> None:
    await apply_queue(queue(), tx)
    with pytest.raises(InvalidInput, match="task a: there is no queue acme; queues are control, data"):
        await apply_workflow(workflow(), tx)

    tx.save_live(["acme"])

    assert await apply_workflow(workflow(), tx) == []
    with pytest.raises(InvalidInput, match=r"there is no queue acne; queues are .*observability, acme$"):
        await apply_workflow(workflow(queue="acne"), tx)


@pytest.mark.parametrize("name", ["data", "control", "Acme", "a.b", "", "a" * 64])
def test_a_queue_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(InvalidInput, match="queue"):
        queue(name)


def test_what_is_planned_may_name_the_queues_that_are_live() -> None:
    planned = {"$plan": {"tasks": {"a": {"kind": "acme.do"}}}}

    assert misfit_in_plan(planned, {"acme"}) == ""
    assert misfit_in_plan(planned).startswith("a: there is no queue acme; queues are control")


async def test_the_topics_of_a_queue_are_made_before_it_is_live_and_taken_once(postgres: Server, broker: Any) -> None:
    taken: list[str] = []
    async with Database(await fresh_database(postgres, "control")) as database:
        begin = Transactions(database, Store)
        queues = Queues(begin, broker.servers, taken.append)
        async with begin() as tx:
            await apply_queue(queue("acme_queues"), tx)
        before = await queues.take_up()
        await queues.look()
        await queues.look()
        async with begin() as tx:
            (row,) = await tx.queues("demo")

    assert before == ["acme_queues"]
    assert taken == ["acme_queues"]
    assert row["live"]
    assert [topic.name for topic in queue_topics(["acme"])] == ["control.tasks.acme", "acme.tasks"]
