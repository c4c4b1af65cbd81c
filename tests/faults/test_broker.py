"""What becomes of promises when Kafka's brokers die, freeze, or hand partitions around."""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from millrace.contracts import SERVICES
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import until

from tests.faults.judge import Judged
from tests.faults.load import Load
from tests.faults.places import end
from tests.faults.records import leader_of
from tests.faults.replicas import come_and_go
from tests.faults.rows import FULL, row
from tests.faults.stack import Stack, running
from tests.journeys.shop import ENDED

FROZEN_S = 90.0
#: How long a machine is gone before there is another one.
LOST_S = 10.0
#: While a broker is frozen, the rest of its cluster takes over within this.
TAKEN_OVER_S = 60.0
STORM_S, STAY_S = (60.0 if FULL else 8.0), 3.0
#: How long a replica takes at most to join and to die, on a machine that is busy.
SLOWEST_S = 20.0
SLOW = "consume.handled=sleep:0.3"
STORMY = ("data", "control") if FULL else ("control",)


@pytest.fixture(scope="module")
async def cluster(module_folder: Path) -> AsyncIterator[Stack]:
    """A stack with three brokers, replication 3 and `min.insync.replicas=2`."""
    async with running(module_folder, brokers=3) as made:
        yield made


@row(6, short=True)
async def test_row_06_a_broker_that_is_killed_loses_nothing(stack: Stack, judged: Judged) -> None:
    async with judged(6, stack, "kill -9 of the broker") as fault:
        stack.signal("kafka", signal.SIGKILL)
        await stack.ready("kafka")
        fault.over()


@row(6)
async def test_row_06_a_broker_that_is_restarted_in_order_loses_nothing(stack: Stack, judged: Judged) -> None:
    async with judged(6, stack, "clean restart of the broker") as fault:
        await stack.restart("kafka")
        fault.over()


@row(6)
async def test_row_06_a_cluster_whose_brokers_are_all_killed_loses_nothing(cluster: Stack, judged: Judged) -> None:
    brokers = [name for name in cluster.parts if name.startswith("kafka")]
    async with judged(6, cluster, "kill -9 of all three brokers") as fault:
        for broker in brokers:
            cluster.signal(broker, signal.SIGKILL)
        await cluster.ready(*brokers)
        fault.over()


@row(6)
async def test_row_06_a_broker_that_is_lost_with_its_disk_loses_nothing(cluster: Stack, judged: Judged) -> None:
    leader = await leader_of(cluster.servers, "triggers")
    part, broker = f"kafka-{leader}", cluster.brokers[leader - 1]
    async with judged(6, cluster, "a leader of three brokers killed and its folder wiped") as fault:
        await end(cluster, part)
        await asyncio.to_thread(shutil.rmtree, broker.data)
        await asyncio.gather(a_run_ends(fault.load, TAKEN_OVER_S), asyncio.sleep(LOST_S))
        await asyncio.to_thread(broker.prepare)
        cluster.let_up(part)
        await cluster.ready(part)
        fault.over()


@row(7)
async def test_row_07_while_the_broker_is_frozen_no_service_dies_or_waits_for_ever(
    stack: Stack, judged: Judged
) -> None:
    async with judged(7, stack, f"the broker frozen {FROZEN_S:g} s", settle_s=120) as fault:
        interrupted = given_up(stack, "control")
        await frozen(stack, "kafka", FROZEN_S)
        fault.over()
        bounded = given_up(stack, "control") > interrupted

    # Calls start runs all the while, so that control always has something to send.
    assert bounded, "a relay that had something to send went on waiting for its answer"


@row(7)
async def test_row_07_while_a_leader_is_frozen_the_other_brokers_go_on(cluster: Stack, judged: Judged) -> None:
    leader = await leader_of(cluster.servers, "triggers")
    async with judged(7, cluster, f"a leader of three brokers frozen {FROZEN_S:g} s", settle_s=120) as fault:
        going_on = asyncio.create_task(a_run_ends(fault.load, TAKEN_OVER_S))
        await frozen(cluster, f"kafka-{leader}", FROZEN_S)
        fault.over()
        await going_on


@row(9, short=True)
async def test_row_09_replicas_that_come_and_go_disturb_neither_order_nor_progress(
    stack: Stack, judged: Judged
) -> None:
    async with judged(9, stack, f"a replica joins or dies every {STAY_S:g} s, slow handlers", settle_s=90) as fault:
        await storm(stack, fault.load)
        fault.over()


@row(9)
async def test_row_09_likewise_with_three_brokers(cluster: Stack, judged: Judged) -> None:
    async with judged(9, cluster, "likewise with three brokers", settle_s=90) as fault:
        await storm(cluster, fault.load)
        fault.over()


async def storm(stack: Stack, load: Load) -> None:
    """Have replicas of services come and go while handlers are slow; a run that begins meanwhile ends."""
    await asyncio.gather(*(stack.restart(service, MILLRACE_FAILPOINTS=SLOW) for service in STORMY))
    try:
        going_on = asyncio.create_task(a_run_ends(load, TAKEN_OVER_S))
        joined = await come_and_go(stack, STORMY, STORM_S, STAY_S)
        assert joined >= STORM_S / SLOWEST_S, "a storm is more than a replica now and then"
        await going_on
    finally:
        for service in STORMY:
            stack.parts[service].environment.pop("MILLRACE_FAILPOINTS", None)
    await asyncio.gather(*(stack.restart(service) for service in STORMY))


async def frozen(stack: Stack, part: str, seconds: float) -> None:
    """Freeze a part for so long; every service says all the while that it lives."""
    stack.signal(part, signal.SIGSTOP)
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            dead = [service for service in SERVICES if not await asyncio.to_thread(lives, stack, service)]
            assert not dead, f"{dead} say that they do not live, {part} being frozen"
            await asyncio.sleep(1)
    finally:
        stack.signal(part, signal.SIGCONT)


def lives(stack: Stack, service: str) -> bool:
    """Return what /livez says."""
    try:
        with urlopen(f"{stack.deployment.services[service].http}/livez", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def given_up(stack: Stack, service: str) -> int:
    """Return how often a service's relay has given up waiting for an acknowledgement."""
    return stack.parts[service].log.read_text().count("relay_interrupted")


async def a_run_ends(load: Load, seconds: float) -> None:
    """Start a run and return when it has ended."""
    event = await load.light()

    async def ended() -> bool:
        try:
            run = await load.run_of(event)
        except MillraceError:
            return False
        return run is not None and run.state in ENDED

    await until(ended, seconds=seconds)
