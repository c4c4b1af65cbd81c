"""The data service as it is, with two more kinds of tasks, which do something to the outside, once.

`data.effect` does no more than that; `data.add` adds to a counter of a program (`tests/programs`), or fails.

`python -m tests.faults.data_with_effects` runs it.
"""

import asyncio
import os
import sys
from functools import partial
from typing import Any

import uvloop
from millrace.contracts.rpc.data.v1 import data_pb2 as pb
from millrace.contracts.tasks import Output
from millrace.data.api import DataApi
from millrace.data.clients.sources import Limits
from millrace.data.engine.sandbox import Bounds
from millrace.data.handlers import SUBSCRIPTIONS
from millrace.data.settings import Settings
from millrace.data.store import Store
from millrace.data.work import tasks
from millrace.runtime.command import Command
from millrace.runtime.errors import MillraceError, Unavailable
from millrace.runtime.service import service
from millrace.runtime.subscriptions import task
from millrace.runtime.tasks import Job

from tests.faults.effects import add, put
from tests.programs.adding import added


class Effect(Command):
    """Something to be done outside.

    Attributes:
        event: What the run was started for.
    """

    event: str


async def effect(step: Effect, job: Job) -> int:
    """Ask the outside service, with the task's id as the key under which a repeated call does nothing."""
    try:
        return await asyncio.to_thread(put, os.environ["EFFECTS_URL"], str(job.task.task_id), step.event, job.task.name)
    except OSError as error:
        raise Unavailable(f"the effect service does not answer: {error}") from None


async def keep_receipt(receipt: int, _: Store) -> Output:
    """Hand on the number of the outside's row."""
    return {"receipt": receipt}


class Add(Command):
    """What `added` is told, and how long an attempt works, seconds."""

    program: str
    counter: str
    amount: int
    fails: int = 0
    late: bool = False
    takes_s: float = 0.0


async def add_waiting(step: Add, job: Job) -> dict[str, Any]:
    """Add to a counter of a program."""
    await asyncio.sleep(step.takes_s)
    given = {name: getattr(step, name) for name in ("program", "counter", "amount", "fails", "late")}
    ledger, about = partial(add, os.environ["EFFECTS_URL"]), job.task
    try:
        return await asyncio.to_thread(added, ledger, str(about.task_id), about.attempt, about.name, **given)
    except OSError as error:
        raise Unavailable(f"the effect service does not answer: {error}") from None


async def hand_on(output: dict[str, Any], _: Store) -> Output:
    """Hand on the counter's value."""
    return output


async def main(settings: Settings) -> None:
    """Run data until SIGTERM, then drain."""
    limits = Limits(settings.allowed_roots, settings.allowed_hosts, settings.max_source_bytes, settings.fetch_timeout_s)
    bounds = Bounds(settings.scan_memory_bytes, settings.scan_timeout_s)
    kinds = (*tasks(limits, bounds), task("data.effect", Effect, effect, keep_receipt))
    kinds = (*kinds, task("data.add", Add, add_waiting, hand_on))
    async with service("data", settings) as data:
        begin = data.transactions(Store)
        data.subscribe(SUBSCRIPTIONS, begin, kinds)
        data.serve(pb.DESCRIPTOR.services_by_name["DataService"], DataApi(data.artifacts), begin)
        await data.run()


if __name__ == "__main__":
    try:
        uvloop.run(main(Settings()))
    except MillraceError as stopped:
        sys.exit(f"data stopped: {stopped}")
