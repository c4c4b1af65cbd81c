import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from millrace.contracts.rpc.runtime.v1 import runtime_pb2
from millrace.runtime.caller import Caller, Priority
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Overloaded
from millrace.runtime.rpc import RpcServer
from millrace.runtime.rpc.admission import LINE_PER_CALL, RANKS, Admission, Buckets
from millrace.runtime.rpc.audit import AuditApi
from millrace.runtime.rpc.held import HeldApi
from millrace.runtime.rpc.methods import rpcs_of
from runtime_effects import Effects
from trial_service import TRIAL, Asked, TrialApi, access_in, bearer, call, raw, serving

MOST = 10


@pytest.fixture
def admission() -> Admission:
    return Admission("trial", MOST)


class Caught:
    """Calls that hold their places until let go, and in which order they came in."""

    def __init__(self, admission: Admission) -> None:
        self.inside: list[Priority] = []
        self.go = asyncio.Event()
        self._admission = admission
        self._all: list[asyncio.Task[None]] = []

    async def send(self, priority: Priority, count: int = 1) -> list[asyncio.Task[None]]:
        sent = [asyncio.create_task(self._one(priority)) for _ in range(count)]
        self._all += sent
        await asyncio.sleep(0)
        return sent

    async def fill(self) -> list[asyncio.Task[None]]:
        """Take all places."""
        return await self.send("interactive", MOST - 1) + await self.send("control")

    async def _one(self, priority: Priority) -> None:
        async with self._admission.place(priority):
            self.inside.append(priority)
            await self.go.wait()

    async def end(self) -> list[Any]:
        self.go.set()
        return await asyncio.gather(*self._all, return_exceptions=True)


async def test_each_rank_leaves_places_to_those_above_it(admission: Admission) -> None:
    calls = Caught(admission)
    for priority in reversed(RANKS):
        await calls.send(priority, MOST)

    assert {name: calls.inside.count(name) for name in RANKS} == {
        "batch": 5,
        "background": 2,
        "interactive": 2,
        "control": 1,
    }
    await calls.end()


async def test_who_operates_leaves_half_of_the_places_and_of_the_line_to_all_others(admission: Admission) -> None:
    calls = Caught(admission)
    operators = await calls.send("control", 2 * LINE_PER_CALL * MOST)
    await asyncio.wait([operators[-1]])
    await calls.send("interactive", MOST)
    people = await calls.send("interactive", LINE_PER_CALL)

    assert calls.inside == ["control"] * 5 + ["interactive"] * 4
    assert isinstance(operators[-1].exception(), Overloaded)
    assert not any(person.done() for person in people)
    await calls.end()


def test_only_what_changes_something_of_the_runtimes_own_comes_before_everybody() -> None:
    services = runtime_pb2.DESCRIPTOR.services_by_name
    held = rpcs_of(services["HeldService"], HeldApi("trial", None, 1.0), None)
    audit = rpcs_of(services["AuditService"], AuditApi("trial"), None)

    operating = [rpc.name.rpartition("/")[2] for rpc in (*held, *audit) if rpc.operates]

    assert operating == ["Replay", "Drop", "Unpark"]


async def test_the_line_is_served_by_rank(admission: Admission) -> None:
    first, later = Caught(admission), Caught(admission)
    await first.fill()
    for priority in reversed(RANKS):
        await later.send(priority)
    await first.end()
    await later.end()

    assert later.inside == list(RANKS)


async def test_who_has_stood_in_line_too_long_is_told_when_to_come_back(admission: Admission) -> None:
    calls = Caught(admission)
    await calls.fill()
    began = time.monotonic()
    refused: dict[Priority, float] = {}

    async def told(priority: Priority) -> None:
        with pytest.raises(Overloaded) as error:
            async with admission.place(priority):
                pass
        assert error.value.retry_after_s >= RANKS[priority].back_in_s * 0.75
        refused[priority] = time.monotonic() - began

    await asyncio.gather(told("interactive"), told("background"), told("batch"))
    await calls.end()

    assert list(refused) == ["batch", "background", "interactive"]
    assert all(waited_s >= RANKS[priority].patience_s for priority, waited_s in refused.items())


