"""Rows 1 and 2: a service dies at every named place, under load."""

import asyncio
import os
import subprocess

from millrace.failpoints import POINTS

from tests.faults.judge import Judged
from tests.faults.places import LANES, killed_at, killed_at_lapse, seldom
from tests.faults.rows import row
from tests.faults.stack import Stack

#: How many services are down at once, at most.
AT_ONCE = 3
#: What data has to compute, two at a time, when it has come back for good: nearly all that was asked for meanwhile.
PILED_UP_S = 180
WHILE_MIGRATING = "migrate.before_commit"


def test_row_01_every_place_in_the_sources_is_one_where_somebody_dies() -> None:
    places = [place for lane in LANES.values() for place in lane]

    assert sorted([*places, WHILE_MIGRATING]) == sorted(POINTS)


@row(1)
async def test_row_01_kill_at_every_failpoint(stack: Stack, judged: Judged) -> None:
    slots = asyncio.Semaphore(AT_ONCE)
    failed: list[str] = []

    async def one_after_another(name: str) -> None:
        for place in LANES[name]:
            async with slots:
                try:
                    lapse = place == "tasks.lapsed"
                    recovered_s = await (killed_at_lapse(stack) if lapse else killed_at(stack, name, place))
                except AssertionError as error:
                    failed.append(f"{place}: {error}")
                    stack.let_up(name)
                else:
                    print(f"  {place}: {name} ready after {recovered_s:.1f} s", flush=True)

    async with judged(1, stack, f"kill -9 at {len(POINTS)} places", settle_s=PILED_UP_S) as fault, seldom(stack):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(_kill_while_migrating, stack))
            for name in LANES:
                group.create_task(one_after_another(name))
        fault.over()
        await fault.recovered()

    assert not failed, "\n".join(failed)


def _kill_while_migrating(stack: Stack) -> None:
    """Kill the migration of an empty database in its second step; it goes on from there."""
    stack.postgres.create_database("migrating")
    process = stack.deployment.services["training"]
    environment = os.environ | process.environment | {"TRAINING_POSTGRES_DSN": stack.postgres.dsn("migrating")}
    command = [*process.command, "--migrate"]

    killed = subprocess.run(
        command, env=environment | {"MILLRACE_FAILPOINTS": f"{WHILE_MIGRATING}=kill@2"}, check=False, timeout=120
    )
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    again = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)

    assert killed.returncode == -9
    assert done.stdout.split()
    assert not again.stdout.split()


@row(2, short=True)
async def test_row_02_kill_between_commit_and_ack_and_between_send_and_mark_sent(stack: Stack, judged: Judged) -> None:
    async with judged(2, stack, "kill -9 at consume.after_commit, outbox.after_send") as fault:
        await asyncio.gather(
            killed_at(stack, "control", "outbox.after_send"), killed_at(stack, "lineage", "consume.after_commit")
        )
        await asyncio.gather(
            killed_at(stack, "control", "consume.after_commit"), killed_at(stack, "data", "outbox.after_send")
        )
        fault.over()
