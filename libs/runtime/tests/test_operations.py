"""What operators ask of every service: held events and the audit trail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from millrace.contracts.data import VersionPublished
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import AuditServiceStub, HeldServiceStub
from millrace.runtime import held_keys
from millrace.runtime.client import Channels
from millrace.runtime.consume.items import Readers
from millrace.runtime.consume.replay import Replay
from millrace.runtime.database import Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.errors import Conflict, Denied, InvalidInput, NotFound, Overloaded
from millrace.runtime.held import hold
from millrace.runtime.held_pages import NEWEST, Held
from millrace.runtime.ids import new_id
from millrace.runtime.inbox import first_id
from millrace.runtime.rpc import RpcServer
from millrace.runtime.rpc.audit import AuditApi
from millrace.runtime.rpc.held import HeldApi
from millrace.runtime.subscriptions import Record, on
from runtime_effects import Effects, effects, settings_of, version
from trial_service import TRIAL, Asked, TrialApi, access_in, call, ours, serving

NOTED = "data.versions"


async def take(event: VersionPublished, tx: Effects) -> None:
    if event.dataset == "broken":
        raise ZeroDivisionError
    tx.add(f"{event.dataset}/{event.partition}")


@pytest.fixture
async def replay(begin: Transactions[Effects], tmp_path: Path) -> Replay:
    readers = Readers()
    readers.subscribe(on(VersionPublished, take, start="earliest"))
    return Replay("trial", settings_of("postgresql://", "", tmp_path), begin.database, readers)


@pytest.fixture
async def target(replay: Replay, begin: Transactions[Effects], tmp_path: Path) -> AsyncIterator[str]:
    server = RpcServer("trial", access_in(tmp_path))
    server.serve(TRIAL, TrialApi(), begin)
    services = pb.DESCRIPTOR.services_by_name
    server.serve(services["HeldService"], HeldApi("trial", replay, per_s=100_000), begin)
    server.serve(services["AuditService"], AuditApi("trial"), begin)
    async with begin() as tx:
        for offset, namespace in enumerate(("demo", "other", "")):
            headers = (("ce_namespace", namespace.encode()), ("odd", b"\xff"), ("null", None))
            hold(tx, "trial", Record(NOTED, 0, offset, b"k", b"{", headers, 0), "not JSON")
    async with serving(server) as target:
        yield target


@pytest.fixture
async def manager(target: str, tmp_path: Path) -> AsyncIterator[Channels]:
    async with ours(tmp_path, target, "manager") as channels:
        yield channels


def at(offset: int, namespace: str = "demo") -> Any:
    return pb.HeldServiceShowRequest(namespace=namespace, topic=NOTED, partition=0, offset=offset)


def of(offset: int) -> pb.HeldFilter:
    return pb.HeldFilter(topic=NOTED, partition=0, offset=offset)


async def put(
    begin: Transactions[Effects],
    offsets: Iterable[int],
    name: str = "d",
    *,
    age: timedelta = timedelta(),
    park: bool = False,
) -> None:
    """Hold events of a key, as a consumer would have."""
    async with begin() as tx:
        for offset in offsets:
            event = version(name, str(offset))
            headers = headers_of(event, new_id(), datetime.now(UTC), None, "")
            if age:
                headers["ce_id"] = str(first_id(datetime.now(UTC) - age + timedelta(milliseconds=offset))).replace(
                    "-0000-0000-", "-7000-8000-"
                )
            pairs = tuple((header, text.encode()) for header, text in headers.items())
            record = Record(NOTED, 1, offset, name.encode(), event.model_dump_json().encode(), pairs, 0)
            if park:
                await held_keys.park(tx, "trial", record, "failed", 5)
            else:
                hold(tx, "trial", record, "failed")


async def test_held_events_are_shown_to_their_namespace_only(manager: Channels) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))

    (event,) = (await held.List(pb.HeldServiceListRequest(namespace="demo"))).held
    shown = await held.Show(at(0))

    assert (event.offset, event.key, event.reason, event.state, event.namespace) == (0, "k", "not JSON", "dead", "demo")
    assert (shown.held, shown.value, shown.headers["odd"]) == (event, b"{", "\N{REPLACEMENT CHARACTER}")
    for offset in (1, 2, 9):
        with pytest.raises(NotFound):
            await held.Show(at(offset))
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
        await held.Drop(pb.HeldServiceDropRequest(namespace="demo", request_id="d1", filter=of(0)))

    assert not (await held.List(pb.HeldServiceListRequest(namespace="demo"))).held
    with pytest.raises(NotFound, match="partition 0 offset 0"):
        await held.Drop(pb.HeldServiceDropRequest(namespace="demo", request_id="d2", filter=of(0)))
    with pytest.raises(NotFound):
        await held.Drop(pb.HeldServiceDropRequest(namespace="demo", request_id="d3", filter=of(1)))


async def test_a_replay_says_why_an_event_is_held_still(manager: Channels) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))

    told = await held.Replay(pb.HeldServiceReplayRequest(namespace="demo", request_id="p1", filter=of(0)))

    assert (told.handled, told.failed, told.reason) == (0, 1, "header odd is not UTF-8")
    assert [event.attempts for event in (await held.List(pb.HeldServiceListRequest(namespace="demo"))).held] == [2]
    with pytest.raises(NotFound):
        await held.Replay(pb.HeldServiceReplayRequest(namespace="demo", request_id="p2", filter=of(1)))


async def test_a_replay_goes_page_by_page_past_what_fails_and_a_page_sent_twice_has_one_effect(
    manager: Channels, begin: Transactions[Effects]
) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, range(10, 20))
    await put(begin, [25], "broken")
    await put(begin, [n for n in range(20, 30) if n != 25])

    pages = []
    token = ""
    while token or not pages:
        request = pb.HeldServiceReplayRequest(
            namespace="demo",
            request_id=f"p{len(pages)}",
            filter=pb.HeldFilter(type=VersionPublished.type_name()),
            limit=7,
            page_token=token,
        )
        told, again = await held.Replay(request), await held.Replay(request)
        assert told == again
        pages.append((told.handled, told.failed))
        token = told.next_page_token

    assert [sum(page) for page in zip(*pages, strict=True)] == [19, 1]
    assert sorted(await effects(begin, "d/")) == sorted(f"d/{n}" for n in range(10, 30) if n != 25)


async def test_filters_choose_by_topic_key_id_type_reason_state_and_time(
    manager: Channels, begin: Transactions[Effects]
) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, [10, 11])
    await put(begin, [12], "parked", park=True)
    every = (await held.List(pb.HeldServiceListRequest(namespace="demo"))).held
    assert len(every) == 4

    async def found(**asked: Any) -> list[int]:
        request = pb.HeldServiceListRequest(namespace="demo", filter=pb.HeldFilter(**asked))
        return sorted(event.offset for event in (await held.List(request)).held)

    assert await found(topic=NOTED) == [0, 10, 11, 12]
    assert await found(topic="other") == []
    assert await found(partition=0) == [0]
    assert await found(key="d") == [10, 11]
    assert await found(event_id=next(event.event_id for event in every if event.offset == 11)) == [11]
    assert await found(type=VersionPublished.type_name()) == [10, 11, 12]
    assert await found(reason="NOT json") == [0]
    assert await found(state="parked") == [12]
    assert await found(since=every[0].held_at, topic=NOTED) == [12]
    assert await found(until=every[-1].held_at) == []


async def test_a_long_list_is_read_page_by_page(manager: Channels, begin: Transactions[Effects]) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, range(10, 30))

    found, token = [], ""
    while token or not found:
        page = await held.List(pb.HeldServiceListRequest(namespace="demo", limit=6, page_token=token))
        found += [event.offset for event in page.held]
        token = page.next_page_token

    assert found == [*range(29, 9, -1), 0]
    with pytest.raises(InvalidInput, match="page_token"):
        await held.List(pb.HeldServiceListRequest(namespace="demo", page_token="[1]"))


async def test_a_dry_run_counts_and_changes_nothing(manager: Channels, begin: Transactions[Effects]) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, range(10, 15))
    await put(begin, range(20, 23), "k", park=True)
    about = {"namespace": "demo", "dry_run": True, "filter": pb.HeldFilter(topic=NOTED)}

    replayed = await held.Replay(pb.HeldServiceReplayRequest(request_id="r", **about))
    dropped = await held.Drop(pb.HeldServiceDropRequest(request_id="d", **about))
    unparked = await held.Unpark(
        pb.HeldServiceUnparkRequest(namespace="demo", request_id="u", topic=NOTED, key=b"k", dry_run=True)
    )

    assert (replayed.matched, dropped.matched, unparked.matched) == (6, 9, 3)
    assert len((await held.List(pb.HeldServiceListRequest(namespace="demo"))).held) == 9
    assert await effects(begin, "") == []


async def test_a_parked_key_is_listed_and_drained_in_order_by_several_calls(
    manager: Channels, begin: Transactions[Effects]
) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, range(20, 25), "k", park=True)
    (key,) = (await held.ListKeys(pb.HeldServiceListKeysRequest(namespace="demo"))).keys

    about = {"namespace": "demo", "topic": NOTED, "key": key.key, "limit": 3}
    told = [await held.Unpark(pb.HeldServiceUnparkRequest(request_id=f"u{n}", **about)) for n in range(3)]

    assert (key.topic, key.key, key.events, key.reason) == (NOTED, b"k", 5, "failed")
    assert [(one.handled, one.flows) for one in told] == [(3, False), (2, False), (0, True)]
    assert await effects(begin, "") == [f"k/{n}" for n in range(20, 25)]
    with pytest.raises(NotFound):
        await held.Unpark(pb.HeldServiceUnparkRequest(request_id="u9", **about))


async def test_keys_are_listed_by_what_waits_behind_them_page_by_page(
    manager: Channels, begin: Transactions[Effects]
) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, range(20, 23), "a", park=True)
    await put(begin, range(30, 32), "b", park=True)
    await put(begin, [40], "dead")
    events = (await held.List(pb.HeldServiceListRequest(namespace="demo", filter=pb.HeldFilter(state="parked")))).held
    of_a = next(event for event in events if event.offset == 22)
    since_b = min((event.held_at for event in events if event.key == "b"), key=lambda at: at.ToNanoseconds())

    async def found(**asked: Any) -> list[tuple[bytes, int]]:
        request = pb.HeldServiceListKeysRequest(namespace="demo", filter=pb.HeldFilter(**asked))
        return sorted((key.key, key.events) for key in (await held.ListKeys(request)).keys)

    both = [(b"a", 3), (b"b", 2)]
    assert await found() == await found(topic=NOTED) == await found(type=VersionPublished.type_name()) == both
    assert await found(state="parked") == await found(reason="FAIL") == both
    assert await found(reason="not JSON") == []
    assert await found(key="b") == await found(since=since_b) == [(b"b", 2)]
    assert await found(event_id=of_a.event_id) == await found(until=since_b) == [(b"a", 3)]
    assert await found(topic=NOTED, partition=1, offset=31) == [(b"b", 2)]
    assert await found(key="a", since=since_b) == await found(topic="other") == await found(key="dead") == []

    pages, token = [], ""
    while token or not pages:
        request = pb.HeldServiceListKeysRequest(
            namespace="demo", filter=pb.HeldFilter(partition=1), limit=1, page_token=token
        )
        page = await held.ListKeys(request)
        pages.append([key.key for key in page.keys])
        token = page.next_page_token
    assert sorted(key for page in pages for key in page) == [b"a", b"b"]
    assert max(len(page) for page in pages) == 1


async def test_a_key_that_nothing_waits_behind_any_more_is_listed_until_it_is_let_go(
    manager: Channels, begin: Transactions[Effects]
) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, [20], "k", park=True)
    await held.Unpark(pb.HeldServiceUnparkRequest(namespace="demo", request_id="u", topic=NOTED, key=b"k"))

    for asked in (pb.HeldFilter(), pb.HeldFilter(topic=NOTED, key="k")):
        (key,) = (await held.ListKeys(pb.HeldServiceListKeysRequest(namespace="demo", filter=asked))).keys
        assert (key.key, key.events) == (b"k", 0)


async def test_keys_of_another_namespace_are_not_told_whatever_the_filter(
    target: str, tmp_path: Path, begin: Transactions[Effects]
) -> None:
    await put(begin, [20], "k", park=True)
    request = pb.HeldServiceListKeysRequest(namespace="other", filter=pb.HeldFilter(reason="failed"))

    async with ours(tmp_path, target, "root") as channels:
        assert not (await HeldServiceStub(channels.to("trial")).ListKeys(request)).keys


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"filter": pb.HeldFilter(state="dead")}, "a dead one is replayed or dropped"),
        ({"filter": pb.HeldFilter(topic="a"), "topic": "b"}, "topic: say it once, in the filter"),
        ({"filter": pb.HeldFilter(key="a"), "key": "b"}, "key: say it once, in the filter"),
        ({"page_token": "data.versions|none"}, "page_token"),
    ],
)
async def test_what_cannot_be_asked_of_keys_is_refused(manager: Channels, asked: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await HeldServiceStub(manager.to("trial")).ListKeys(pb.HeldServiceListKeysRequest(namespace="demo", **asked))


async def test_a_parked_event_is_not_replayed_out_of_order_and_dropping_the_last_lets_its_key_flow(
    manager: Channels, begin: Transactions[Effects]
) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, [20], "k", park=True)
    of_it = pb.HeldFilter(topic=NOTED, partition=1, offset=20)

    with pytest.raises(Conflict, match="unparked"):
        await held.Replay(pb.HeldServiceReplayRequest(namespace="demo", request_id="r", filter=of_it))
    dropped = await held.Drop(pb.HeldServiceDropRequest(namespace="demo", request_id="d", filter=of_it))

    assert dropped.dropped == 1
    assert not (await held.ListKeys(pb.HeldServiceListKeysRequest(namespace="demo"))).keys


async def test_an_event_older_than_the_inbox_remembers_is_replayed_only_when_asked_to(
    manager: Channels, begin: Transactions[Effects]
) -> None:
    held: Any = HeldServiceStub(manager.to("trial"))
    await put(begin, [10], age=timedelta(days=9))
    about = {"namespace": "demo", "filter": pb.HeldFilter(key="d")}

    refused = await held.Replay(pb.HeldServiceReplayRequest(request_id="r1", **about))
    taken = await held.Replay(pb.HeldServiceReplayRequest(request_id="r2", accept_duplicate=True, **about))

    assert (refused.failed, taken.handled) == (1, 1)
    assert "too old to deduplicate" in refused.reason
    assert await effects(begin, "") == ["d/10"]


async def test_more_than_the_rate_is_told_to_come_back(replay: Replay, begin: Transactions[Effects]) -> None:
    api = HeldApi("trial", replay, per_s=100)
    await put(begin, range(10, 40))
    request = pb.HeldServiceReplayRequest(namespace="demo", filter=pb.HeldFilter(key="d"), limit=20)

    async with begin() as tx:
        first = await api.Replay(request, tx)
        with pytest.raises(Overloaded) as refused:
            await api.Replay(request, tx)

    assert first.handled == 20
    assert 0.1 < refused.value.retry_after_s <= 0.2


async def test_a_replay_that_is_cut_off_anywhere_and_asked_again_has_each_effect_once(
    replay: Replay, begin: Transactions[Effects]
) -> None:
    api = HeldApi("trial", replay, per_s=100_000)
    await put(begin, range(10, 310))
    request = pb.HeldServiceReplayRequest(namespace="demo", filter=pb.HeldFilter(key="d"), limit=20)

    async def replay_all() -> None:
        while True:
            async with begin() as tx:
                if not (await api.Replay(request, tx)).handled:
                    return

    for n in range(25):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.003 * n):
                await replay_all()
    await replay_all()

    assert await effects(begin, "d/") == [f"d/{n}" for n in range(10, 310)]


async def test_pages_of_a_long_table_are_read_by_an_index(begin: Transactions[Effects]) -> None:
    async with begin() as tx:
        wheres = (
            {},
            {"namespace": "demo"},
            {"namespace": "demo", "state": "dead"},
            {"event_id": "x"},
            {"topic": NOTED, "key": b"k"},
        )
        for asked in wheres:
            held = Held("trial", asked)
            plan = await tx.fetch(
                f"EXPLAIN SELECT * FROM held WHERE {held._where} ORDER BY {NEWEST} LIMIT 10", *held._args
            )
            assert "Seq Scan" not in "\n".join(row[0] for row in plan), asked


async def test_every_change_is_in_the_audit_trail_of_its_namespace(
    manager: Channels, target: str, tmp_path: Path
) -> None:
    await call(manager.to("trial"), "Change")(Asked(namespace="demo", request_id="c1", text="a"))
    await HeldServiceStub(manager.to("trial")).Drop(
        pb.HeldServiceDropRequest(namespace="demo", request_id="d1", filter=of(0))
    )

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