async def test_a_full_line_turns_away_the_lowest_of_it(admission: Admission) -> None:
    calls = Caught(admission)
    await calls.fill()
    line = await calls.send("batch", LINE_PER_CALL * MOST)
    (one_more,) = await calls.send("batch")
    (person,) = await calls.send("interactive")
    await asyncio.wait([one_more, line[-1]])

    assert isinstance(one_more.exception(), Overloaded)
    assert isinstance(line[-1].exception(), Overloaded)
    assert not person.done()
    assert not line[0].done()
    calls.go.set()
    await asyncio.gather(person, *line[:-1])


async def test_a_call_that_goes_away_leaves_its_place_and_its_line(admission: Admission) -> None:
    calls = Caught(admission)
    inside = await calls.fill()
    waiting = await calls.send("interactive", 2)
    waiting[0].cancel()
    inside[0].cancel()
    inside[1].cancel()
    await asyncio.wait([waiting[0], *inside[:2]])

    await asyncio.sleep(0)
    assert calls.inside.count("interactive") == MOST - 1 + 1
    await calls.end()
    async with admission.place("batch"):
        pass


async def test_a_principal_may_make_so_many_calls_a_second_in_a_namespace() -> None:
    buckets = Buckets("trial", 10.0)
    greedy, modest = Caller("alice", namespace="demo"), Caller("bob", namespace="demo")

    for _ in range(21):
        buckets.take(greedy)
    with pytest.raises(Overloaded, match="alice makes more than 10 calls a second in namespace demo") as error:
        buckets.take(greedy)
    buckets.take(modest)
    buckets.take(Caller("alice", namespace="other"))
    await asyncio.sleep(error.value.retry_after_s)

    assert 0 < error.value.retry_after_s < 1
    buckets.take(greedy)


@pytest.fixture
async def channel(api: TrialApi, begin: Transactions[Effects], tmp_path: Path) -> AsyncIterator[Any]:
    server = RpcServer("trial", access_in(tmp_path), most_calls=4, calls_per_s=10)
    server.serve(TRIAL, api, begin)
    async with serving(server) as target, raw(target) as opened:
        yield opened


@pytest.fixture
def api() -> TrialApi:
    return TrialApi()


def look(channel: Any, text: str = "a", **metadata: str) -> "asyncio.Future[Any]":
    return asyncio.ensure_future(call(channel, "Look")(Asked(namespace="demo", text=text), metadata=bearer(**metadata)))


async def test_a_batch_call_is_refused_with_a_delay_while_a_person_is_still_served(channel: Any, api: TrialApi) -> None:
    held = [look(channel, "wait") for _ in range(2)]
    while len(api.callers) < 2:
        await asyncio.wait(held, timeout=0.01)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await look(channel, x_priority="batch")
    await look(channel)
    api.go_on.set()
    await asyncio.gather(*held)

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = Status.FromString(dict(error.value.trailing_metadata() or ())["grpc-status-details-bin"])
    delay = RetryInfo()
    assert details.details[0].Unpack(delay)
    assert delay.retry_delay.ToMilliseconds() >= 3000


async def test_a_claim_to_come_before_everybody_is_not_heard(channel: Any, api: TrialApi) -> None:
    await look(channel, x_priority="control")

    assert [who.priority for who in api.callers] == ["interactive"]


async def test_a_call_whose_time_is_over_in_line_is_never_begun(channel: Any, api: TrialApi) -> None:
    held = [look(channel, "wait") for _ in range(4)]
    while len(api.callers) < 4:
        await asyncio.wait(held, timeout=0.01)

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(channel, "Look")(Asked(namespace="demo"), metadata=bearer(), timeout=0.2)
    api.go_on.set()
    await asyncio.gather(*held)

    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(api.callers) == 4


async def test_who_calls_too_often_is_told_so_and_others_are_served(channel: Any) -> None:
    told = await asyncio.gather(*(look(channel) for _ in range(100)), return_exceptions=True)
    await call(channel, "Look")(Asked(namespace="demo"), metadata=bearer("reader"))

    refused = [error for error in told if isinstance(error, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert any("alice makes more than 10 calls a second" in str(error.details()) for error in refused)
