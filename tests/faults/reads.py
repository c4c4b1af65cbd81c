"""What anybody may read afterwards: gRPC reads, Kafka's topics, and the rows of the outside service."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.contracts.rpc.data.v1 import data_pb2
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.contracts.rpc.lineage.v1 import lineage_pb2
from millrace.contracts.rpc.lineage.v1.lineage_pb2_grpc import LineageServiceStub
from millrace.contracts.rpc.observability.v1 import observability_pb2
from millrace.contracts.rpc.observability.v1.observability_pb2_grpc import ObservabilityServiceStub
from millrace.contracts.rpc.training.v1 import training_pb2
from millrace.contracts.rpc.training.v1.training_pb2_grpc import TrainingServiceStub
from millrace.runtime.errors import MillraceError, NotFound
from millrace.runtime.testing import until

from tests.faults.claims.lineage import reporting, run_node, version_node
from tests.faults.declared import DATASET, MODEL, NAMESPACE
from tests.faults.facts import Facts, grown
from tests.faults.load import Load
from tests.faults.stack import Stack
from tests.faults.topics import lag, told_since
from tests.journeys.shop import ENDED, Told

AT_ONCE = 16
LOOK_S = 0.2
QUIET_S = 20.0
#: How many predictions are explained, of all that were answered.
EXPLAINED = 10
#: How far lineage is read around a version: to its file and to what is made of it.
AROUND = 3
OPEN_STATES = ("pending", "running")


async def counted(stack: Stack) -> Counter[str]:
    """Return how many events of each topic observability says it has handled."""
    observability: Any = ObservabilityServiceStub(stack.channel("observability"))
    asked = observability_pb2.GetSeriesRequest(namespace=NAMESPACE, metric="events")
    found: Counter[str] = Counter()
    for series in (await observability.GetSeries(asked)).series:
        found[series.labels["topic"]] += int(sum(point.value for point in series.points))
    return found


async def facts(
    stack: Stack, load: Load, begins: Mapping[TopicPartition, int], first_effect: int, before: Counter[str]
) -> Facts:
    """Read all that the checker is told."""
    everybody, effects = await asyncio.gather(
        told_since(stack.servers, begins), asyncio.to_thread(stack.effects.rows, first_effect)
    )
    told = [one for whose, one in everybody if whose == NAMESPACE]
    events = sorted({entry.key for entry in load.history.entries if entry.op == "trigger"})
    explained = dict(zip(events, await at_once(load.explained, events), strict=True))
    runs = {run.run_id: run for run in await at_once(partial(_run, stack), _started(load, told, explained))}
    asked = [str(entry.value) for entry in load.history.of("predict")]
    versions = [str(one.value["version_id"]) for one in told if one.type == "VersionPublished"]
    near = [*map(run_node, runs), *(run_node(task.task_id) for run in runs.values() for task in reporting(run))]
    return Facts(
        history=load.history.entries,
        told=told,
        everybody=[one for _, one in everybody],
        explained=explained,
        runs=runs,
        effects=effects,
        versions=await _versions(stack),
        aliases=await _aliases(stack),
        graphs=await by_key(partial(_graph, stack, 1), near)
        | await by_key(partial(_graph, stack, AROUND), [version_node(version) for version in sorted(set(versions))]),
        explanations=await by_key(partial(_way_back, stack), asked[:: max(1, len(asked) // EXPLAINED)]),
        costs=await by_key(partial(_cost, stack), list(runs)),
        handled=grown(await counted(stack), before),
    )


def _started(
    load: Load, told: Sequence[Told], explained: Mapping[str, control_pb2.ExplainEventResponse]
) -> Sequence[str]:
    """Return every run that anybody knows of."""
    started = {match.run_id for one in explained.values() for match in one.matches if match.run_id}
    started |= {str(entry.value) for entry in load.history.of("start") if entry.value}
    return sorted(started | {str(one.value["run_id"]) for one in told if one.type == "RunStarted"})


async def settled(stack: Stack, load: Load, seconds: float) -> None:
    """Return when each acknowledged event's run has ended and nothing is on its way any more.

    Raises:
        AssertionError: Not in time; it says what is still open.
    """
    began = time.monotonic()
    waiting = [entry.key for entry in load.history.of("trigger")]

    async def all_ended() -> bool:
        nonlocal waiting
        with suppress(MillraceError):
            over = await at_once(partial(_over, load), waiting)
            waiting = [event for event, ended in zip(waiting, over, strict=True) if not ended]
        await asyncio.sleep(LOOK_S)
        return not waiting

    try:
        await until(all_ended, seconds=seconds)
    except AssertionError:
        told = f"{len(waiting)} events without an ended run: {waiting[:5]}"
        raise AssertionError(f"not settled within {seconds:g} s: {told}") from None
    await quiet(stack, max(QUIET_S, seconds - (time.monotonic() - began)))


async def quiet(stack: Stack, seconds: float = QUIET_S) -> None:
    """Return when nothing of what came before is on its way any more.

    Raises:
        AssertionError: Not in time; it says what is.
    """
    why = "nothing could be read"

    async def still() -> bool:
        nonlocal why
        try:
            why = await _under_way(stack)
        except (MillraceError, KafkaError, OSError) as error:
            why = repr(error)
        await asyncio.sleep(LOOK_S if why else 0)
        return not why

    try:
        await until(still, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"not quiet within {seconds:g} s: {why}") from None


async def by_key(ask: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Ask about many, and return the answers by what was asked about; None for what is not found."""

    async def found(key: str) -> Any:
        try:
            return await ask(key)
        except NotFound:
            return None

    return dict(zip(keys, await at_once(found, keys), strict=True))


