"""Events made by hand and published as a service does: of lineage, one file and what was made of it."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer
from millrace.contracts.event import Event
from millrace.contracts.openlineage import LineageReported, ref, run_event
from millrace.contracts.rpc.lineage.v1 import lineage_pb2
from millrace.contracts.rpc.lineage.v1.lineage_pb2_grpc import LineageServiceStub
from millrace.contracts.tasks import TaskDispatched
from millrace.runtime.envelope import headers_of
from millrace.runtime.errors import MillraceError
from millrace.runtime.ids import new_id
from millrace.runtime.inbox import first_id
from millrace.sdk.held import HeldEvents

from tests.faults.declared import NAMESPACE
from tests.faults.stack import Stack

TOPIC = "data.lineage"
LISTENER = "lineage"
YIELD_EVERY = 20


def made(run_id: UUID, name: str) -> LineageReported:
    """Return that a run has made a version of a name."""
    now = datetime.now(UTC)
    task = TaskDispatched(
        namespace=NAMESPACE,
        queue="data",
        task_id=run_id,
        attempt=1,
        token=uuid4(),
        kind="data.ingest",
        input={},
        run_id=run_id,
        workflow="reported",
        name="ingest",
        principal="dev",
        deadline=now,
    )
    event = run_event(
        namespace=NAMESPACE, service="data", task=task, time=now, state="COMPLETE", used=[], made={node(name): {}}
    )
    return LineageReported(namespace=NAMESPACE, service="data", run_id=run_id, event=event)


def node(name: str) -> str:
    """Return the lineage node of a version."""
    return ref("data.version", name)


def headers(event: Event, *, age: timedelta = timedelta()) -> dict[str, bytes | None]:
    """Return an event's headers, as of so long ago."""
    event_id = new_id()
    if age:
        # The time of another one, and its own random rest.
        event_id = UUID(int=first_id(datetime.now(UTC) - age).int | (event_id.int & ((1 << 80) - 1)))
    return {name: text.encode() for name, text in headers_of(event, event_id, datetime.now(UTC), None, "").items()}


async def report(servers: str, events: Iterable[Event], *, age: timedelta = timedelta()) -> None:
    """Publish events as their service's relay does."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5) as producer:
        for n, event in enumerate(events):
            if n % YIELD_EVERY == 0:
                await asyncio.sleep(0)  # others have something to do as well
            found = list(headers(event, age=age).items())
            value, key = event.model_dump_json().encode(), event.key().encode()
            await producer.send(event.topic_name(), value, key=key, headers=found)
        await producer.flush()


async def known(stack: Stack, name: str) -> bool:
    """Return whether lineage knows a version."""
    asked = lineage_pb2.GetGraphRequest(namespace=NAMESPACE, node=node(name), depth=1)
    try:
        await LineageServiceStub(stack.channel(LISTENER)).GetGraph(asked)
    except MillraceError:
        return False
    return True


def held_events(stack: Stack) -> HeldEvents:
    """Return the held events of all namespaces of a stack."""
    channels: Any = SimpleNamespace(to=stack.channel)
    return HeldEvents(channels, "")
