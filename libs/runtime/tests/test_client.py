import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from millrace.runtime.caller import CALLER, Caller
from millrace.runtime.client import Budget, Channels, Token, blocking_channel
from millrace.runtime.database import Transactions
from millrace.runtime.endpoints import target_of
from millrace.runtime.errors import (
    Conflict,
    Denied,
    InvalidInput,
    MillraceError,
    NotFound,
    Overloaded,
    Unavailable,
)
from millrace.runtime.rpc import RpcServer
from millrace.runtime.telemetry import span
from millrace.runtime.testing import until
from millrace.runtime.testing.authority import Authority
from millrace.runtime.testing.process import free_port
from millrace.runtime.traceparent import current_trace_id
from runtime_effects import Effects
from trial_service import TRIAL, Asked, TrialApi, access_in, call, ours, serving, token

ASKED = Asked(namespace="demo", request_id="r1", text="a")


@pytest.fixture
def api() -> TrialApi:
    return TrialApi()


@pytest.fixture
async def target(api: TrialApi, begin: Transactions[Effects], tmp_path: Path) -> AsyncIterator[str]:
    server = RpcServer("trial", access_in(tmp_path))
    server.serve(TRIAL, api, begin)
    async with serving(server) as target:
        yield target


@pytest.fixture
async def channels(target: str, tmp_path: Path) -> AsyncIterator[Channels]:
    async with ours(tmp_path, target) as opened:
        yield opened


ERRORS = {
    "invalid": InvalidInput,
    "missing": NotFound,
    "conflict": Conflict,
    "unavailable": Unavailable,
    "overloaded": Overloaded,
    "bug": MillraceError,
}


@pytest.mark.parametrize("text", ERRORS)
async def test_the_error_raised_there_is_raised_here(channels: Channels, text: str) -> None:
    with pytest.raises(ERRORS[text]) as unary:
        await call(channels.to("trial"), "Look")(Asked(namespace="demo", text=text), timeout=2)
    with pytest.raises(ERRORS[text]) as stream:
        [told async for told in call(channels.to("trial"), "Watch")(Asked(namespace="demo", text=text))]

    assert type(unary.value) is type(stream.value) is ERRORS[text]
    assert str(unary.value) == str(stream.value)
    if isinstance(unary.value, Overloaded):
        assert unary.value.retry_after_s == 2.5
    if text == "bug":
        assert str(unary.value) == "trial failed: internal error"


async def test_who_is_unknown_and_who_may_not_are_told_apart(channels: Channels, tmp_path: Path) -> None:
    with pytest.raises(Denied) as forbidden:
        await call(channels.to("trial"), "Look")(Asked(namespace="other"))
    (tmp_path / "token").write_text("a.b.c")
    with pytest.raises(Denied) as unknown:
        await call(channels.to("trial"), "Look")(Asked(namespace="demo"))

    assert (forbidden.value.authenticated, unknown.value.authenticated) == (True, False)


async def test_what_was_unavailable_is_tried_again_and_what_was_refused_when_its_server_said(
    channels: Channels, api: TrialApi
) -> None:
    # Asked to wait for 2.5 s each time.
    for text, tries in (("unavailable", 5), ("conflict", 1), ("overloaded", 2), ("bug", 1)):
        api.callers.clear()
        with pytest.raises(MillraceError):
            await call(channels.to("trial"), "Look")(Asked(namespace="demo", text=text), timeout=4)
        assert len(api.callers) == tries


async def test_inside_a_call_a_refusal_is_told_and_not_waited_out(channels: Channels, api: TrialApi) -> None:
    token = CALLER.set(Caller("alice"))
    try:
        with pytest.raises(Overloaded):
            await call(channels.to("trial"), "Look")(Asked(namespace="demo", text="overloaded"))
    finally:
        CALLER.reset(token)

    assert len(api.callers) == 1


