import asyncio
import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from millrace.contracts import SERVICES, oip
from millrace.contracts.rpc.runtime.v1 import runtime_pb2
from millrace.contracts.rpc.runtime.v1.runtime_pb2_grpc import HeldServiceStub
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import until
from millrace.sdk.connection import connection, kafka_servers
from millrace.sdk.stack.embedded import Embedded
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.state import Ports

from tests.journeys.orders import Landed, Order, land, orders
from tests.journeys.shop import Shop, Told, shown

JANUARY, FEBRUARY, NEXT = "2024-01", "2024-02", "2024-03"
#: What is killed, and the step of which month that has just begun then.
KILLS = (
    (JANUARY, "ingest", "data"),
    (JANUARY, "training_set", "feature"),
    (JANUARY, "tune", "training"),
    (JANUARY, "evaluate", "control"),
    (JANUARY, "deploy", "lineage"),
    (FEBRUARY, "ingest", "observability"),
    (FEBRUARY, "judge_1", "inference"),
    (FEBRUARY, "judge_5", "kafka"),
    (FEBRUARY, "judge_50", "postgres"),
)


@dataclass(frozen=True)
class Survived:
    """A shop whose stack was killed piece by piece while it ran.

    Attributes:
        killed: Part -> its process when it was killed.
    """

    stack: Embedded
    shop: Shop
    landed: Sequence[Landed]
    killed: dict[str, int]


@pytest.fixture(scope="module")
async def survived(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Survived]:
    """Two months of orders on the embedded stack, every part of which dies once on the way."""
    folder = tmp_path_factory.mktemp("survives")
    files = [land(folder, month, orders(month)) for month in (JANUARY, FEBRUARY)]
    stack = Embedded(folder / "stack", roots=[folder])
    await asyncio.to_thread(stack.up, ports=free_block())
    try:
        async with connection(stack.state.folder).channels() as channels:
            shop = Shop(channels.to, kafka_servers(stack.state.folder), "shop", "flights.labels")
            await shop.declare()
            async with shop.trading(orders(NEXT)):
                for landed in files:
                    await shop.tell_closed(landed)
                killed = {part: await kill(stack, shop, month, step, part) for month, step, part in KILLS}
                await shop.ended(FEBRUARY)
            yield Survived(stack, shop, files, killed)
    finally:
        await asyncio.to_thread(stack.down)


async def kill(stack: Embedded, shop: Shop, month: str, step: str, part: str) -> int:
    """End a part as soon as a step of a month has begun: PostgreSQL by `immediate`, all others by kill -9."""
    run_id = await shop.started(month)

    async def begun() -> bool:
        with suppress(MillraceError):
            run = await shop.run(run_id)
            assert run.state in {"pending", "running", "succeeded"}, shown(run)
            return next(task for task in run.tasks if task.name == step).state != "blocked"
        return False

    await until(begun, seconds=90)
    pid = stack.pid(part)
    os.kill(pid, signal.SIGQUIT if part == "postgres" else signal.SIGKILL)
    return pid


def free_block() -> Ports:
    """Ports that are free now, below those that the system hands to clients."""
    for first in range(25000 + os.getpid() % 100 * 40, 32000, 40):
        with suppress(CannotStart):
            Ports(first).check_free()
            return Ports(first)
    raise CannotStart("no block of ports is free")


async def test_every_part_that_was_killed_is_there_again(survived: Survived) -> None:
    async def ready() -> bool:
        return all(part.ready for part in await asyncio.to_thread(survived.stack.status))

    await until(ready)

    assert set(survived.killed) == {*SERVICES, "postgres", "kafka"}
    assert all(pid not in {0, survived.stack.pid(part)} for part, pid in survived.killed.items())


async def test_all_runs_end_as_they_should(survived: Survived) -> None:
    runs = [await survived.shop.ended(landed.month) for landed in survived.landed]

    assert [run.state for run in runs] == ["succeeded", "succeeded"], "\n".join(map(shown, runs))
    assert [run.event_id for run in await survived.shop.runs()] == [JANUARY, FEBRUARY]


async def test_nothing_is_doubled_and_nothing_is_lost(survived: Survived) -> None:
    told = once(await survived.shop.told())

    left = {"TrafficShifted", "PredictionsLogged", "LineageReported"}
    facts = Counter(one.type for one in told if one.type not in left and not one.type.startswith("Task"))
    assert facts == {
        "RunStarted": 2,
        "RunSucceeded": 2,
        "VersionPublished": 2,
        "ViewApplied": 2,
        "ViewMaterialised": 2,
        "TrainingSetBuilt": 2,
        "VersionRegistered": 2,
        "EvaluationPassed": 2,
        "DeploymentReady": 2,
        "CanaryJudged": 5,
        "AliasMoved": 2,
    }
    done = Counter(one.key for one in told if one.type == "TaskSucceeded")
    assert set(done.values()) == {1}
    shares = [(one.value["version"], one.value["weight"]) for one in told if one.type == "TrafficShifted"]
    assert sorted(shares) == sorted(
        [(1, 100), (1, 99), (1, 95), (1, 75), (1, 50), (1, 0), (2, 1), (2, 5), (2, 25), (2, 50), (2, 100)]
    )


async def test_what_each_service_told_is_in_order_without_a_gap(survived: Survived) -> None:
    streams: dict[tuple[str, str], list[int]] = {}
    for one in once(await survived.shop.told()):
        if one.sequence:
            streams.setdefault((one.topic, one.key), []).append(one.sequence)

    assert streams
    assert {stream: numbers for stream, numbers in streams.items() if numbers != list(range(1, len(numbers) + 1))} == {}


async def test_no_service_holds_an_event_that_it_could_not_handle(survived: Survived) -> None:
    for name in SERVICES:
        held = HeldServiceStub(survived.shop.channel(name))
        assert not (await held.List(runtime_pb2.HeldServiceListRequest(namespace=survived.shop.namespace))).held, name


async def test_its_lineage_is_whole(survived: Survived) -> None:
    asked: list[Order] = orders(NEXT)[:5]
    answer = await survived.shop.ask(asked)

    explained = await survived.shop.explain(oip.read_bytes(answer, "prediction_id")[0].decode())

    assert answer.model_version == "2"
    files = {hop.node.id for hop in explained.hops if hop.node.kind == "file"}
    assert files == {f"file:sha256:{digest(landed.path)}" for landed in survived.landed}
    assert json.loads(explained.prediction_json)["inputs"] == {"customer": asked[0].customer}


def once(told: Sequence[Told]) -> list[Told]:
    """Return each event where it came first: a relay that is killed sends again what it cannot know to have arrived."""
    return list({one.event_id: one for one in reversed(told)}.values())[::-1]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
