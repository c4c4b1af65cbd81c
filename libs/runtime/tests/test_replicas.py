"""Two replicas of one service: they share its partitions, and each takes over from the other."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from millrace.contracts.data import VersionPublished
from millrace.runtime.consume import reader
from millrace.runtime.database import Transactions
from millrace.runtime.subscriptions import on
from millrace.runtime.testing import create_topics, publish, until
from runtime_effects import Effects, consuming, count_is, effects, version

PARTITIONS = 2
TOGETHER_S = 15.0


async def note(event: VersionPublished, tx: Effects) -> None:
    tx.add(f"{event.dataset}/{event.partition}")


async def test_replicas_that_start_together_share_the_work_and_each_event_has_its_effect_once(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"data.versions": PARTITIONS})
    row = on(VersionPublished, note, start="now")
    async with (
        consuming(service_name, broker, begin, tmp_path, row, instance=0) as first,
        consuming(service_name, broker, begin, tmp_path, row, instance=1) as second,
    ):

        async def both() -> bool:
            return not first.out_of_touch() and not second.out_of_touch()

        await until(both, seconds=TOGETHER_S)
        events = [version(f"{service_name}-{n}") for n in range(20)]
        await publish(broker.servers, events)
        await until(count_is(begin, service_name, len(events)))
        shares = [first.handled, second.handled]

    assert sorted(await effects(begin, service_name)) == sorted(f"{event.dataset}/p" for event in events)
    assert all(shares)


async def test_a_replica_that_is_gone_for_good_leaves_its_partitions_to_the_other(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"data.versions": PARTITIONS})
    row = on(VersionPublished, note, start="now")
    async with consuming(service_name, broker, begin, tmp_path, row, instance=0) as stays:
        async with consuming(service_name, broker, begin, tmp_path, row, instance=1) as goes:

            async def both() -> bool:
                return not stays.out_of_touch() and not goes.out_of_touch()

            await until(both, seconds=TOGETHER_S)
        events = [version(f"{service_name}-{n}") for n in range(20)]
        await publish(broker.servers, events)
        await until(count_is(begin, service_name, len(events)))

    assert len(await effects(begin, service_name)) == len(events)


class HoldsUp(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka publishes no types
    """A member that does not let go of its partitions, so that the whole group waits for it."""

    def __init__(self) -> None:
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def on_partitions_revoked(self, revoked: list[Any]) -> None:
        if revoked:
            self.asked.set()
            await self.let_go.wait()

    async def on_partitions_assigned(self, assigned: list[Any]) -> None:
        pass


async def test_a_replica_that_is_stopped_while_its_group_waits_for_another_ends(
    service_name: str, broker: Any, begin: Transactions[Effects], tmp_path: Path
) -> None:
    await create_topics(broker.servers, {"data.versions": PARTITIONS})
    holds_up = HoldsUp()
    other = AIOKafkaConsumer(
        bootstrap_servers=broker.servers,
        group_id=service_name,
        partition_assignment_strategy=(RangePartitionAssignor,),
        rebalance_timeout_ms=60_000,
    )
    other.subscribe(["data.versions"], listener=holds_up)
    await other.start()

    async def has_all() -> bool:
        return len(other.assignment()) == PARTITIONS

    try:
        await until(has_all)
        async with consuming(service_name, broker, begin, tmp_path, on(VersionPublished, note, start="now")) as replica:
            await asyncio.wait_for(holds_up.asked.wait(), TOGETHER_S)
            assert not replica.progress.assigned
    finally:
        holds_up.let_go.set()
        await other.stop()


async def test_who_joins_waits_longer_for_a_round_that_is_at_hand_than_for_other_answers(
    service_name: str,
    broker: Any,
    begin: Transactions[Effects],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reader, "ANSWER_S", 1.0)
    await create_topics(broker.servers, {"data.versions": PARTITIONS})
    event = version(service_name)
    entered = asyncio.Event()

    async def slowly(said: VersionPublished, tx: Effects) -> None:
        await note(said, tx)
        if said.dataset == event.dataset:
            entered.set()
            await tx.fetch("SELECT pg_sleep(3)")

    row = on(VersionPublished, slowly, start="now")
    async with consuming(service_name, broker, begin, tmp_path, row, instance=0) as first:

        async def reads() -> bool:
            return not first.out_of_touch()

        await until(reads, seconds=TOGETHER_S)
        await publish(broker.servers, [event])
        await entered.wait()
        async with consuming(service_name, broker, begin, tmp_path, row, instance=1) as second:

            async def joined() -> bool:
                return second.progress.assigned

            await until(joined, seconds=TOGETHER_S)

    assert "Error sending JoinGroupRequest" not in caplog.text
    assert await effects(begin, service_name) == [f"{service_name}/p"]
