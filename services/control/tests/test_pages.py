"""Lists of what has names: page by page, by whoever asks with a limit or without."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.control.api import ControlApi
from millrace.control.commands import ApplyQueue
from millrace.control.commands.pools import ApplyPool
from millrace.control.commands.schedules import ApplySchedule
from millrace.control.handlers import apply_pool, apply_queue, apply_schedule
from millrace.control.store import Store
from millrace.core.parse import parse_workflow
from millrace.core.schedules import parse_schedule
from millrace.runtime.errors import InvalidInput, NotFound

from .test_handlers import asking, force, trigger

ADA = {"namespace": "demo", "principal": "ada"}
NAMES = ["a", "b", "c"]


async def a_workflow(name: str, tx: Store) -> None:
    await tx.put_workflow("demo", parse_workflow({"name": name, "tasks": {"do": {"kind": "data.do"}}}), "ada")


async def a_queue(name: str, tx: Store) -> None:
    await apply_queue(ApplyQueue(**ADA, queue=name), tx)


async def a_pool(name: str, tx: Store) -> None:
    await apply_pool(ApplyPool(**ADA, name=name, slots=1), tx)


async def a_trigger(name: str, tx: Store) -> None:
    await force(tx)
    await trigger(tx, name)


async def a_schedule(name: str, tx: Store) -> None:
    await force(tx)
    schedule = parse_schedule({"name": name, "workflow": "w", "cron": "@daily"})
    await apply_schedule(ApplySchedule(**ADA, schedule=schedule), tx)


LISTS = [
    ("Workflows", "workflows", a_workflow),
    ("Queues", "queues", a_queue),
    ("Pools", "pools", a_pool),
    ("Triggers", "triggers", a_trigger),
    ("Schedules", "schedules", a_schedule),
]


@pytest.mark.parametrize(("what", "field", "make"), LISTS)
async def test_what_has_a_name_is_listed_page_by_page(
    what: str, field: str, make: Callable[[str, Store], Awaitable[None]], tx: Store
) -> None:
    for name in reversed(NAMES):
        await make(name, tx)

    async def asked(namespace: str = "demo", **page: Any) -> tuple[list[str], str]:
        request = getattr(pb, f"List{what}Request")(namespace=namespace, **page)
        answer = await getattr(ControlApi(), f"List{what}")(request, tx)
        return [one.name for one in getattr(answer, field) if one.name in NAMES], answer.next_after

    assert await asked(limit=2) == (["a", "b"], "b")
    assert await asked(limit=2, after="b") == (["c"], "")
    assert await asked() == (NAMES, "")
    assert await asked("other") == ([], "")
    with pytest.raises(InvalidInput, match="limit"):
        await asked(limit=501)


async def test_who_gives_no_limit_gets_fifty_and_is_told_where_to_go_on(tx: Store) -> None:
    for n in range(51):
        await a_queue(f"q{n:02}", tx)

    first = await ControlApi().ListQueues(pb.ListQueuesRequest(namespace="demo"), tx)
    second = await ControlApi().ListQueues(pb.ListQueuesRequest(namespace="demo", after=first.next_after), tx)

    assert (len(first.queues), first.next_after) == (50, "q49")
    assert [queue.name for queue in second.queues] == ["q50"]


async def test_a_trigger_is_shown_by_its_name(tx: Store) -> None:
    await a_trigger("a", tx)

    shown = await ControlApi().GetTrigger(pb.GetTriggerRequest(namespace="demo", name="a"), tx)

    assert (shown.trigger.name, shown.trigger.principal) == ("a", "bob")
    with pytest.raises(NotFound, match="trigger a in namespace other"):
        await ControlApi().GetTrigger(pb.GetTriggerRequest(namespace="other", name="a"), tx)


async def test_runs_of_a_state_that_there_is_not_are_refused_and_not_none(tx: Store) -> None:
    with pytest.raises(InvalidInput, match=r"state: .*'pending', 'running'"):
        await ControlApi().ListRuns(pb.ListRunsRequest(namespace="demo", state="fail"), tx)
    assert not (await ControlApi().ListRuns(pb.ListRunsRequest(namespace="demo", state="failed"), tx)).runs


async def test_what_waits_to_be_decided_is_listed_page_by_page_each_once(tx: Store) -> None:
    run_ids = [str(await asking(tx)) for _ in range(5)]

    async def asked(after: str = "") -> pb.ListApprovalsResponse:
        return await ControlApi().ListApprovals(pb.ListApprovalsRequest(namespace="demo", limit=2, after=after), tx)

    pages = [await asked()]
    while after := pages[-1].next_after:
        pages.append(await asked(after))

    assert [len(page.approvals) for page in pages] == [2, 2, 1]
    assert sorted(one.run_id for page in pages for one in page.approvals) == sorted(run_ids)
    with pytest.raises(InvalidInput, match="after"):
        await asked("yesterday")
