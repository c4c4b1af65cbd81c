"""What Kafka may do to what is on its way: deliver it again, in another order, late, or not at all."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from millrace.contracts import SERVICES
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.testing import until

from tests.faults.backlog import drained, flood
from tests.faults.checker import COMPLETE, COUNTED
from tests.faults.claims.lineage import run_node
from tests.faults.crowd import Crowd
from tests.faults.declared import NAMESPACE, full, light, prepared
from tests.faults.finding import Finding
from tests.faults.judge import Judged
from tests.faults.load import Load
from tests.faults.places import end
from tests.faults.records import (
    Repeater,
    administration,
    between,
    delete,
    ends_of,
    groups,
    noted,
    places,
    rewind,
    shuffle,
)
from tests.faults.rows import FULL, MEASURED, row
from tests.faults.stack import Stack
from tests.journeys.shop import ENDED

REPEATED_S = 20.0 if FULL else 3.0
WAITING_S = 6.0
#: So many records of a service at least: of fewer, another order is hardly another one.
REORDERED = 10
BACKLOG, SPARE = 100_000, 15_000
#: Events that one transaction takes at least while there is a backlog, on the average.
TOGETHER = 100
SLOW = "consume.polled=sleep:2"
DRAIN_S = GONE_S = 240.0
CROWD = 12
#: Memory may go up and down by this; 100,000 events that are kept take more.
FLAT_MIB = 32
ALERT_S = 60.0
EXPIRING = ("data.lineage", "control.lineage")
QUEUE = "control.tasks.data"
#: After this, control takes a task for lost that nobody has begun.
QUEUE_S = 20.0
REWOUND = SERVICES if FULL else ("control", "data")


@row(16, short=True)
async def test_row_16_what_is_delivered_again_has_its_effect_once(stack: Stack, judged: Judged) -> None:
    async with judged(16, stack, "each event 1-3 times; offsets rewound to 0") as fault:
        async with Repeater(stack.servers) as repeater:
            await asyncio.sleep(REPEATED_S)
        read_again = await down_while(stack, REWOUND, rewind)
        fault.over()

    assert repeater.repeated > REPEATED_S, "one a second at least"
    assert read_again.keys() == {*REWOUND}
    assert all(read_again.values()), read_again


@row(17)
async def test_row_17_what_comes_in_another_order_leads_to_the_same(stack: Stack, judged: Judged) -> None:
    async with judged(17, stack, "what waits for control, data and lineage is shuffled") as fault:
        shuffled = {}
        for service in ("control", "data", "lineage"):
            stack.hold_down(service)
            stack.signal(service, signal.SIGKILL)
            await asyncio.sleep(WAITING_S)
            shuffled |= await down_while(stack, (service,), shuffle)
        fault.over()

    assert all(count >= REORDERED for count in shuffled.values()), shuffled


@row(18)
async def test_row_18_a_backlog_of_100_000_events_drains_in_flat_memory(
    stack: Stack, judged: Judged, record_property: Callable[[str, object], None]
) -> None:
    async with judged(18, stack, f"control slow, then {BACKLOG:,} events wait for it", settle_s=120) as fault:
        await stack.restart("control", MILLRACE_FAILPOINTS=SLOW)
        del stack.parts["control"].environment["MILLRACE_FAILPOINTS"]
        await flood(stack.servers, BACKLOG + SPARE, "faults.flood", fault.load.source)
        stack.signal("control", signal.SIGKILL)
        drain = await drained(stack, "control", DRAIN_S)
        record_property(MEASURED, str(drain))
        fault.over()

    assert drain.waiting >= BACKLOG
    assert drain.per_transaction > TOGETHER, drain
    assert abs(drain.growth_mib) < FLAT_MIB, drain


@row(18)
async def test_row_18_a_tenant_with_much_to_compute_does_not_hold_up_another(
    stack: Stack, judged: Judged, record_property: Callable[[str, object], None]
) -> None:
    crowd = Crowd(stack, CROWD)

    async def gone() -> bool:
        return not await crowd.left()

    async with judged(18, stack, f"one tenant has {CROWD} files to ingest", settle_s=120) as fault:
        await crowd.come()
        event = await fault.load.full()

        async def ended() -> bool:
            run = await fault.load.run_of(event)
            return run is not None and run.state in ENDED

        await until(ended, seconds=60)
        left = await crowd.left()
        record_property(MEASURED, f"another tenant's run ended while {left} of {CROWD} files were waiting")
        fault.over()
        await until(gone, seconds=GONE_S)

    assert left > CROWD / 2


@row(36)
async def test_row_36_events_that_expired_unread_are_an_alert_and_what_is_left_is_read(
    stack: Stack, judged: Judged
) -> None:
    gone: set[str] = set()

    def is_gone(finding: Finding) -> bool:
        return finding.claim == COMPLETE and finding.about in gone

    told, shows = "retention passed under lineage", "detected, not resynced"
    async with judged(36, stack, told, settle_s=120, expected=is_gone, shows=shows) as fault:
        await end(stack, "lineage")
        seen = await ends_of(stack.servers, places(EXPIRING))
        event = await fault.load.full()
        await asyncio.sleep(WAITING_S)
        await until(lambda: has_ended(fault.load, event), seconds=60)
        unread = await expire_unread(stack.servers, "lineage", EXPIRING)
        gone |= reported(unread)
        stack.let_up("lineage")
        await until(lambda: alerts(stack, "offsets_out_of_range", "lineage"), seconds=ALERT_S)
        fault.over()

    assert "offset_out_of_range" in stack.parts["lineage"].log.read_text()
    # What it had read and not yet noted when it died, it may know or not.
    certain = reported([one for one in unread if one.offset >= seen[TopicPartition(one.topic, one.partition)]])
    assert {one.topic for one in unread} == set(EXPIRING)
    assert certain <= {finding.about for finding in fault.findings} <= gone


@row(36)
async def test_row_36_a_topic_that_is_deleted_is_an_alert_and_made_again_and_what_it_held_is_sent_again(
    stack: Stack, judged: Judged
) -> None:
    await apply_workflows(stack, queue_timeout_s=QUEUE_S)
    try:
        async with judged(36, stack, f"{QUEUE} deleted", settle_s=120, expected=deleted) as fault:
            stack.hold_down("data")
            stack.signal("data", signal.SIGKILL)
            await asyncio.sleep(WAITING_S)
            await delete(stack.servers, QUEUE)
            stack.let_up("data")
            # Others read it too: who looks first has it made again, and then nobody else misses it.
            await until(lambda: alerts(stack, "topic_missing", *SERVICES), seconds=ALERT_S)
            fault.over()
    finally:
        await apply_workflows(stack)


async def has_ended(load: Load, event: str) -> bool:
    """Return whether the run of an event has ended."""
    run = await load.run_of(event)
    return run is not None and run.state in ENDED


async def expire_unread(servers: str, group: str, topics: Sequence[str]) -> list[Any]:
    """Drop all records of topics, as their retention would; return those that a group had not noted as read."""
    since = dict.fromkeys(places(topics), 0)
    since |= {place: at for place, at in (await noted(servers, group)).items() if place in since}
    unread, ends = await between(servers, since)
    async with administration(servers) as admin:
        await admin.delete_records({place: RecordsToDelete(offset) for place, offset in ends.items()})
    return unread


def reported(records: Sequence[Any]) -> set[str]:
    """Return the nodes of the runs and tasks of the load that records of lineage are about."""
    own = [record for record in records if dict(record.headers)["ce_namespace"] == NAMESPACE.encode()]
    return {run_node(record.key.decode()) for record in own}


def deleted(finding: Finding) -> bool:
    """Return whether it is that what was counted can no longer be read: it was in the topic."""
    return finding.claim == COUNTED and QUEUE in finding.detail


async def apply_workflows(stack: Stack, **limits: float) -> None:
    """Declare the load's workflows anew, with other limits of their tasks."""
    control: Any = ControlServiceStub(stack.channel("control"))
    for workflow in (light(), full((await prepared(stack)).version)):
        tasks = {name: task | limits for name, task in workflow["tasks"].items()}
        text = json.dumps(workflow | {"tasks": tasks})
        own = {"namespace": NAMESPACE, "request_id": str(uuid4())}
        await control.ApplyWorkflow(control_pb2.ApplyWorkflowRequest(**own, workflow=text))


async def alerts(stack: Stack, metric: str, *services: str) -> float:
    """Return what services' counters say, of all topics."""
    found = [one for service in services for one in (await stack.metrics(service)).items()]
    return sum(value for name, value in found if name.startswith(f"millrace_{metric}_total"))


async def down_while(stack: Stack, services: Sequence[str], do: Callable[[str, str], Awaitable[int]]) -> dict[str, int]:
    """Do something to both groups of some services while those are down; return what it returned of each service."""
    for service in services:
        stack.hold_down(service)
        stack.signal(service, signal.SIGKILL)
    try:
        done = await asyncio.gather(*(do(stack.servers, group) for service in services for group in groups(service)))
    finally:
        for service in services:
            stack.let_up(service)
    await stack.ready(*services)
    return {service: sum(done[2 * n : 2 * n + 2]) for n, service in enumerate(services)}
