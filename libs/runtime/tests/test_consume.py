"""What the consumer promises, on the real broker and the real database."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from millrace.contracts.data import VersionPublished
from millrace.runtime.consume.items import Item, Listener, Readers
from millrace.runtime.consume.replay import Replay
from millrace.runtime.consume.settlement import apply
from millrace.runtime.database import Transactions
from millrace.runtime.envelope import headers_of
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.runtime.held import hold
from millrace.runtime.held_pages import Held
from millrace.runtime.ids import new_id
from millrace.runtime.subscriptions import Record, Subscription, on, on_batch
from millrace.runtime.telemetry import EVENTS_SKIPPED
from millrace.runtime.testing import create_topics, publish, until
from millrace.runtime.testing.batches import MIB, batch, bomb, odd_name, produce
from runtime_effects import Effects, consuming, count_is, effects, held, is_assigned, replayed, settings_of, version

pytestmark = pytest.mark.usefixtures("versions_topic")


async def note(event: VersionPublished, tx: Effects) -> None:
    tx.add(f"{event.dataset}/{event.partition}")


async def note_all(events: Sequence[VersionPublished], tx: Effects) -> None:
    for event in events:
        await note(event, tx)


@pytest.mark.parametrize(
    "row", [on(VersionPublished, note, start="earliest"), on_batch(VersionPublished, note_all, start="earliest")]
)
async def test_each_event_has_its_effect_once_and_in_order_however_often_it_is_delivered(
    row: Subscription, service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    events = [version(f"{service_name}-{key}", f"{n:02}") for n in range(20) for key in "abc"]
    await publish(broker.servers, events, times=3)

    async with consuming(service_name, broker, begin, tmp_path, row):
        await until(count_is(begin, service_name, len(events)))

    for key in "abc":
        assert await effects(begin, f"{service_name}-{key}") == [f"{service_name}-{key}/{n:02}" for n in range(20)]


async def test_an_event_that_can_never_succeed_is_held_at_once_and_costs_only_itself(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    async def refuse_seven(event: VersionPublished, tx: Effects) -> None:
        await note(event, tx)
        if event.partition == "07":
            raise InvalidInput("seven is right out")

    await publish(broker.servers, [version(service_name, f"{n:02}") for n in range(20)])

    async with consuming(service_name, broker, begin, tmp_path, on(VersionPublished, refuse_seven, start="earliest")):
        await until(count_is(begin, service_name, 19))

    assert f"{service_name}/07" not in await effects(begin, service_name)
    rows = [row for row in await held(begin) if row["key"] == service_name.encode()]
    assert [(row["reason"], row["attempts"], row["state"]) for row in rows] == [
        ("InvalidInput: seven is right out", 1, "dead")
    ]


async def test_an_event_that_fails_for_now_is_tried_again_before_the_next_of_its_key(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    failures = iter([NotFound("not there yet"), NotFound("not there yet")])

    async def fail_twice(event: VersionPublished, tx: Effects) -> None:
        if event.dataset == f"{service_name}-slow" and (error := next(failures, None)):
            raise error
        await note(event, tx)

    events = [version(f"{service_name}-{key}", f"{n}") for n in range(3) for key in ("slow", "other")]
    await publish(broker.servers, events)

    async with consuming(service_name, broker, begin, tmp_path, on(VersionPublished, fail_twice, start="earliest")):
        await until(count_is(begin, service_name, 6))

    assert await effects(begin, f"{service_name}-slow") == [f"{service_name}-slow/{n}" for n in range(3)]
    assert await effects(begin, f"{service_name}-other") == [f"{service_name}-other/{n}" for n in range(3)]


async def test_a_poll_ends_where_an_event_is_to_be_tried_again_and_where_its_consumer_is_stopped(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.runtime.consume.consumer.POLL_S", 3600.0)
    tries: list[str] = []

    async def flaky(event: VersionPublished, tx: Effects) -> None:
        if event.dataset == service_name:
            tries.append(event.dataset)
            if len(tries) < 3:
                raise RuntimeError("not yet")
            tx.add(event.dataset)

    await publish(broker.servers, [version(service_name)])
    async with consuming(service_name, broker, begin, tmp_path, on(VersionPublished, flaky, start="earliest")):
        await until(count_is(begin, service_name, 1))

    assert tries == [service_name] * 3


async def test_a_held_event_larger_than_what_is_kept_is_read_again_from_kafka_when_replayed(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    broken = [True]

    async def refuse_once(event: VersionPublished, tx: Effects) -> None:
        if event.dataset == service_name:
            if broken[0]:
                raise InvalidInput("not today")
            tx.add(f"{event.dataset} of {len(event.contract)}")

    large = version(service_name).model_copy(update={"contract": "c" * 200_000})
    await publish(broker.servers, [large])

    row = on(VersionPublished, refuse_once, start="earliest")
    async with consuming(service_name, broker, begin, tmp_path, row) as consumer:

        async def is_held() -> Any:
            return [row for row in await held(begin) if row["key"] == service_name.encode()]

        (found,) = await until(is_held)
        broken[0] = False
        assert (await replayed(consumer, service_name, begin)).handled == 1

    assert len(found["value"]) == 64 * 1024
    assert await effects(begin, service_name) == [f"{service_name} of 200000"]
    assert await is_held() == []


async def test_what_was_cut_is_gone_where_another_record_or_none_is_at_its_place_now(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {service_name: 1})
    async with AIOKafkaProducer(bootstrap_servers=broker.servers) as producer:
        at = await producer.send_and_wait(service_name, b"{}", key=b"another", partition=0)
    value = b" " * 100_000
    places = [(service_name, 0, at.offset), (service_name, 0, at.offset + 1), (service_name, 99, 0), ("no", 0, 0)]
    async with begin() as tx:
        for place in places:
            hold(tx, service_name, Record(*place, b"k", value, (), 0), "why")
    replay = Replay(service_name, settings_of("", broker.servers, tmp_path), begin.database, Readers())

    async with begin() as tx:
        rows, _ = await Held(service_name, {}).in_order(tx, 10)
        told = await replay.page(tx, rows, accept_duplicate=False)

    assert told.failed == len(places)
    assert all("no longer in Kafka" in row["reason"] for row in await held(begin))


async def test_poison_is_held_once_with_its_reason_and_its_neighbours_go_on(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    good = version(service_name)
    (envelope,) = await publish(broker.servers, [good])
    headers = {
        "ce_specversion": b"1.0",
        "ce_id": str(envelope.event_id).encode(),
        "ce_type": VersionPublished.type_name().encode(),
        "ce_source": b"/millrace/data",
    }
    value = good.model_dump_json().encode()
    old_id = b"01000000-0000-7000-8000-000000000000"
    cases: dict[str, tuple[dict[str, bytes | None], bytes | None]] = {
        "Invalid JSON": (headers, b"{not json"),
        "attributes missing: ce_id, ce_type": (
            {k: v for k, v in headers.items() if k not in ("ce_id", "ce_type")},
            value,
        ),
        "header ce_subject is null": (headers | {"ce_subject": None}, value),
        "header ce_subject is not UTF-8": (headers | {"ce_subject": b"\xff\xfe"}, value),
        "the value is empty": (headers, b""),
        "too old to deduplicate": (headers | {"ce_id": old_id}, value),
        "more than 1048576": (headers, b" " * (1024 * 1024 + 1)),
        "no publisher is known": (headers | {"ce_type": b"com.example.Thing"}, value),
        "known for type com.example\N{REPLACEMENT CHARACTER}": (headers | {"ce_type": b"com.example\x00"}, value),
        "header x\N{REPLACEMENT CHARACTER} is null": (headers | {"x\x00": None}, value),
        "after the year 9999": (headers | {"ce_id": b"ffffffff-ffff-7fff-bfff-ffffffffffff"}, value),
    }
    key = f"{service_name}-poison".encode()
    async with AIOKafkaProducer(
        bootstrap_servers=broker.servers, max_request_size=4_000_000, compression_type="gzip"
    ) as producer:
        for case_headers, case_value in cases.values():
            await producer.send_and_wait("data.versions", case_value, key=key, headers=list(case_headers.items()))
        unknown = headers | {"ce_type": b"millrace.data.AddedLater"}
        await producer.send_and_wait("data.versions", value, key=key, headers=list(unknown.items()))
    await publish(broker.servers, [version(f"{service_name}-poison", "after")])
    skipped = EVENTS_SKIPPED.labels("data.versions")._value.get()

    async with consuming(service_name, broker, begin, tmp_path, on(VersionPublished, note, start="earliest")):
        await until(count_is(begin, f"{service_name}-poison", 1))
        await until(count_is(begin, f"{service_name}/", 1))

    assert EVENTS_SKIPPED.labels("data.versions")._value.get() > skipped
    rows = [row for row in await held(begin) if row["key"] == key]
    assert len(rows) == len(cases)
    for reason, row in zip(cases, sorted(rows, key=lambda row: row["offset"]), strict=True):
        assert reason in row["reason"]
        assert row["state"] == "dead"
        assert len(row["value"]) <= 64 * 1024


async def test_batches_that_no_client_could_read_are_held_by_their_place_and_passed(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    event, key = version(service_name, "odd"), service_name.encode()
    headers = headers_of(event, new_id(), datetime.now(UTC), None, "")
    pairs: list[Any] = [*((name, text.encode()) for name, text in headers.items()), ("odd", b"1")]
    await produce(broker.servers, "data.versions", 0, odd_name(batch([(key, event.model_dump_json().encode(), pairs)])))
    await produce(broker.servers, "data.versions", 0, bomb(40 * MIB, key=key))
    await publish(broker.servers, [version(f"{service_name}-{n}") for n in range(8)])

    row = on(VersionPublished, note, start="earliest")
    async with consuming(service_name, broker, begin, tmp_path, row) as consumer:
        await until(count_is(begin, service_name, 8))
        rows = [row for row in await held(begin) if row["key"] == key]
        await replayed(consumer, service_name, begin)
        (still,) = [row for row in await held(begin) if row["key"] == key]

    assert [(row["reason"], row["size_bytes"], row["value"] is None) for row in rows] == [
        ("a header's name is not UTF-8", len(event.model_dump_json()), False),
        (rows[1]["reason"], 40 * MIB, True),
    ]
    assert "its value is not kept" in rows[1]["reason"]
    assert ("value is not kept" in still["reason"], still["attempts"]) == (True, 2)
    assert f"{service_name}/odd" in await effects(begin, service_name)


async def test_a_new_listener_that_starts_now_skips_what_was_and_misses_nothing_after(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await publish(broker.servers, [version(service_name, "before")])

    async with consuming(service_name, broker, begin, tmp_path, on(VersionPublished, note, start="now")) as consumer:
        await until(is_assigned(consumer))
    await publish(broker.servers, [version(service_name, "while away")])
    async with consuming(service_name, broker, begin, tmp_path, on(VersionPublished, note, start="now")):
        await until(count_is(begin, service_name, 1))

    assert await effects(begin, service_name) == [f"{service_name}/while away"]


async def test_a_second_member_that_joins_while_a_batch_is_in_flight_doubles_nothing(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    entered = asyncio.Event()

    async def slowly(event: VersionPublished, tx: Effects) -> None:
        await note(event, tx)
        if event.dataset.startswith(service_name):
            entered.set()
            await tx.fetch("SELECT pg_sleep(0.05)")

    row = on(VersionPublished, slowly, start="earliest")
    await publish(broker.servers, [version(f"{service_name}-{n}") for n in range(60)])

    async with consuming(service_name, broker, begin, tmp_path, row):
        await entered.wait()
        async with consuming(service_name, broker, begin, tmp_path, row, instance=1):
            await publish(broker.servers, [version(f"{service_name}-{n}", "late") for n in range(60)])
            await until(count_is(begin, service_name, 120))

    found = await effects(begin, service_name)
    assert len(found) == len(set(found)) == 120


async def test_a_database_outage_loses_and_doubles_nothing(
    service_name: str, broker: Any, postgres: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    row = on(VersionPublished, note, start="earliest")
    async with consuming(service_name, broker, begin, tmp_path, row):
        await publish(broker.servers, [version(service_name, f"a{n}") for n in range(10)])
        await until(count_is(begin, service_name, 10))
        await asyncio.to_thread(postgres.kill)
        await publish(broker.servers, [version(service_name, f"b{n}") for n in range(10)])
        await asyncio.to_thread(postgres.start)
        await until(count_is(begin, service_name, 20))

    found = await effects(begin, service_name)
    assert len(found) == len(set(found)) == 20
    assert not [r for r in await held(begin) if r["key"] == service_name.encode()]


async def test_what_cannot_even_be_held_for_now_is_tried_again_and_stops_nobody(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    tries: list[int] = []

    async def refuse(event: VersionPublished, tx: Effects) -> None:
        if event.dataset == service_name:
            tries.append(1)
            raise InvalidInput("never")
        await note(event, tx)

    # From now on only: what other tests have left to be held would wait for the lock as well.
    row = on(VersionPublished, refuse, start="now")
    async with consuming(service_name, broker, begin, tmp_path, row) as consumer:

        async def put_back() -> bool:
            # In one round it is tried with its neighbours and alone.
            return len(tries) > 2

        await until(is_assigned(consumer))
        async with begin.database.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await connection.execute("LOCK TABLE held")
            await publish(broker.servers, [version(service_name), version(f"{service_name}-other")])
            await until(put_back)

        async def is_held() -> Any:
            return [row for row in await held(begin) if row["key"] == service_name.encode()]

        await until(is_held)
        await until(count_is(begin, f"{service_name}-other", 1))


def test_what_was_read_of_a_topic_that_is_dropped_is_still_its_listeners() -> None:
    topics = ["one", "other"]

    async def take(records: Sequence[Record], tx: Effects) -> None:
        """Take them."""

    readers = Readers()
    readers.listen(Listener(lambda: topics, take, "earliest"))
    assert readers.foreign() == {"one", "other"}
    topics.remove("one")

    assert readers.foreign() == {"other"}
    assert readers.read(Record("one", 0, 0, None, b"", (), 0)).listener


async def test_a_long_round_that_gets_on_is_alive_and_one_that_does_not_is_stuck(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    sizes: list[int] = []
    go_on = asyncio.Event()

    async def slowly(events: Sequence[VersionPublished], tx: Effects) -> None:
        mine = [event for event in events if event.dataset.startswith(service_name)]
        sizes.append(len(mine))
        if len(mine) > 4:
            raise InvalidInput("by halves, please")
        await asyncio.sleep(0.2 * len(mine))
        if any(event.partition == "last" for event in mine):
            await go_on.wait()
        await note_all(mine, tx)

    await publish(broker.servers, [version(f"{service_name}-{n}") for n in range(31)])
    said: list[str] = []
    async with consuming(
        service_name, broker, begin, tmp_path, on_batch(VersionPublished, slowly, start="earliest")
    ) as c:

        async def done() -> bool:
            said.append(c.stuck(1.5))
            return len(await effects(begin, service_name)) >= 31

        async def stuck() -> str:
            return c.stuck(1.5)

        await until(done)
        assert not any(said)
        await publish(broker.servers, [version(service_name, "last")])
        assert "settled nothing for more than" in await until(stuck)
        go_on.set()

    assert max(sizes) > 4


async def test_what_two_listeners_with_one_function_bring_is_one_batch_in_order(
    service_name: str, begin: Transactions[Effects]
) -> None:
    batches: list[list[int]] = []

    async def take(records: Sequence[Record], _: Effects) -> None:
        batches.append([record.offset for record in records])

    first, second = (Listener(lambda: ["abroad"], take, start) for start in ("earliest", "now"))
    records = [Record("abroad", 0, offset, None, None, (), 0) for offset in range(3)]
    items = [Item(record, listener=one) for record, one in zip(records, (first, second, first), strict=True)]
    async with begin() as tx:
        await apply(service_name, items, tx)

    assert batches == [[0, 1, 2]]
