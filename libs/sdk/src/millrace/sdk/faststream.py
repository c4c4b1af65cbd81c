"""A team's FastStream app does the tasks of its queue: it includes a `TaskRouter`."""

import asyncio
import inspect
import time
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import suppress
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
from millrace.runtime.subscriptions import TaskKind
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
WAITS_S = 1.0
"""How long an order is held while there is no place for it, seconds; then it is read again, so that others are read."""
MOST_REMEMBERED = 20_000

Place = tuple[UUID, int]

log = structlog.get_logger()


class TaskRouter(KafkaRouter):
    """Takes the tasks of a queue over the app's own broker, and does them with the `@task` functions of a package.

    An order waits in Kafka until there is a place for it. It is acknowledged once control has been told that it has
    begun, and begins only then: before that it is delivered again, after that control waits for word of it, and has the
    task done again when there is none. So no partition is held for as long as a task takes, and no attempt is done a
    second time: what is delivered again after its end is known. Cancels overtake the orders that wait.

    The app calls `leave` when it shuts down: `FastStream(broker, on_shutdown=[router.leave])`.
    """

    def __init__(self, queue: str, package: str, *, at_once: int = 2, most: int = 500) -> None:
        """Make a router.

        Args:
            queue: Whose tasks; it is there, with its topics (`millrace.sdk.client.Client.apply_queue`).
            package: Where the functions are.
            at_once: Functions that compute at once.
            most: Coroutines under way at once.

        Raises:
            NotFound: There is no such package, or no function in it is for the queue.
            InvalidInput: Two of its functions are for one kind.
        """
        super().__init__()
        self._queue = queue
        self._kinds = {row.kind: row for row in kinds_of(package, queue)}
        guard.start()
        preload(sorted({kind.work.func.__module__ for kind in self._kinds.values() if hasattr(kind.work, "func")}))
        self._waiting, self._computing = Room(most, ()), Room(at_once, ())
        self._doing = Doing(queue, at_once, self._keep, lambda one: WaitingJob(one, self._keep), ComputingJob)
        self._attempts: dict[Place, Attempt] = {}
        self._over: OrderedDict[UUID, bool] = OrderedDict()  # by token: whether it was cancelled before it came
        self._tasks: set[asyncio.Task[Any]] = set()
        self._telling: asyncio.Task[None] | None = None
        self._leaving = False
        self._reports = self.publisher(f"{queue}.tasks")

        async def take(message: KafkaMessage) -> None:
            await self._take(message)

        self.subscriber(
            f"control.tasks.{queue}", group_id=queue, auto_offset_reset="earliest", ack_policy=AckPolicy.MANUAL
        )(take)

        async def overhear(message: KafkaMessage) -> None:
            await self._overhear(message)

        # Of no group, so that it hears of all partitions, and of what stands behind orders that wait.
        self.subscriber(f"control.tasks.{queue}")(overhear)

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
        match _read(message):
            case TaskDispatched() as order, envelope:
                await self._dispatched(order, envelope, message)
                return
            case TaskCancelled() as order, envelope:
                await self._cancel(order, envelope)
        await message.ack()

    async def _overhear(self, message: KafkaMessage) -> None:
        match _read(message):
            case TaskCancelled() as order, envelope:
                await self._cancel(order, envelope)

    async def _dispatched(self, order: TaskDispatched, envelope: Envelope, message: KafkaMessage) -> None:
        """Begin what is ordered, once there is a place for it and control knows; unless that was done before."""
        if (order.task_id, order.attempt) in self._attempts or order.token in self._over:
            if self._over.get(order.token):
                why = "cancelled before it began"
                await self._say(failed(self._queue, order, "cancelled", why, retryable=False), envelope)
            await message.ack()
            return
        try:
            kind = kind_for(self._queue, self._kinds, order)
        except InvalidInput as error:
            await self._say(failed(self._queue, order, "InvalidInput", str(error), retryable=False), envelope)
            await message.ack()
            return
        room = self._room_for(kind)
        with suppress(TimeoutError):
            await asyncio.wait_for(room.free(), WAITS_S)
        if room.full or order.token in self._over:
            await message.nack()
        else:
            await self._begin(Attempt(order, kind, envelope, carried=order.carried), room, envelope, message)

    async def _begin(self, attempt: Attempt, room: Room, envelope: Envelope, message: KafkaMessage) -> None:
        room.take()
        self._attempts[attempt.place] = attempt
        try:
            attempt.announced, attempt.told = True, time.monotonic()
            await self._say(TaskStarted(**about(self._queue, attempt.task)), envelope)
            await message.ack()
            if not attempt.stopped:
                attempt.worker = self._run(self._work(attempt))
                # One that is cancelled before its first step takes none at all.
                attempt.worker.add_done_callback(lambda _: self._forget(attempt, room))
        finally:
            if attempt.worker is None:
                self._forget(attempt, room)
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    def _forget(self, attempt: Attempt, room: Room) -> None:
        del self._attempts[attempt.place]
        room.give()

    def _room_for(self, kind: TaskKind) -> Room:
        return self._waiting if inspect.iscoroutinefunction(kind.work) else self._computing

    async def _cancel(self, order: TaskOrder, envelope: Envelope) -> None:
        if order.token in self._over:
            return
        attempt = self._attempts.get((order.task_id, order.attempt))
        if attempt is not None and attempt.task.token == order.token:
            self._note(order.token)
            attempt.stop()
            end = Ended(attempt, 0.0, error="cancelled", message="cancelled", retryable=False)
            await self._say_ended(end, envelope)
        else:
            self._note(order.token, unbegun=True)

    def _note(self, token: UUID, *, unbegun: bool = False) -> None:
        """Remember that an attempt is over."""
        self._over[token] = unbegun
        if len(self._over) > MOST_REMEMBERED:
            self._over.popitem(last=False)

    # Work.

    async def _work(self, attempt: Attempt) -> None:
        parent = attempt.envelope.traceparent if attempt.envelope else ""
        with span(self._queue, attempt.task.kind, parent=parent):
            ended = await self._doing.do(attempt)
        if not attempt.stopped:
            self._note(attempt.task.token)
            await self._say_ended(checked(ended))

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


def _read(message: KafkaMessage) -> tuple[Event, Envelope] | None:
    """Return what was ordered; None where that cannot be read, which is logged."""
    record: Any = message.raw_message
    try:
        envelope = read_envelope(read_headers(record.headers))
        return read_event(envelope, record.value), envelope
    except (InvalidInput, UnknownTypeError) as error:
        log.warning("order_not_read", topic=record.topic, offset=record.offset, reason=str(error))
        return None
