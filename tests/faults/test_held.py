"""What cannot be handled: poison, a bug for one key, and a flood of it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from millrace.contracts.held import KeyParked, KeyUnparked
from millrace.contracts.rpc.runtime.v1 import runtime_pb2 as pb
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import AuditServiceStub
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import until
from millrace.runtime.testing.batches import batch, odd_name, produce
from millrace.sdk.held import HeldEvents, Which
from millrace.sdk.held_command import MOST_PAGE, Command, Outcome

from tests.faults.declared import NAMESPACE
from tests.faults.judge import Judged
from tests.faults.places import acted, end, start_armed
from tests.faults.reported import LISTENER, TOPIC, headers, held_events, known, made, report
from tests.faults.rows import MEASURED, row
from tests.faults.stack import Stack

NEIGHBOUR_S = 1.0
FLOOD = 100_000
AGE = timedelta(days=9)
HELD_S = 120.0
RATE = 2500.0
#: Who counts all that it is told, and a topic that nobody else reads.
COUNTER, COUNTED_TOPIC = "observability", f"{LISTENER}.held"
#: Where the service dies once more: a page is committed, and whoever asked has no answer.
ANSWERED, PAGES_BEFORE_IT = "rpc.committed", 40
#: More than all that is asked of the service meanwhile and is audited.
AUDITED = 1000


def poison(key: str) -> dict[str, tuple[dict[str, bytes | None], bytes | None]]:
    """Return records of every wrong kind, by what is said of them."""
    good = made(uuid4(), f"poison-{key}")
    own, value = headers(good), good.model_dump_json().encode()
    return {
        "Invalid JSON": (own, b"{not json"),
        "recursion limit": (own, b"[" * 10_000 + b"]" * 10_000),
        "Field required": (own, b"{}"),
        "not 1.0": (own | {"ce_specversion": b"99"}, value),
        "attributes missing: ce_id, ce_type": (own | {"ce_id": b"", "ce_type": b""}, value),
        "ce_id and ce_causationid are UUIDs": (own | {"ce_id": b"no id"}, value),
        "header ce_subject is null": (own | {"ce_subject": None}, value),
        "header ce_subject is not UTF-8": (own | {"ce_subject": b"\xff\xfe"}, value),
        "no publisher is known": (own | {"ce_type": b"com.example.Thing"}, value),
        "the value is empty": (own, b""),
        "value is empty": (own, None),
        "more than 1048576": (own, b" " * (1024 * 1024 + 1)),
    }


@row(22, short=True)
async def test_row_22_poison_is_held_once_and_its_neighbours_go_on(stack: Stack, judged: Judged) -> None:
    key, held = uuid4(), held_events(stack)
    late = made(key, f"late-{key}")
    skipped = 'millrace_events_skipped_total{topic="data.lineage"}'
    before = (await stack.metrics(LISTENER)).get(skipped, 0)
    async with judged(22, stack, "poison: JSON, envelope, headers, names, types, versions, sizes") as fault:
        await spoiled(stack, str(key), late)
        await report(stack.servers, [made(key, f"neighbour-{key}")])
        began = time.monotonic()
        await until(lambda: known(stack, f"neighbour-{key}"))
        took_s = time.monotonic() - began
        fault.over()

    kinds = [*poison(str(key)), "too old to deduplicate", "a header's name is not UTF-8"]
    found = (await held.list(100, Which(LISTENER, TOPIC, str(key)))).events
    reasons = [one.event.reason for one in found]
    assert len(found) == len(kinds), reasons
    assert all(any(kind in reason for reason in reasons) for kind in kinds), reasons
    assert took_s < NEIGHBOUR_S
    assert (await stack.metrics(LISTENER))[skipped] - before == 1
    outcome = await held.replay(Which(LISTENER, TOPIC, str(key)), accept_duplicate=True)
    assert (outcome.done, outcome.failed) == (2, len(kinds) - 2)
    assert await known(stack, f"late-{key}")
    assert await known(stack, f"named-{key}")
    assert (await held.drop(Which(LISTENER, TOPIC, str(key)))).done == len(kinds) - 2


async def spoiled(stack: Stack, key: str, late: Any) -> None:
    """Publish poison, all of one key: most can never be read, two can be handled when an operator says so."""
    async with AIOKafkaProducer(
        bootstrap_servers=stack.servers, acks="all", max_request_size=4_000_000, compression_type="gzip"
    ) as producer:
        for own, value in poison(key).values():
            sent = await producer.send_and_wait(TOPIC, value, key=key.encode(), headers=list(own.items()))
        unknown = headers(late) | {"ce_type": b"millrace.data.VersionPublished99"}
        await producer.send_and_wait(TOPIC, b"{}", key=key.encode(), headers=list(unknown.items()))
        old = list(headers(late, age=AGE).items())
        await producer.send_and_wait(TOPIC, late.model_dump_json().encode(), key=key.encode(), headers=old)
    named = made(UUID(key), f"named-{key}")
    odd = [*headers(named).items(), ("odd", b"1")]
    raw = odd_name(batch([(key.encode(), named.model_dump_json().encode(), odd)]))
    await produce(stack.servers, TOPIC, sent.partition, raw)


@row(23, short=True)
async def test_row_23_a_bug_for_one_key_parks_that_key_and_unparking_drains_it_in_order(
    stack: Stack, judged: Judged
) -> None:
    key, held = uuid4(), held_events(stack)
    names = [f"parked-{n}-{key}" for n in range(6)]
    gauge = f'millrace_parked_keys{{service="{LISTENER}",topic="{TOPIC}"}}'
    async with judged(23, stack, "every event of one key fails in its handler", bound_s=5) as fault:
        told = await end_of(stack, f"{LISTENER}.held")
        await stack.restart(LISTENER, MILLRACE_FAILPOINTS=f"consume.handling=error#{key}")
        await report(stack.servers, [made(key, name) for name in names[:4]])
        parked: Any = await until(lambda: keys(stack, key, waiting=4))
        await report(stack.servers, [made(other := uuid4(), f"other-{other}")])
        await until(lambda: known(stack, f"other-{other}"))
        still = await held.unpark(parked)
        alert = await until(lambda: measured(stack, gauge))
        del stack.parts[LISTENER].environment["MILLRACE_FAILPOINTS"]
        await stack.restart(LISTENER)
        fault.over()
        drained = await one_by_one(stack, parked, names)

    assert (still.done, still.reason) == (0, "RuntimeError in the handler")
    assert alert == 1
    assert drained == names
    assert not await held.keys(Which(LISTENER, TOPIC))
    assert not (await held.list(10, Which(LISTENER, TOPIC, str(key)))).events
    kinds = await until(lambda: kinds_since(stack, f"{LISTENER}.held", told, count=2))
    assert kinds == [KeyParked.type_name(), KeyUnparked.type_name()]


async def one_by_one(stack: Stack, parked: Any, names: list[str]) -> list[str]:
    """Unpark a key an event at a time, while new ones come; return the names in the order lineage came to know them."""
    held, found = held_events(stack), []
    command = Command(rate=4)
    while True:
        if len(found) == 2:
            await report(stack.servers, [made(UUID(parked.key.key.decode()), name) for name in names[4:]])
            await until(lambda: keys(stack, UUID(parked.key.key.decode()), waiting=4))
        page = await held.unpark_page(parked, command)
        new = [name for name in names if name not in found and await known(stack, name)]
        assert len(new) == page.handled <= 1
        found += new
        if page.flows:
            return found


async def keys(stack: Stack, key: UUID, waiting: int) -> Any:
    """Return a parked key once so many of its events wait."""
    found = await held_events(stack).keys(Which(LISTENER, TOPIC, str(key)))
    return next((one for one in found if one.key.events == waiting), None)


async def measured(stack: Stack, name: str) -> float:
    """Return what lineage measures."""
    return (await stack.metrics(LISTENER)).get(name, 0)


async def end_of(stack: Stack, topic: str) -> dict[TopicPartition, int]:
    """Return where a topic ends."""
    async with AIOKafkaConsumer(bootstrap_servers=stack.servers) as consumer:
        found: dict[TopicPartition, int] = await consumer.end_offsets([TopicPartition(topic, n) for n in range(2)])
        return found


async def kinds_since(stack: Stack, topic: str, since: dict[TopicPartition, int], count: int) -> list[str]:
    """Return the types of what was published on a topic since, once there are so many."""
    ends = await end_of(stack, topic)
    if sum(ends[place] - offset for place, offset in since.items()) < count:
        return []
    async with AIOKafkaConsumer(bootstrap_servers=stack.servers) as consumer:
        consumer.assign(list(since))
        for place, offset in since.items():
            consumer.seek(place, offset)
        found = [await consumer.getone() for _ in range(count)]
    return [dict(record.headers)["ce_type"].decode() for record in sorted(found, key=lambda one: one.timestamp)]


@row(24)
async def test_row_24_a_flood_of_held_events_is_replayed_at_a_bounded_rate(
    stack: Stack, judged: Judged, record_property: Callable[[str, object], None]
) -> None:
    held, which = held_events(stack), Which(COUNTER, COUNTED_TOPIC, reason="too old", since=datetime.now(UTC))
    await stack.restart(COUNTER, OBSERVABILITY_REPLAYS_PER_S=str(RATE))
    replay = Replay(held, which)
    injected = f"{FLOOD:,} events held; replayed, with kill -9 of the command, and of the service twice"
    async with judged(24, stack, injected) as fault:
        await report(stack.servers, (told_of(n) for n in range(FLOOD)), age=AGE)
        await until(lambda: waiting(stack, which, FLOOD), seconds=HELD_S)
        began = time.monotonic()
        asked = asyncio.create_task(replay.run())
        await until(lambda: done(replay, FLOOD // 4), seconds=HELD_S)
        asked.cancel()
        await end(stack, COUNTER)
        with contextlib.suppress(asyncio.CancelledError, MillraceError):
            await asked
        since = stack.parts[COUNTER].log.stat().st_size
        start_armed(stack, COUNTER, f"{ANSWERED}=kill@{PAGES_BEFORE_IT}")
        await stack.ready(COUNTER)
        while await left(held, which):
            with contextlib.suppress(MillraceError):
                await replay.run()
        took_s = time.monotonic() - began
        await acted(stack, COUNTER, ANSWERED, since, seconds=1)
        fault.over()
    del stack.parts[COUNTER].environment["OBSERVABILITY_REPLAYS_PER_S"]
    told = f"{FLOOD:,} replayed in {took_s:.1f} s, {FLOOD / took_s:.0f}/s, by {len(replay.commands)} commands"
    record_property(MEASURED, told)

    assert took_s > FLOOD / RATE
    assert fault.seen is not None
    assert fault.seen.handled[COUNTED_TOPIC] == FLOOD, "each is counted once: who counts knows no event again"
    unheard = await pages_done(stack, replay) - replay.answers
    assert replay.handled + unheard * MOST_PAGE == FLOOD, "what no command was told of is whole pages"


@dataclass
class Replay:
    """The same command, given again when it or the service has died, until nothing is left.

    Attributes:
        answers: How many pages it was told of.
    """

    held: HeldEvents
    which: Which
    commands: list[Command] = field(default_factory=list)
    answers: int = 0

    @property
    def handled(self) -> int:
        """How many events it was told were handled."""
        return sum(command.outcome.done for command in self.commands)

    async def run(self) -> None:
        """Replay what is left, faster than the service allows."""

        def told(_: Outcome) -> None:
            self.answers += 1

        self.commands.append(Command(rate=10 * RATE, told=told))
        await self.held.replay(self.which, accept_duplicate=True, command=self.commands[-1])


def told_of(n: int) -> KeyParked:
    """Return an event that its only listener does no more with than to count it."""
    return KeyParked(namespace=NAMESPACE, service=LISTENER, held_topic=TOPIC, held_key=f"flood-{n}", reason="flood")


async def pages_done(stack: Stack, replay: Replay) -> int:
    """Return how many pages the service has committed for a command: each is one row of its audit."""
    asked = pb.AuditServiceListRequest(limit=AUDITED)
    rows = (await AuditServiceStub(stack.channel(COUNTER)).List(asked)).rows
    names = {command.name for command in replay.commands}
    return sum(row.request_id.partition("/")[0] in names for row in rows)


async def left(held: HeldEvents, which: Which) -> int:
    """Return how many events are held; that they can be told may take a moment."""

    async def count() -> tuple[int] | None:
        try:
            return (await held.to_replay(which),)
        except MillraceError:
            return None

    found: tuple[int] = await until(count, seconds=HELD_S)
    return found[0]


async def waiting(stack: Stack, which: Which, count: int) -> bool:
    """Return whether so many events are held; to count them is no small thing."""
    await asyncio.sleep(0.5)
    return await held_events(stack).to_replay(which) == count


async def done(replay: Replay, count: int) -> bool:
    """Return whether a command has come so far."""
    return replay.handled >= count