def test_of_ten_calls_one_may_be_sent_again() -> None:
    budget = Budget()
    while budget.spend():
        pass

    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    budget.earn()
    budget.earn()
    assert budget.spend()
    assert not budget.spend()


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("host:1", "host:1"),
        ("127.0.0.1:1, 127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("[::1]:1,[::1]:2", "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_several_addresses_are_the_replicas_of_one_service(given: str, target: str) -> None:
    assert target_of("trial", {"trial": given}) == target


@pytest.mark.parametrize("given", ["a:1,b:2", "127.0.0.1:1,[::1]:2", "127.0.0.1,127.0.0.1:2"])
def test_replicas_are_addresses_of_one_kind(given: str) -> None:
    with pytest.raises(InvalidInput, match="several must be IP addresses"):
        target_of("trial", {"trial": given})


async def test_no_call_fails_while_each_replica_in_turn_is_stopped_and_started(
    begin: Transactions[Effects], tmp_path: Path
) -> None:
    replicas = [Replica(begin, tmp_path) for _ in range(2)]
    for replica in replicas:
        await replica.start()
    stopping = asyncio.Event()
    async with ours(tmp_path, ",".join(replica.target for replica in replicas)) as channels:
        asking = asyncio.create_task(ask_until(stopping, channels))
        for replica in replicas * 2:
            served = len(replica.api.callers)
            await until(lambda asked=replica, before=served: later(len(asked.api.callers) > before + 10))
            await replica.server.drain(5)
            await replica.start()
        stopping.set()

        assert await asking > 40
    for replica in replicas:
        await replica.server.drain(1)


class Replica:
    """One of several servers of the trial service, always on the same port."""

    def __init__(self, begin: Transactions[Effects], folder: Path) -> None:
        self.api = TrialApi()
        self.port = free_port()
        self.target = f"127.0.0.1:{self.port}"
        self._begin, self._folder = begin, folder

    async def start(self) -> None:
        self.server = RpcServer("trial", access_in(self._folder), port=self.port)
        self.server.serve(TRIAL, self.api, self._begin)
        await self.server.start()
        await self.server.set_serving(serving=True)


async def later(held: bool) -> bool:
    return held


async def ask_until(stopping: asyncio.Event, channels: Channels) -> int:
    asked = 0
    while not stopping.is_set():
        await call(channels.to("trial"), "Look")(ASKED)
        asked += 1
    return asked


async def test_a_service_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    access_in(tmp_path)
    async with ours(tmp_path, "127.0.0.1:1") as channels:
        with pytest.raises(Unavailable):
            await call(channels.to("trial"), "Look")(ASKED)
        with pytest.raises(Unavailable, match="where data answers"):
            channels.to("data")


async def test_an_answer_that_does_not_come_in_time_is_unavailable(channels: Channels, api: TrialApi) -> None:
    with pytest.raises(Unavailable, match="trial did not answer in time"):
        await call(channels.to("trial"), "Look")(Asked(namespace="demo", text="wait"), timeout=0.2)
    api.go_on.set()


async def test_a_call_made_inside_a_call_waits_no_longer_than_that(channels: Channels, api: TrialApi) -> None:
    token = CALLER.set(Caller("alice", deadline=time.monotonic() + 5, priority="batch"))
    try:
        await call(channels.to("trial"), "Look")(ASKED)
        CALLER.set(Caller("alice", deadline=time.monotonic()))
        with pytest.raises(Unavailable, match="no time is left"):
            await call(channels.to("trial"), "Look")(ASKED)
    finally:
        CALLER.reset(token)

    assert 3 < api.callers[0].remaining_s() < 5
    assert api.callers[0].priority == "batch"


async def test_a_call_on_behalf_of_somebody_says_so_and_may_wait(target: str, api: TrialApi, tmp_path: Path) -> None:
    async with ours(tmp_path, target, "service:trial") as channels:
        await call(channels.to("trial", on_behalf_of="reader"), "Look")(ASKED)

    (who,) = api.callers
    assert (who.principal, who.service, who.priority) == ("reader", "service:trial", "batch")


async def test_the_trace_goes_along(channels: Channels, begin: Transactions[Effects]) -> None:
    with span("trial", "asking"):
        trace_id = current_trace_id()
        await call(channels.to("trial"), "Change")(ASKED)

    async with begin() as tx:
        assert [row["trace_id"] for row in await tx.fetch("SELECT trace_id FROM request")] == [trace_id]


async def test_a_new_token_is_taken_up(channels: Channels, api: TrialApi, tmp_path: Path) -> None:
    await call(channels.to("trial"), "Look")(ASKED)
    (tmp_path / "token").write_text(token("reader"))
    await call(channels.to("trial"), "Look")(ASKED)

    assert [who.principal for who in api.callers] == ["alice", "reader"]


async def test_a_token_that_tests_call_with_is_renewed_and_is_one_all_the_while(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    token = Token(authority.token_file("dev"))
    first = token.value()

    async def another() -> bool:
        return token.value() != first

    renewing = asyncio.create_task(authority.renew(every_s=0.001))
    await until(another)
    renewing.cancel()


@pytest.mark.parametrize("content", [b"", b"a b\nc", b"\xff", b"x" * 10_000])
def test_what_is_no_token_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)

    with pytest.raises(Unavailable, match="token cannot be used"):
        Token(path).value()


async def test_code_that_is_not_asynchronous_calls_just_so(channels: Channels, target: str, tmp_path: Path) -> None:
    def ask() -> tuple[str, list[str], Exception]:
        with blocking_channel("trial", target, Token(tmp_path / "token")) as channel:
            told: Any = call(channel, "Change")(ASKED)
            stream = [told.text for told in call(channel, "Watch")(ASKED)]
            with pytest.raises(NotFound) as error:
                call(channel, "Look")(Asked(namespace="demo", text="missing"))
            with pytest.raises(NotFound):
                list(call(channel, "Watch")(Asked(namespace="demo", text="missing")))
            return told.text, stream, error.value

    told, stream, error = await asyncio.to_thread(ask)

    assert told.startswith("a ")
    assert stream == ["a"]
    assert str(error) == "thing 7 does not exist"
    assert (await call(channels.to("trial"), "Change")(ASKED)).text == told
