"""A worker while it runs that leases its tasks from control: it has neither Kafka nor a database."""

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import structlog
from millrace.contracts.rpc.control.v1.worker_pb2_grpc import WorkerServiceStub
from millrace.runtime import telemetry
from millrace.runtime.subscriptions import TaskKind
from millrace.runtime.tasks import guard
from millrace.runtime.tasks.child import preload
from millrace.sdk.connection import Connection
from millrace.sdk.worker.leases import Leases

log = structlog.get_logger()


async def lease(
    queue: str, kinds: Sequence[TaskKind], place: Connection, namespace: str, *, at_once: int = 2, instance: int = 0
) -> None:
    """Do the tasks of a queue until SIGTERM; then let work end, and give back the rest.

    Args:
        queue: Whose workers lease its tasks.
        kinds: What is done, as `kinds_of` gives it.
        place: Where control answers.
        namespace: The queue's.
        at_once: Functions that compute at once.
        instance: Its ordinal among the workers of one machine.

    Raises:
        MillraceError: Control does not let it lease tasks of the queue; being away for a while is no reason to end.
    """
    telemetry.start(queue)
    guard.start()
    preload(sorted({getattr(kind.work, "func", kind.work).__module__ for kind in kinds if hasattr(kind.work, "func")}))
    async with place.channels() as channels:
        leases = Leases(
            WorkerServiceStub(channels.to("control")),
            queue,
            kinds,
            namespace,
            f"{socket.gethostname()}-{instance}",
            at_once,
        )
        leaving = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(ValueError, RuntimeError):  # not in the main thread: whoever runs it there cancels
                loop.add_signal_handler(number, _leave_or_exit, leaving)
        log.info("worker_started", queue=queue, kinds=[kind.kind for kind in kinds])
        await leases.run(leaving)
        log.info("worker_stopped", queue=queue)


def _leave_or_exit(leaving: asyncio.Event) -> None:
    if leaving.is_set():
        sys.exit(1)
    leaving.set()
