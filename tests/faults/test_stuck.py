"""Rows 10 and 32: a handler that takes too long, an event loop that does not turn, a processor that is hardly there."""

import asyncio
from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from millrace.runtime.testing import until

from tests.faults.cgroup import enter, needs_group, processor_share, throttled_in
from tests.faults.judge import Judged
from tests.faults.places import acted, end, start_armed, started_again
from tests.faults.rows import row
from tests.faults.stack import Stack
from tests.journeys.shop import Told

STARVED_S = 30.0


@row(10)
async def test_row_10_a_handler_that_takes_longer_than_the_poll_interval(stack: Stack, judged: Judged) -> None:
    async with judged(10, stack, "a handler of control takes 25 s, the poll interval is 6 s") as fault:
        await end(stack, "control")
        since = stack.parts["control"].log.stat().st_size
        start_armed(stack, "control", "consume.handling=sleep:25@20", CONTROL_MAX_POLL_S="6")
        await acted(stack, "control", "consume.handling", since)
        await until(lambda: _is_member(stack, "control", False), seconds=24)
        await until(lambda: _is_member(stack, "control", True), seconds=60)
        fault.over()


@row(32)
async def test_row_32_an_event_loop_is_blocked_and_a_processor_is_starved(stack: Stack, judged: Judged) -> None:
    needs_group("cpu")
    injected = "loop of data blocked 30 s, of lineage for good; control at 10% of a processor"
    async with judged(32, stack, injected) as fault:
        await asyncio.gather(end(stack, "data"), end(stack, "lineage"))
        since = {name: stack.parts[name].log.stat().st_size for name in ("data", "lineage")}
        start_armed(stack, "data", "tasks.worked=sleep:45@2; consume.after_commit=busy:30@15")
        start_armed(stack, "lineage", "consume.after_commit=busy:300@5", LINEAGE_STUCK_S="5")
        starts = stack.parts["lineage"].starts
        await acted(stack, "data", "consume.after_commit", since["data"])
        with processor_share(0.1) as starved:
            control = psutil.Process(stack.pid("control"))
            for process in (control, *control.children(recursive=True)):
                enter(starved, process.pid)
            await asyncio.sleep(STARVED_S / 2)
            assert not await asyncio.to_thread(_lives, stack, "data")
            assert await _is_member(stack, "control", True)
            await asyncio.sleep(STARVED_S / 2)
            throttled = throttled_in(starved)
        await acted(stack, "lineage", "consume.after_commit", since["lineage"])
        await started_again(stack, "lineage", starts)
        await until(lambda: asyncio.to_thread(_lives, stack, "data"))
        fault.over()

    assert throttled
    assert b"Timeout (0:00:05.500000)!" in stack.parts["lineage"].log.read_bytes()[since["lineage"] :]
    assert fault.seen is not None
    _the_held_up_task_was_heard_of(fault.seen.told)


async def _is_member(stack: Stack, group: str, expected: bool) -> bool:
    """Whether a group has a member, or has none, as expected."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    return bool(answer.groups[0][5]) is expected


def _lives(stack: Stack, name: str) -> bool:
    """Whether a platform that looks at /livez would leave a service alone."""
    try:
        with urlopen(f"{stack.deployment.services[name].http}/livez", timeout=4) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def _the_held_up_task_was_heard_of(told: Sequence[Told]) -> None:
    """The task whose worker waited was announced and told of while it did, and nobody took it for lost."""
    reports = [one for one in told if one.topic == "data.tasks"]
    progressed = {one.value["task_id"] for one in reports if one.type == "TaskProgressed"}
    done_at = {one.value["task_id"]: one.value["attempt"] for one in reports if one.type == "TaskSucceeded"}

    assert progressed
    assert {done_at[task_id] for task_id in progressed} == {1}
