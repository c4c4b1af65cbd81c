"""A team's FastStream app does the tasks of its queue: it includes a `TaskRouter`."""

import asyncio
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from faststream.kafka import KafkaMessage, KafkaRouter
from faststream.middlewares import AckPolicy
from millrace.contracts.event import Event
from millrace.contracts.tasks import (
    Carried,
    TaskCancelled,
    TaskDispatched,
    TaskOrder,
    TaskReport,
    TaskStarted,
)
from millrace.runtime.envelope import Envelope, UnknownTypeError, headers_of, read_envelope, read_event, read_headers
from millrace.runtime.errors import InvalidInput
from millrace.runtime.ids import new_id
from millrace.runtime.tasks import guard
from millrace.runtime.tasks.attempts import Attempt, Ended, about, checked, failed, kind_for, progressed, report_of
from millrace.runtime.tasks.child import PREEMPTED, preload
from millrace.runtime.tasks.computing import ComputingJob
from millrace.runtime.tasks.doing import Doing
from millrace.runtime.tasks.job import WaitingJob
from millrace.runtime.telemetry import span
from millrace.sdk.worker.bodies import kinds_of
from millrace.sdk.worker.room import Room

__all__ = ["TaskRouter"]

TOLD_EVERY_S = 5.0
AGAIN_AFTER_S = 1.0
LEAVES_WITHIN_S = 10.0

Place = tuple[UUID, int]

log = structlog.get_logger()