async def at_once(ask: Any, keys: Sequence[str]) -> list[Any]:
    """Ask about many, a few at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(key: str) -> Any:
        async with slots:
            return await ask(key)

    return list(await asyncio.gather(*(one(key) for key in keys)))


async def _over(load: Load, event: str) -> bool:
    explained = await load.explained(event)
    if explained.matches and not any(match.run_id for match in explained.matches):
        return True  # it was refused, and says so
    run = await load.run_of(event)
    return run is not None and run.state in ENDED


async def _under_way(stack: Stack) -> str:
    """Return what is still on its way; nothing when all is quiet."""
    control: Any = ControlServiceStub(stack.channel("control"))
    for state in OPEN_STATES:
        asked = control_pb2.ListRunsRequest(namespace=NAMESPACE, state=state, limit=1)
        if (await control.ListRuns(asked)).runs:
            return f"a run is {state}"
    for name in stack.deployment.services:
        waiting = {key: n for key, n in (await stack.metrics(name)).items() if key.startswith("millrace_outbox_events")}
        if any(waiting.values()):
            return f"{name} has not sent {waiting}"
    behind = await lag(stack.servers)
    return f"not read yet: {behind}" if behind else ""


async def _run(stack: Stack, run_id: str) -> control_pb2.Run:
    control: Any = ControlServiceStub(stack.channel("control"))
    return (await control.GetRun(control_pb2.GetRunRequest(namespace=NAMESPACE, run_id=run_id))).run


async def _versions(stack: Stack) -> list[data_pb2.Version]:
    asked = data_pb2.ListVersionsRequest(namespace=NAMESPACE, dataset=DATASET, limit=1000)
    return list((await DataServiceStub(stack.channel("data")).ListVersions(asked)).versions)


async def _aliases(stack: Stack) -> list[str]:
    asked = training_pb2.ListModelVersionsRequest(namespace=NAMESPACE, model=MODEL)
    found = await TrainingServiceStub(stack.channel("training")).ListModelVersions(asked)
    return [alias for version in found.versions for alias in version.aliases]


async def _graph(stack: Stack, depth: int, node: str) -> lineage_pb2.GetGraphResponse:
    asked = lineage_pb2.GetGraphRequest(namespace=NAMESPACE, node=node, depth=depth)
    found: lineage_pb2.GetGraphResponse = await LineageServiceStub(stack.channel("lineage")).GetGraph(asked)
    return found


async def _way_back(stack: Stack, prediction_id: str) -> lineage_pb2.ExplainResponse:
    asked = lineage_pb2.ExplainRequest(namespace=NAMESPACE, prediction_id=prediction_id)
    found: lineage_pb2.ExplainResponse = await LineageServiceStub(stack.channel("lineage")).Explain(asked)
    return found


async def _cost(stack: Stack, run_id: str) -> observability_pb2.GetRunCostResponse:
    asked = observability_pb2.GetRunCostRequest(namespace=NAMESPACE, run_id=run_id)
    stub: Any = ObservabilityServiceStub(stack.channel("observability"))
    return await stub.GetRunCost(asked)
