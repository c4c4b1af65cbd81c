"""What operators ask of every service: held events and the audit trail."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import AuditServiceStub, HeldServiceStub
from millrace.runtime.client import Channels
from millrace.runtime.errors import Denied, InvalidInput, NotFound
from millrace.runtime.held import Coordinates, hold
from millrace.runtime.rpc import RpcServer
from millrace.runtime.rpc.audit import AuditApi
from millrace.runtime.rpc.held import HeldApi
from millrace.runtime.subscriptions import Record
from millrace.runtime.transaction import Transactions
from runtime_effects import Effects
from trial_service import TRIAL, Asked, TrialApi, access_in, call, ours, serving


class Replays:
    """Notes what is to be handled again, and answers as a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[Coordinates, bool]] = []
        self.reason = ""

    async def __call__(self, at: Coordinates, *, accept_duplicate: bool) -> str:
        self.asked.append((at, accept_duplicate))
        return self.reason


@pytest.fixture
def replays() -> Replays:
    return Replays()


@pytest.fixture
async def target(replays: Replays, begin: Transactions[Effects], tmp_path: Path) -> AsyncIterator[str]:
    server = RpcServer("trial", access_in(tmp_path))
    server.serve(TRIAL, TrialApi(), begin)
    services = pb.DESCRIPTOR.services_by_name
    server.serve(services["HeldService"], HeldApi("trial", replays), begin)
    server.serve(services["AuditService"], AuditApi("trial"), begin)
    async with begin() as tx:
        for offset, namespace in enumerate(("demo", "other", "")):
            headers = (("ce_namespace", namespace.encode()), ("odd", b"\xff"), ("null", None))
            hold(tx, "trial", Record("data.versions", 0, offset, b"k", b"{", headers, 0), "not JSON")
    async with serving(server) as target:
        yield target


@pytest.fixture
async def manager(target: str, tmp_path: Path) -> AsyncIterator[Channels]:
    async with ours(tmp_path, target, "manager") as channels:
        yield channels


def at(kind: type[Any], offset: int, namespace: str = "demo", **more: Any) -> Any:
    return kind(namespace=namespace, topic="data.versions", partition=0, offset=offset, **more)


async def test_held_events_are_shown_to_their_namespace_only(manager: Channels) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))

    (event,) = (await held.List(pb.HeldServiceListRequest(namespace="demo"))).held
    shown = await held.Show(at(pb.HeldServiceShowRequest, 0))

    assert (event.offset, event.key, event.reason, event.state, event.namespace) == (0, "k", "not JSON", "dead", "demo")
    assert (shown.held, shown.value, shown.headers["odd"]) == (event, b"{", "\N{REPLACEMENT CHARACTER}")
    for offset in (1, 2, 9):
        with pytest.raises(NotFound):
            await held.Show(at(pb.HeldServiceShowRequest, offset))
    with pytest.raises(Denied):
        await held.List(pb.HeldServiceListRequest(namespace=""))


async def test_who_may_see_every_namespace_sees_what_could_not_be_read_too(target: str, tmp_path: Path) -> None:
    async with ours(tmp_path, target, "root") as channels:
        held: Any = HeldServiceStub(channels.to("trial"))
        assert len((await held.List(pb.HeldServiceListRequest())).held) == 3
        assert len((await held.List(pb.HeldServiceListRequest(limit=2))).held) == 2
        for limit in (-1, 1001):
            with pytest.raises(InvalidInput, match="limit"):
                await held.List(pb.HeldServiceListRequest(limit=limit))


async def test_a_dropped_event_is_gone_and_dropping_it_again_gets_the_same_answer(manager: Channels) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    for _ in range(2):
        await held.Drop(at(pb.HeldServiceDropRequest, 0, request_id="d1"))

    assert not (await held.List(pb.HeldServiceListRequest(namespace="demo"))).held
    with pytest.raises(NotFound, match="partition 0 offset 0"):
        await held.Drop(at(pb.HeldServiceDropRequest, 0, request_id="d2"))
    with pytest.raises(NotFound):
        await held.Drop(at(pb.HeldServiceDropRequest, 1, request_id="d3"))


async def test_a_replay_says_why_an_event_is_held_still(manager: Channels, replays: Replays) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    replays.reason = "still not JSON"

    told = await held.Replay(at(pb.HeldServiceReplayRequest, 0, request_id="p1", accept_duplicate=True))

    assert (told.handled, told.reason) == (False, "still not JSON")
    assert replays.asked == [(Coordinates("data.versions", 0, 0), True)]
    with pytest.raises(NotFound):
        await held.Replay(at(pb.HeldServiceReplayRequest, 1, request_id="p2"))
    assert len(replays.asked) == 1


async def test_every_change_is_in_the_audit_trail_of_its_namespace(
    manager: Channels, target: str, tmp_path: Path
) -> None:
    await call(manager.to("trial"), "Change")(Asked(namespace="demo", request_id="c1", text="a"))
    await HeldServiceStub(manager.to("trial")).Drop(at(pb.HeldServiceDropRequest, 0, request_id="d1"))

    audit: Any = AuditServiceStub(manager.to("trial"))
    rows = (await audit.List(pb.AuditServiceListRequest(namespace="demo"))).rows
    older = await audit.List(pb.AuditServiceListRequest(namespace="demo", before=rows[0].time))

    assert [(row.principal, row.method.rpartition(".")[2], row.request_id) for row in rows] == [
        ("manager", "HeldService/Drop", "d1"),
        ("manager", "TrialService/Change", "c1"),
    ]
    assert {(row.service, len(row.trace_id), len(row.body_sha256)) for row in rows} == {("trial", 32, 64)}
    assert [row.request_id for row in older.rows] == ["c1"]
    async with ours(tmp_path, target, "alice") as channels:
        with pytest.raises(Denied):
            await AuditServiceStub(channels.to("trial")).List(pb.AuditServiceListRequest(namespace="demo"))
