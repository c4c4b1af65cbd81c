"""Parked keys: one key's events wait in order while the others flow, on the real database and the real broker."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.contracts.data import VersionPublished
from millrace.contracts.held import KeyParked, KeyUnparked
from millrace.runtime import held_keys
from millrace.runtime.consume.items import Listener, Readers
from millrace.runtime.consume.replay import Replay
from millrace.runtime.consume.settlement import Settlement
from millrace.runtime.database import Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.errors import InvalidInput
from millrace.runtime.held_pages import Held
from millrace.runtime.ids import Ids
from millrace.runtime.migrate import migrations
from millrace.runtime.subscriptions import Record, Subscription, Unread, on, on_batch
from millrace.runtime.telemetry import EVENTS_HELD, PARKED_KEYS
from millrace.runtime.testing import publish, until
from runtime_effects import Effects, consuming, count_is, effects, held, replay_of, settings_of, unparked, version

TOPIC = "data.versions"


class World:
    """One service and one partition of its topic, without a broker: what was not settled is delivered again.

    Attributes:
        broken: Keys whose events a handler cannot handle now.
        refused: Events that it can never handle.
    """

    def __init__(
        self, begin: Transactions[Effects], tmp_path: Path, name: str = "data", *, batch: bool = False
    ) -> None:
        self.broken: set[str] = set()
        self.refused: set[str] = set()
        self.begin = begin
        self.name = name
        self._log: list[Record] = []
        self._read = 0
        readers = Readers()
        row = on_batch(VersionPublished, self._all, start="earliest") if batch else self._row()
        readers.subscribe(row)
        readers.listen(Listener(lambda: ["foreign"], self._records, "earliest"))
        readers.foreign()
        self.readers = readers
        self.replay = Replay(name, settings_of("postgresql://", "", tmp_path), begin.database, readers)
        self.restart()

    def restart(self) -> None:
        """Be a new process, which knows nothing but what is in the database."""
        self.settlement = Settlement(self.name, self.begin, one_by_one=False)
        self._read = 0

    def publish(self, key: str, name: str, topic: str = TOPIC, age: timedelta = timedelta()) -> None:
        event = version(key, name)
        told = datetime.now(UTC) - age
        headers = headers_of(event, Ids().make(told.timestamp()), told, None, "") if topic == TOPIC else {}
        value = event.model_dump_json().encode()
        pairs = tuple((header, text.encode()) for header, text in headers.items())
        self._log.append(Record(topic, 0, len(self._log), key.encode(), value, pairs, 0))

    async def deliver(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            records = self._log[self._read :]
            unsettled = await self.settlement.settle([self.readers.read(record) for record in records])
            self._read = min(unsettled.values(), default=len(self._log))

    async def unpark(self, key: str, topic: str = TOPIC, page: int = 100) -> str:
        return await unparked(self.replay, self.begin, topic, key.encode(), page)

    async def parked(self) -> set[str]:
        async with self.begin() as tx:
            return {bytes(row["key"]).decode() for row in await tx.fetch("SELECT key FROM parked_key")}

    async def told(self) -> list[str]:
        async with self.begin() as tx:
            rows = await tx.fetch("SELECT headers ->> 'ce_type' AS kind FROM outbox ORDER BY id")
            return [row["kind"].rpartition(".")[2] for row in rows]

    def _row(self) -> Subscription:
        return on(VersionPublished, self._one, start="earliest")

    async def _one(self, event: VersionPublished, tx: Effects) -> None:
        tx.add(f"{event.dataset}/{event.partition}")
        if f"{event.dataset}/{event.partition}" in self.refused:
            raise InvalidInput("never")
        if event.dataset in self.broken:
            raise ZeroDivisionError

    async def _all(self, events: Sequence[VersionPublished], tx: Effects) -> None:
        for event in events:
            await self._one(event, tx)

    async def _records(self, records: Sequence[Record], tx: Effects) -> None:
        for record in records:
            await self._one(VersionPublished.model_validate_json(record.value or b""), tx)


@pytest.fixture(params=["one", "batch"])
def world(request: pytest.FixtureRequest, begin: Transactions[Effects], tmp_path: Path) -> World:
    return World(begin, tmp_path, batch=request.param == "batch")


async def test_a_key_that_keeps_failing_is_parked_with_what_comes_after_it_and_others_flow(world: World) -> None:
    world.broken = {"a"}
    for n in range(3):
        for key in "ab":
            world.publish(key, str(n))

    await world.deliver(rounds=5)
    world.publish("a", "3")
    world.publish("b", "3")
    await world.deliver()

    assert await effects(world.begin, "") == [f"b/{n}" for n in range(4)]
    rows = [(row["state"], row["key"], row["attempts"]) for row in await held(world.begin)]
    assert rows == [("parked", b"a", 5), ("parked", b"a", 0), ("parked", b"a", 0), ("parked", b"a", 0)]
    assert await world.parked() == {"a"}
    assert await world.told() == ["KeyParked"]


async def test_each_event_that_is_held_is_counted_once_whatever_the_reason(world: World) -> None:
    world.broken, world.refused = {"a"}, {"b/0"}
    for key, number in (("a", "0"), ("a", "1"), ("b", "0"), ("b", "1")):
        world.publish(key, number)
    world.publish("c", "0", age=timedelta(days=9))
    before = counted(TOPIC)

    await world.deliver(rounds=5)

    rows = [(row["key"], row["state"]) for row in await held(world.begin)]
    assert rows == [(b"a", "parked"), (b"a", "parked"), (b"b", "dead"), (b"c", "dead")]
    assert counted(TOPIC) - before == len(rows)


async def test_what_is_not_committed_as_held_is_not_counted(world: World) -> None:
    world.publish("a", "0")
    before = counted(TOPIC)

    async def fail() -> None:
        async with world.begin() as tx:
            held_keys.held.hold(tx, world.name, world._log[0], "why")
            await tx.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    undone = counted(TOPIC)
    async with world.begin() as tx:
        held_keys.held.hold(tx, world.name, world._log[0], "why")

    assert (undone - before, counted(TOPIC) - undone) == (0, 1)


def counted(topic: str) -> float:
    """Return how many events of a topic this process has counted as held."""
    count: float = EVENTS_HELD.labels(topic)._value.get()
    return count


async def test_an_event_too_old_to_deduplicate_is_held_once_however_often_it_comes(world: World) -> None:
    world.publish("a", "0", age=timedelta(days=9))
    world.publish("a", "1")
    await world.deliver()
    world.restart()
    await world.deliver()

    assert await effects(world.begin, "") == ["a/1"]
    assert [(row["state"], row["claimed"]) for row in await held(world.begin)] == [("dead", True)]


async def test_unparking_drains_in_order_and_what_comes_meanwhile_joins_the_end(world: World) -> None:
    world.broken = {"a"}
    for n in range(6):
        world.publish("a", str(n))
    await world.deliver(rounds=5)
    still = await world.unpark("a")
    world.broken = set()

    async with world.begin() as tx:
        await world.replay.drain(tx, TOPIC, b"a", 2)
    world.publish("a", "6")
    await world.deliver()
    reason = await world.unpark("a", page=3)
    world.publish("a", "7")
    await world.deliver()

    assert (still, reason) == ("ZeroDivisionError in the handler", "")
    assert await effects(world.begin, "") == [f"a/{n}" for n in range(8)]
    assert await held(world.begin) == []
    assert await world.told() == [KeyParked.__name__, KeyUnparked.__name__]


async def test_records_of_foreign_topics_are_parked_and_unparked_likewise(world: World) -> None:
    world.broken = {"a"}
    for n in range(3):
        world.publish("a", str(n), topic="foreign")
    await world.deliver(rounds=5)
    world.broken = set()

    waiting = len(await held(world.begin))
    await world.unpark("a", topic="foreign")

    assert waiting == 3
    assert await effects(world.begin, "") == [f"a/{n}" for n in range(3)]


async def test_what_can_never_be_handled_does_not_hold_up_what_waits_behind_it(world: World) -> None:
    world.broken = {"a"}
    for n in range(3):
        world.publish("a", str(n))
    await world.deliver(rounds=5)
    world.broken, world.refused = set(), {"a/0"}

    assert await world.unpark("a") == ""

    assert await effects(world.begin, "") == ["a/1", "a/2"]
    assert [(row["state"], row["reason"]) for row in await held(world.begin)] == [("dead", "never")]


async def test_what_was_held_unread_is_not_handled_again_where_a_twin_of_it_has_been(world: World) -> None:
    world.publish("a", "0")
    good = world._log[0]
    odd = replace(good, offset=1, unread=Unread("a header's name is not UTF-8"))
    world._log.append(odd)
    world._log.append(replace(odd, offset=2))

    await world.deliver()
    waiting = len(await held(world.begin))
    async with world.begin() as tx:
        rows, _ = await Held(world.name, {}).in_order(tx, 10)
        told = await world.replay.page(tx, rows, accept_duplicate=False)

    assert (waiting, told.handled) == (2, 2)
    assert await effects(world.begin, "") == ["a/0"]
    assert await held(world.begin) == []


async def test_a_former_owner_of_a_partition_parks_nothing_that_its_successor_has_handled(
    begin: Transactions[Effects], tmp_path: Path
) -> None:
    former, successor = World(begin, tmp_path), World(begin, tmp_path)
    former.broken = {"a"}
    former.publish("a", "0")
    await former.deliver(rounds=4)
    successor._log = former._log

    await successor.deliver()
    await former.deliver()

    assert await effects(begin, "") == ["a/0"]
    assert await held(begin) == []
    assert await former.parked() == set()


async def test_a_key_is_let_go_only_when_those_who_read_it_as_parked_have_written_what_joins_it(world: World) -> None:
    world.broken = {"a"}
    world.publish("a", "0")
    await world.deliver(rounds=5)
    world.broken = set()
    async with world.begin() as tx:
        await world.replay.drain(tx, TOPIC, b"a", 10)
    world.publish("a", "1")

    async with world.begin() as reader:
        assert await held_keys.among(reader, world.name, [(TOPIC, b"a")])
        releasing = asyncio.create_task(world.unpark("a"))
        await asyncio.wait([releasing], timeout=0.3)
        waited = not releasing.done()
        held_keys.held.hold(reader, world.name, world._log[-1], "waits", 0, state="parked")
    await releasing
    await world.deliver()

    assert waited
    assert await effects(world.begin, "") == ["a/0", "a/1"]


@pytest.mark.parametrize(
    "key",
    [random.Random(0).randbytes(4096), (7).to_bytes(4, "big"), "".join(map(chr, range(0x4E00, 0x5600))).encode()],
    ids=["long", "a number", "long text"],
)
async def test_whatever_a_keys_bytes_are_it_is_parked_told_of_and_drained(
    key: bytes, begin: Transactions[Effects], tmp_path: Path
) -> None:
    world = World(begin, tmp_path)
    world.broken = {"a"}
    world.publish("a", "0")
    world._log[0] = replace(world._log[0], key=key)
    await world.deliver(rounds=5)
    waiting = len(await held(begin))
    world.broken = set()

    reason = await unparked(world.replay, begin, TOPIC, key)

    assert (waiting, reason) == (1, "")
    assert await effects(begin, "") == ["a/0"]
    assert await world.told() == ["KeyParked", "KeyUnparked"]


async def test_a_header_longer_than_an_index_takes_is_held_with_its_beginning(
    begin: Transactions[Effects], tmp_path: Path
) -> None:
    world = World(begin, tmp_path)
    world.publish("a", "0")
    odd = "".join(map(chr, random.Random(0).sample(range(0x4E00, 0x9000), 1000)))
    headers = dict(world._log[0].headers) | {"ce_id": odd.encode(), "ce_namespace": odd.encode()}
    world._log[0] = replace(world._log[0], headers=tuple(headers.items()))

    await world.deliver()

    assert [(odd.startswith(row["event_id"]), len(row["event_id"])) for row in await held(begin)] == [(True, 333)]


async def test_what_an_earlier_version_held_is_no_longer_than_the_new_indexes_take(
    begin: Transactions[Effects],
) -> None:
    first, second, *_ = (sql for _, _, sql in migrations("runtime"))
    key, odd = random.Random(0).randbytes(4096), "".join(map(chr, random.Random(0).sample(range(0x4E00, 0x9000), 1000)))
    async with begin.database.connection() as connection, connection.transaction():
        await connection.execute(f"CREATE SCHEMA former; SET LOCAL search_path TO former; {first}")
        await connection.execute(
            """INSERT INTO held (consumer, topic, partition, "offset", key, event_id, namespace, headers, size_bytes,
            sha256, reason) VALUES ('c', 't', 0, 0, $1, $2, $2, '[]', 0, '', '')""",
            key,
            odd,
        )
        await connection.execute(second)
        row = await connection.fetchrow("SELECT key, event_id, namespace, id FROM held")

    assert tuple(row) == (key, odd[:250], odd[:250], 1)


async def test_a_reason_that_no_database_keeps_does_not_keep_its_event_from_being_held(
    begin: Transactions[Effects], tmp_path: Path
) -> None:
    world = World(begin, tmp_path)
    world.publish("a", "0")

    async with begin() as tx:
        held_keys.held.hold(tx, world.name, world._log[0], "half a pair: \ud800, null: \x00")

    assert [row["reason"] for row in await held(begin)] == ["half a pair: ?, null: \N{REPLACEMENT CHARACTER}"]


async def test_a_key_is_drained_in_the_order_in_which_its_events_came_whatever_their_partitions(world: World) -> None:
    world.broken = {"a"}
    for n in range(3):
        world.publish("a", str(n))
    world._log[0] = replace(world._log[0], partition=1)
    await world.deliver(rounds=5)
    world.broken = set()

    assert await world.unpark("a", page=2) == ""

    assert await effects(world.begin, "") == [f"a/{n}" for n in range(3)]


async def test_what_is_held_stays_so_when_its_topic_was_made_again_and_another_record_has_its_place(
    world: World,
) -> None:
    world.publish("a", "0")
    world.publish("a", "1")
    old, new = world._log[0], replace(world._log[1], offset=0)
    for record in (old, old, new, new):
        async with world.begin() as tx:
            held_keys.held.hold(tx, world.name, record, "why")

    before, now = await held(world.begin)
    async with world.begin() as tx:
        rows, _ = await Held(world.name, {}).in_order(tx, 10)
        told = await world.replay.page(tx, rows, accept_duplicate=False)

    assert (before["offset"], before["reason"]) == (-before["id"], "from a former topic, there at offset 0: why")
    assert (now["offset"], now["value"], now["reason"]) == (0, new.value, "why")
    assert (told.handled, await effects(world.begin, "")) == (2, ["a/0", "a/1"])


async def test_an_event_that_nobody_here_takes_any_more_stays_held_and_says_so(world: World) -> None:
    world.broken = {"a"}
    for n in range(2):
        world.publish("a", str(n))
    await world.deliver(rounds=5)
    world.broken = set()
    world.readers._rows.clear()

    reason = await world.unpark("a")

    assert "nobody here takes it" in reason
    assert len(await held(world.begin)) == 2
    assert await effects(world.begin, "") == []


async def test_the_gauge_follows_the_parked_keys(world: World) -> None:
    world.broken = {"a", "b"}
    for key in "abc":
        world.publish(key, "0")
    await world.deliver(rounds=5)
    gauge, known = PARKED_KEYS.labels(world.name, TOPIC), set[str]()

    await held_keys.measure(world.begin, world.name, known)
    parked = gauge._value.get()
    world.broken = set()
    await world.unpark("a")
    await world.unpark("b")
    await held_keys.measure(world.begin, world.name, known)

    assert (parked, gauge._value.get()) == (2, 0)


KEYS = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("publish"), KEYS),
    st.tuples(st.just("break"), KEYS),
    st.tuples(st.just("mend"), KEYS),
    st.tuples(st.just("deliver"), st.integers(1, 6)),
    st.tuples(st.just("drain"), KEYS),
    st.tuples(st.just("both"), KEYS),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=30), batch=st.booleans())
async def test_each_keys_events_have_their_effect_once_and_in_order_however_it_is_parked_and_unparked(
    steps: list[tuple[str, Any]], *, batch: bool, begin: Transactions[Effects], tmp_path: Path
) -> None:
    async with begin() as tx:
        await tx.fetch("TRUNCATE effect, held, parked_key, inbox")
    world = World(begin, tmp_path, batch=batch)
    published: dict[str, list[str]] = {key: [] for key in "abc"}
    for step, value in steps:
        if step == "publish":
            published[value].append(f"{value}/{len(published[value])}")
            world.publish(value, str(len(published[value]) - 1))
        elif step == "break":
            world.broken.add(value)
        elif step == "mend":
            world.broken.discard(value)
        elif step == "deliver":
            await world.deliver(rounds=value)
        elif step == "drain":
            await world.unpark(value, page=2)
        elif step == "both":
            await asyncio.gather(world.unpark(value, page=2), world.unpark(value, page=1), world.deliver(rounds=2))
        else:
            world.restart()

    world.broken.clear()
    await world.deliver(rounds=2)
    for key in await world.parked():
        await world.unpark(key)

    for key, names in published.items():
        assert await effects(begin, key) == names
    assert await held(begin) == []
    assert await world.parked() == set()


@pytest.mark.usefixtures("versions_topic")
async def test_a_bug_for_one_key_parks_that_key_only_and_its_events_are_handled_when_it_is_mended(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    broken = [True]

    async def stumble(event: VersionPublished, tx: Effects) -> None:
        tx.add(f"{event.dataset}/{event.partition}")
        if broken[0] and event.dataset == f"{service_name}-a":
            raise ZeroDivisionError

    row = on(VersionPublished, stumble, start="earliest")
    await publish(broker.servers, [version(f"{service_name}-{key}", str(n)) for n in range(3) for key in "ab"])
    async with consuming(service_name, broker, begin, tmp_path, row) as consumer:

        async def all_wait() -> bool:
            return len([row for row in await held(begin) if row["key"] == f"{service_name}-a".encode()]) == 3

        await until(all_wait)
        await until(count_is(begin, f"{service_name}-b", 3))
        broken[0] = False
        reason = await unparked(replay_of(consumer), begin, TOPIC, f"{service_name}-a".encode())
        await publish(broker.servers, [version(f"{service_name}-a", "3")])
        await until(count_is(begin, f"{service_name}-a", 4))

    assert reason == ""
    assert await effects(begin, f"{service_name}-a") == [f"{service_name}-a/{n}" for n in range(4)]
