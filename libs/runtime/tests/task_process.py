"""A process that takes tasks: what tests kill. Arguments: service, DSN, brokers, folder, instance."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from millrace.contracts.feature import ViewApplied
from millrace.contracts.tasks import Carried
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.client import Channels, Token
from millrace.runtime.consume import Consumer, Readers
from millrace.runtime.database import Database, Transactions
from millrace.runtime.errors import Conflict, InvalidInput, Preempted
from millrace.runtime.outbox import Relay
from millrace.runtime.subscriptions import task
from millrace.runtime.tasks import Job, Workers, guard
from pydantic import BaseModel
from runtime_effects import Effects, settings_of


class Step(BaseModel):
    """What a task is to do: leave a mark, and then end as it says."""

    folder: Path
    mark: str
    then: str = "succeed"


class Result(BaseModel):
    """What computing work gives back."""

    mark: str
    pid: int


def compute(step: Step, job: Job) -> Result:
    """Leave a mark through the database, then end as told."""
    with job.begin() as tx:
        tx.add(f"trial of {step.mark}")
        if step.then == "tell":
            tx.emit(ViewApplied(namespace="demo", view=step.mark, view_hash="h"))
    if step.then == "hang" and not (step.folder / "released").exists():
        (step.folder / f"{step.mark}.{job.task.attempt}.pid").write_text(str(os.getpid()))
        time.sleep(120)
    if step.then == "refuse":
        raise InvalidInput("this can never be")
    if step.then == "stumble":
        raise ZeroDivisionError
    job.progress(0.5, "halfway")
    return Result(mark=step.mark, pid=os.getpid())


def carry(step: Step, job: Job) -> Result:
    """Begin something outside and keep how far it is, once; go on with that in every other attempt."""
    left = job.task.carried
    if left is None:
        with (step.folder / "submitted").open("a") as submitted:
            submitted.write(f"{step.mark}\n")
        job.carry(Carried(external_ref=f"job-{step.mark}"))
        job.carry(Carried(external_ref=f"job-{step.mark}", checkpoint={"epoch": 1}))
        started = subprocess.Popen(["/bin/sleep", "120"])
        (step.folder / f"{step.mark}.pid").write_text(f"{os.getpid()} {started.pid}")
        while not job.preempted or step.then == "hang":
            time.sleep(0.02)
        job.carry(Carried(external_ref=f"job-{step.mark}", checkpoint={"epoch": 2}))
        raise Preempted
    return Result(mark=f"{left.external_ref} from {left.checkpoint['epoch']}", pid=os.getpid())


async def carry_waiting(step: Step, job: Job) -> Result:
    """Do the same on the loop."""
    left = job.task.carried
    if left is None:
        await job.carry(Carried(external_ref=f"job-{step.mark}"))
        await job.carry(Carried(external_ref=f"job-{step.mark}", checkpoint={"epoch": 1}))
        (step.folder / f"{step.mark}.pid").write_text(str(os.getpid()))
        while not job.preempted or step.then == "hang":
            await asyncio.sleep(0.02)
        await job.carry(Carried(external_ref=f"job-{step.mark}", checkpoint={"epoch": 2}))
        raise Preempted
    return Result(mark=f"{left.external_ref} from {left.checkpoint['epoch']}", pid=os.getpid())


async def wait(step: Step, job: Job) -> Result:
    """Wait for a file, on the loop."""
    while step.then == "wait" and not (step.folder / "released").exists():
        await asyncio.sleep(0.05)
    return Result(mark=step.mark, pid=os.getpid())


async def start(step: Step, _: Job) -> Result:
    """Start a process in a session of its own, from the loop, and wait for it."""
    started = await asyncio.create_subprocess_exec("/bin/sleep", "120", start_new_session=True)
    (step.folder / f"{step.mark}.pid").write_text(f"{started.pid} {started.pid}")
    await started.wait()
    return Result(mark=step.mark, pid=os.getpid())


async def keep(result: Result, tx: Effects) -> dict[str, Any]:
    """Keep what work made."""
    if result.mark == "conflict":
        raise Conflict("not now")
    tx.add(f"kept {result.mark}")
    tx.used(f"file:{result.mark}")
    tx.made(f"data.version:{result.mark}", rows=1)
    return {"mark": result.mark, "pid": result.pid}


TASKS = (
    task("x.compute", Step, compute, keep),
    task("x.wait", Step, wait, keep),
    task("x.carry", Step, carry, keep),
    task("x.carry_waiting", Step, carry_waiting, keep),
    task("x.start", Step, start, keep),
)


async def main(service: str, dsn: str, servers: str, folder: str, instance: str) -> None:
    """Take tasks until killed."""
    guard.start()
    settings = settings_of(dsn, servers, Path(folder), int(instance))
    async with Database(dsn) as database:
        begin = Transactions(database, Effects)
        workers = Workers(
            service,
            settings,
            begin,
            TASKS,
            Artifacts(settings.artifacts_url),
            Channels(settings.endpoints, Token(settings.token_file)),
        )
        readers = Readers()
        readers.subscribe(*workers.subscriptions)
        consumer = Consumer(service, settings, begin, readers=readers)
        relay = Relay(database, settings, service)
        await workers.recover()
        parts = asyncio.gather(workers.run(), consumer.run(), relay.run())

        async def leave() -> None:
            consumer.stop()
            await workers.drain(2)
            relay.stop()
            parts.cancel()

        leaving: list[asyncio.Task[None]] = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: leaving.append(loop.create_task(leave())))
        with suppress(asyncio.CancelledError):
            await parts


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