class TaskRouter(KafkaRouter):
    """Takes the tasks of a queue over the app's own broker, and does them with the `@task` functions of a package.

    An order is acknowledged once control has been told that it has begun, and begins only then: before that it is
    delivered again, after that control waits for word of it, and has the task done again when there is none. So no
    partition is held for as long as a task takes, and no attempt is done a second time.

    The app calls `leave` when it shuts down: `FastStream(broker, on_shutdown=[router.leave])`.
    """

    def __init__(self, queue: str, package: str, *, at_once: int = 2, most: int = 500) -> None:
        """Make a router.

        Args:
            queue: Whose tasks; it is there, with its topics (`millrace.sdk.client.Client.apply_queue`).
            package: Where the functions are.
            at_once: Functions that compute at once.
            most: Tasks under way at once, those that wait included; the rest waits in Kafka.

        Raises:
            NotFound: There is no such package, or no function in it is for the queue.
            InvalidInput: Two of its functions are for one kind.
        """
        super().__init__()
        self._queue = queue
        self._kinds = {row.kind: row for row in kinds_of(package, queue)}
        guard.start()
        preload(sorted({kind.work.func.__module__ for kind in self._kinds.values() if hasattr(kind.work, "func")}))
        self._room = Room(most, ())
        self._doing = Doing(queue, at_once, self._keep, lambda one: WaitingJob(one, self._keep), ComputingJob)
        self._attempts: dict[Place, Attempt] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._telling: asyncio.Task[None] | None = None
        self._leaving = False
        self._reports = self.publisher(f"{queue}.tasks")

        async def take(message: KafkaMessage) -> None:
            await self._take(message)

        self.subscriber(
            f"control.tasks.{queue}", group_id=queue, auto_offset_reset="earliest", ack_policy=AckPolicy.MANUAL
        )(take)

    async def leave(self) -> None:
        """Tell all work that it has to go, wait for it for 10 s at most, and give back what has not ended."""
        self._leaving = True
        for attempt in self._attempts.values():
            attempt.preempt()
        if workers := [attempt.worker for attempt in self._attempts.values() if attempt.worker is not None]:
            await asyncio.wait(workers, timeout=LEAVES_WITHIN_S)
        left = [attempt for attempt in self._attempts.values() if attempt.worker and not attempt.worker.done()]
        for attempt in left:
            attempt.stop()
            await self._say_ended(Ended(attempt, 0.0, error=PREEMPTED, message="the worker had to go"))
        for task in (*self._tasks, *((self._telling,) if self._telling else ())):
            task.cancel()

    # Orders.

    async def _take(self, message: KafkaMessage) -> None:
        if self._leaving:
            return  # not acknowledged, so that it is delivered to who comes next
        record: Any = message.raw_message
        try:
            envelope = read_envelope(read_headers(record.headers))
            order = read_event(envelope, record.value)
        except (InvalidInput, UnknownTypeError) as error:
            log.warning("order_not_read", topic=record.topic, offset=record.offset, reason=str(error))
            await message.ack()
            return
        attempt = await self._accepted(order, envelope)
        await message.ack()
        if isinstance(order, TaskCancelled):
            await self._cancel(order, envelope)
        elif attempt is not None and attempt.place not in self._attempts:
            self._room.take()
            self._attempts[attempt.place] = attempt
            attempt.worker = self._run(self._work(attempt))
            if self._telling is None:
                self._telling = asyncio.create_task(self._tell())

    async def _accepted(self, order: Event, envelope: Envelope) -> Attempt | None:
        """Return the attempt that is to begin, once control knows."""
        if not isinstance(order, TaskDispatched):
            return None
        try:
            kind = kind_for(self._queue, self._kinds, order)
        except InvalidInput as error:
            await self._say(failed(self._queue, order, "InvalidInput", str(error), retryable=False), envelope)
            return None
        await self._room.free()
        attempt = Attempt(order, kind, envelope, carried=order.carried, announced=True, told=time.monotonic())
        await self._say(TaskStarted(**about(self._queue, order)), envelope)
        return attempt

    async def _cancel(self, order: TaskOrder, envelope: Envelope) -> None:
        attempt = self._attempts.get((order.task_id, order.attempt))
        if attempt is None or attempt.task.token != order.token or attempt.worker is None:
            return
        attempt.stop()
        await self._say_ended(Ended(attempt, 0.0, error="cancelled", message="cancelled", retryable=False), envelope)

    # Work.

    async def _work(self, attempt: Attempt) -> None:
        try:
            parent = attempt.envelope.traceparent if attempt.envelope else ""
            with span(self._queue, attempt.task.kind, parent=parent):
                ended = await self._doing.do(attempt)
            await self._say_ended(checked(ended))
        finally:
            self._attempts.pop(attempt.place, None)
            self._room.give()

    def _keep(self, attempt: Attempt, carried: Carried) -> asyncio.Future[None]:
        """Keep what an attempt leaves: it is kept once it is in Kafka, before whatever is said of the attempt later."""

        async def keep() -> None:
            await self._say(progressed(self._queue, attempt, carried), attempt.envelope)
            attempt.carried = carried

        return self._run(keep())

    async def _tell(self) -> None:
        """Say now and then that attempts go on: to control, silence means that the worker is gone."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for attempt in [one for one in self._attempts.values() if now - one.told > TOLD_EVERY_S]:
                attempt.told = now
                await self._say(progressed(self._queue, attempt), attempt.envelope)

    async def _say_ended(self, ended: Ended, cause: Envelope | None = None) -> None:
        await self._say(report_of(self._queue, ended), cause or ended.attempt.envelope)

    async def _say(self, report: TaskReport, cause: Envelope | None) -> None:
        """Publish a report; a broker that does not answer is waited for."""
        traceparent = cause.traceparent if cause else ""
        event_id = new_id()
        headers = headers_of(report, event_id, datetime.now(UTC), cause.event_id if cause else None, traceparent)
        while True:
            try:
                await self._reports.publish(
                    report.model_dump_json().encode(), key=report.key().encode(), headers=headers
                )
            except Exception as error:  # noqa: BLE001 - whatever its client raises, it is said again: the id is the same
                log.warning("report_not_published", task_id=str(report.task_id), reason=type(error).__name__)
                await asyncio.sleep(AGAIN_AFTER_S)
            else:
                return

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
