"""A backlog: how it comes to be, and how it is worked off."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer, TopicPartition
from millrace.sdk.publish import CloudEvent

from tests.faults.records import administration, ends_of, groups, places
from tests.faults.stack import Stack

MIB = 1024 * 1024
TOPIC = "triggers"
LOOK_S = 0.25


@dataclass
class Drain:
    """How a service worked off what waited for it.

    Attributes:
        waiting: How many events waited at the beginning.
        seconds: How long it took.
        rss: The service's memory over time: seconds since the beginning, MiB.
        rounds: How many events each of its transactions took, where that is known.
    """

    waiting: int = 0
    seconds: float = 0.0
    rss: list[tuple[float, float]] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.waiting / self.seconds

    @property
    def per_transaction(self) -> float:
        """Events per transaction."""
        return sum(self.rounds) / len(self.rounds)

    @property
    def growth_mib(self) -> float:
        """How much the memory grew from the first quarter's most to the last quarter's most."""
        quarter = max(1, len(self.rss) // 4)
        return max(mib for _, mib in self.rss[-quarter:]) - max(mib for _, mib in self.rss[:quarter])

    def __str__(self) -> str:
        """Return it for people."""
        most = max(mib for _, mib in self.rss)
        together = f", {self.per_transaction:,.0f} a transaction" if self.rounds else ""
        return (
            f"{self.waiting:,} events in {self.seconds:.1f} s: {self.rate:,.0f} events/s{together}; "
            f"memory at most {most:.0f} MiB, {self.growth_mib:+.1f} MiB from its first quarter to its last, "
            f"{self.growth_mib * MIB / self.waiting:+.0f} bytes an event"
        )


async def flood(servers: str, count: int, kind: str, source: str) -> None:
    """Publish events that start nothing, as fast as the broker takes them."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5) as producer:
        for n in range(count):
            headers, value = CloudEvent(type=kind, source=source, id=f"flood-{n}", data={"n": n}).binary()
            await producer.send(TOPIC, value, key=f"flood-{n % 997}".encode(), headers=headers)
        await producer.flush()


async def drained(stack: Stack, service: str, seconds: float) -> Drain:
    """Return how a service works off what waits for it in the topic; from now, when it may be starting still.

    Raises:
        TimeoutError: Not in time.
    """
    log = stack.parts[service].log
    since = log.stat().st_size
    ends = await ends_of(stack.servers, places([TOPIC]))
    drain, began = Drain(), 0.0
    _, foreign = groups(service)
    async with administration(stack.servers) as admin, asyncio.timeout(seconds):
        while True:
            read = {place: at.offset for place, at in (await admin.list_consumer_group_offsets(foreign)).items()}
            left = behind(ends, read)
            drain.waiting = drain.waiting or left
            if left < drain.waiting:
                began = began or time.monotonic()
                drain.seconds = time.monotonic() - began
            if pid := stack.pid(service):
                drain.rss.append((drain.seconds, psutil.Process(pid).memory_info().rss / MIB))
            if not left:
                drain.rounds = foreign_rounds(log, since)
                return drain
            await asyncio.sleep(LOOK_S)


def foreign_rounds(log: Path, since: int) -> list[int]:
    """Return how many foreign records each transaction of a service took, by its log after so many bytes."""
    with log.open("rb") as file:
        file.seek(since)
        whole, _, _ = file.read().rpartition(b"\n")
    told = [json.loads(line) for line in whole.splitlines() if b'"events_handled"' in line]
    return [one["events"] for one in told if not one["first"]]  # what is foreign has no id that a service would know


def behind(ends: Mapping[TopicPartition, int], read: Mapping[TopicPartition, int]) -> int:
    """Return how many records are not read yet."""
    return sum(max(0, end - max(0, read.get(place, 0))) for place, end in ends.items())
