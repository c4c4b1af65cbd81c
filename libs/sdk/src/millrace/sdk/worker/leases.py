"""The tasks that a worker has leased from control: taken, done, kept alive, and told how they ended."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID, uuid4

import structlog
from millrace.contracts.rpc.control.v1 import worker_pb2 as pb
from millrace.contracts.tasks import Carried
from millrace.runtime.errors import InvalidInput, MillraceError, Overloaded, Unavailable
from millrace.runtime.subscriptions import TaskKind
from millrace.runtime.tasks.attempts import Attempt, Ended, checked, kind_for, report_of
from millrace.runtime.tasks.child import PREEMPTED
from millrace.runtime.tasks.computing import ComputingJob
from millrace.runtime.tasks.doing import Doing
from millrace.runtime.tasks.job import WaitingJob
from millrace.runtime.telemetry import span
from millrace.sdk.worker.messages import MOST_SAID, beat_of, order_of, pages, refused_of, result_of
from millrace.sdk.worker.room import Room

BEATS_EVERY_S = 5.0
AGAIN_AFTER_S = 1.0
WAITS_S = 30.0
ANSWERS_WITHIN_S = 15.0
DRAIN_S = 10.0
"""How long a worker that has to go lets its work end, or keep how far it is, seconds; then as long to tell of it."""
MOST_WAITING = 500
"""How many coroutines are under way at once; they only wait."""

if TYPE_CHECKING:
    from millrace.contracts.rpc.control.v1.worker_pb2_grpc import WorkerServiceAsyncStub

Place = tuple[UUID, int]
Asked = tuple[Attempt, Carried, asyncio.Future[None]]
T = TypeVar("T")

log = structlog.get_logger()


class Leases:
    """Takes, does and completes the tasks of one queue.

    Args:
        stub: Control.
        queue: Whose tasks.
        kinds: What is done.
        namespace: The queue's.
        worker: The worker's name, which it keeps when it is started again.
        at_once: Functions that compute at once.
    """

    def __init__(
        self,
        stub: "WorkerServiceAsyncStub",
        queue: str,
        kinds: Sequence[TaskKind],
        namespace: str,
        worker: str,
        at_once: int,
    ) -> None:
        self._stub, self._queue, self._namespace, self._worker = stub, queue, namespace, worker
        self._life = str(uuid4())
        self._kinds = {kind.kind: kind for kind in kinds}
        waits = [kind.kind for kind in kinds if inspect.iscoroutinefunction(kind.work)]
        computes = [kind.kind for kind in kinds if kind.kind not in waits]
        # What nobody here does comes along with either, and fails at once.
        self._rooms = [
            Room(most, others)
            for most, own, others in ((MOST_WAITING, waits, computes), (at_once, computes, waits))
            if own
        ]
        self._doing = Doing(queue, at_once, self._keep, lambda one: WaitingJob(one, self._keep), ComputingJob)
        self._attempts: dict[Place, Attempt] = {}
        self._places: dict[Place, Room] = {}
        self._asked: list[Asked] = []
        self._news = asyncio.Event()
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._known = False  # to control, as one that may ask

    async def run(self, leaving: asyncio.Event) -> None:
        """Go on until the worker has to go, then give back what does not end in time; outages are waited for.

        Raises:
            MillraceError: Control does not let it lease. Once it has, this is waited for too: work is under way.
        """
        try:
            async with asyncio.TaskGroup() as group:
                leasing = [group.create_task(self._lease(room)) for room in self._rooms]
                telling = [group.create_task(self._beat()), group.create_task(self._complete())]
                await leaving.wait()
                for task in leasing:
                    task.cancel()
                await self._drain()
                for task in telling:
                    task.cancel()
        except* MillraceError as errors:
            raise errors.exceptions[0] from None
        finally:
            for attempt in self._attempts.values():
                attempt.stop()

    async def _lease(self, room: Room) -> None:
        while True:
            request = pb.LeaseRequest(
                namespace=self._namespace,
                request_id=str(uuid4()),
                queue=self._queue,
                worker=self._worker,
                life=self._life,
                max_tasks=min(MOST_SAID, await room.free()),
                wait_s=WAITS_S,
                except_kinds=room.except_kinds,
            )
            # Asked again with the same id, it is given the same tasks.
            for task in await self._until_answered(lambda: self._leased(request)):  # noqa: B023 - awaited before the next
                self._begin(task, room)

    async def _leased(self, request: pb.LeaseRequest) -> Sequence[pb.LeasedTask]:
        async for response in self._stub.Lease(request, timeout=WAITS_S + ANSWERS_WITHIN_S):
            return response.tasks
        return ()

    def _begin(self, task: pb.LeasedTask, room: Room) -> None:
        order = order_of(task, self._namespace, self._queue)
        if (order.task_id, order.attempt) in self._attempts:
            return
        attempt = Attempt(order, next(iter(self._kinds.values())), None, carried=order.carried)
        room.take()
        self._attempts[attempt.place] = attempt
        self._places[attempt.place] = room
        try:
            attempt.kind = kind_for(self._queue, self._kinds, order)
        except InvalidInput as error:
            self._ended.put_nowait(Ended(attempt, 0.0, error="InvalidInput", message=str(error), retryable=False))
            return
        attempt.worker = asyncio.create_task(
            self._work(attempt, task.traceparent), name=f"{order.kind} {order.task_id}"
        )

    async def _work(self, attempt: Attempt, traceparent: str) -> None:
        with span(self._queue, attempt.task.kind, parent=traceparent):
            self._ended.put_nowait(await self._doing.do(attempt))

    def _forget(self, place: Place) -> None:
        if self._attempts.pop(place, None) is not None:
            self._places.pop(place).give()

    def _stop(self, stop: pb.Stop) -> None:
        """Stop an attempt that is no longer wanted, or no longer this worker's."""
        place = (UUID(stop.task_id), stop.attempt)
        attempt = self._attempts.get(place)
        if attempt is None or attempt.worker is None or attempt.worker.done() or attempt.worker.cancelling():
            return
        log.info("task_stopped", task_id=stop.task_id, attempt=stop.attempt, cause=stop.cause, reason=stop.reason)
        attempt.stop()
        if stop.cause == "cancelled":
            self._ended.put_nowait(Ended(attempt, 0.0, error="cancelled", message=stop.reason, retryable=False))
        else:
            self._forget(place)

    # That they go on.

    def _keep(self, attempt: Attempt, carried: Carried) -> asyncio.Future[None]:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append((attempt, carried, kept))
        self._news.set()
        return kept

    async def _beat(self) -> None:
        all_told_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), all_told_at + BEATS_EVERY_S - time.monotonic())
            self._news.clear()
            asked, self._asked = self._asked, []
            said = {attempt.place: attempt for attempt, _, _ in asked}
            if time.monotonic() >= all_told_at + BEATS_EVERY_S:
                said |= self._attempts
                all_told_at = time.monotonic()
            try:
                await self._say_alive(said, asked)
            except MillraceError as error:
                log.warning("heartbeat_failed", error=type(error).__name__, reason=str(error))
                if isinstance(error, InvalidInput):  # of one, which would spoil it for the others again
                    asked = [one for one in asked if not await self._is_refused(one)]
                self._asked = asked + self._asked
                all_told_at -= BEATS_EVERY_S
                await asyncio.sleep(AGAIN_AFTER_S)
                self._news.set()

    async def _is_refused(self, asked: Asked) -> bool:
        """Return whether control does not take what an attempt leaves; whoever asked for it is told why."""
        attempt, _, kept = asked
        try:
            await self._say_alive({attempt.place: attempt}, [asked])
        except InvalidInput as error:
            if not kept.done():
                kept.set_exception(error)
        except MillraceError:
            return False
        return kept.done()

    async def _say_alive(self, attempts: Mapping[Place, Attempt], asked: Sequence[Asked]) -> None:
        carried = {attempt.place: left for attempt, left, _ in asked}
        lost: set[Place] = set()
        for page in pages(beat_of(attempt, carried.get(place)) for place, attempt in attempts.items()):
            request = pb.HeartbeatRequest(namespace=self._namespace, heartbeats=page)
            response = await self._stub.Heartbeat(request, timeout=ANSWERS_WITHIN_S)
            for stop in response.stops:
                if stop.cause == "lost":
                    lost.add((UUID(stop.task_id), stop.attempt))
                self._stop(stop)
        for attempt, left, kept in asked:
            if attempt.place in lost:
                kept.cancel()
            else:
                attempt.carried = left
                if not kept.done():
                    kept.set_result(None)

    # How they ended.

    async def _complete(self) -> None:
        while True:
            some = [await self._ended.get()]
            while not self._ended.empty() and len(some) < MOST_SAID:
                some.append(self._ended.get_nowait())
            await self._say_ended(some)
            for ended in some:
                self._forget(ended.attempt.place)
                self._ended.task_done()

    async def _say_ended(self, some: Sequence[Ended]) -> None:
        for page in pages(result_of(report_of(self._queue, checked(ended))) for ended in some):
            await self._say_page(page)

    async def _say_page(self, page: Sequence[pb.Result]) -> None:
        request = pb.CompleteRequest(namespace=self._namespace, results=page)
        try:
            response = await self._until_answered(partial(self._stub.Complete, request, timeout=ANSWERS_WITHIN_S))
        except InvalidInput as error:
            if len(page) > 1:  # one of them spoils it for the others
                for one in page:
                    await self._say_page([one])
            elif page[0].WhichOneof("end") == "success":
                await self._say_page([refused_of(page[0], str(error))])  # else it would be done again, for nothing
            else:
                log.warning("result_not_taken", task_id=page[0].task_id, reason=str(error))
            return
        for refused in response.refused:
            log.warning("result_refused", task_id=refused.task_id, attempt=refused.attempt, reason=refused.message)

    async def _drain(self) -> None:
        for attempt in self._attempts.values():
            attempt.preempt()
        workers = [attempt.worker for attempt in self._attempts.values() if attempt.worker is not None]
        if workers:
            await asyncio.wait(workers, timeout=DRAIN_S)
        for attempt in list(self._attempts.values()):
            if attempt.worker is not None and not attempt.worker.done():
                attempt.stop()
                told = "the worker had to go before the work was done"
                self._ended.put_nowait(Ended(attempt, 0.0, error=PREEMPTED, message=told))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.join(), DRAIN_S)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Return control's answer; its being away, or having too much to do, is waited for."""
        while True:
            try:
                answer = await ask()
            except InvalidInput:
                raise
            except MillraceError as error:
                if not self._known and not isinstance(error, Unavailable | Overloaded):
                    raise
                log.warning("control_does_not_answer", error=type(error).__name__, reason=str(error))
                await asyncio.sleep(max(AGAIN_AFTER_S, getattr(error, "retry_after_s", 0.0)))
            else:
                self._known = True
                return answer
