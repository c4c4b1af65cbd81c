"""Accepts, does and finishes the tasks of one service."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from millrace.contracts.tasks import Carried, TaskCancelled, TaskDispatched, TaskOrder
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.client import Channels
from millrace.runtime.database import Transactions
from millrace.runtime.errors import InvalidInput, MillraceError
from millrace.runtime.failpoints import failpoint
from millrace.runtime.hope import Hope
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.subscriptions import Subscription, TaskKind, on_batch
from millrace.runtime.tasks.attempts import (
    Attempt,
    Ended,
    check_size,
    failed,
    kind_for,
    raised,
    report_lineage,
    report_of,
)
from millrace.runtime.tasks.child import PREEMPTED
from millrace.runtime.tasks.computing import ComputeJob
from millrace.runtime.tasks.doing import Doing, LoopJob
from millrace.runtime.tasks.leases import (
    ACCEPT,
    ACCEPT_NEW,
    BEAT,
    CANCEL,
    CARRIED,
    END,
    END_FORMER_LIFE,
    END_LAPSED,
    WAS_CANCELLED,
)
from millrace.runtime.tasks.telling import Telling
from millrace.runtime.telemetry import NAMESPACE, RUN_ID, TASK_DURATION, TASK_ID, TASKS_RUNNING, span
from millrace.runtime.traceparent import traceparent_of
from millrace.runtime.transaction import Transaction

HEARTBEAT_S = 3.0
MAX_FINISHES = 200
MOST_ACCEPTED = 2000

log = structlog.get_logger()


class Workers:
    """Accepts, does and finishes the tasks of one service."""

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        begin: Transactions[Any],
        kinds: Sequence[TaskKind],
        artifacts: Artifacts,
        channels: Channels,
    ) -> None:
        self._service = service
        self._owner = f"{service}-{settings.instance}"
        self._begin = begin
        self._kinds = {kind.kind: kind for kind in kinds}
        self._attempts: dict[tuple[UUID, int], Attempt] = {}
        self._telling = Telling(service, self._owner, begin, self._attempts, self._drop)
        self._doing = Doing(
            service,
            settings.concurrent_tasks,
            self._telling.keep,
            lambda attempt: LoopJob(attempt, self._telling.keep, artifacts, channels, begin),
            partial(ComputeJob, service=service, settings=settings, store=begin.store),
        )
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._hope = Hope(service)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the row by which orders come in."""
        row = on_batch(TaskOrder, self.take_orders, start="earliest", topics=[f"control.tasks.{self._service}"])
        return (replace(row, full=self.full),)

    def full(self) -> bool:
        """Return whether so much is accepted that the rest has to wait in Kafka."""
        return len(self._attempts) >= MOST_ACCEPTED

    async def take_orders(self, orders: Sequence[TaskOrder], tx: Transaction) -> None:
        """Accept and lease what is dispatched; end what is cancelled."""
        accepted: list[Attempt] = []
        for order in orders:
            if isinstance(order, TaskDispatched):
                try:
                    kind = kind_for(self._service, self._kinds, order)
                    accepted.append(Attempt(order, kind, tx.envelope_of(order)))
                except InvalidInput as error:
                    tx.emit(failed(self._service, order, "InvalidInput", str(error), retryable=False), cause=order)
        if accepted:
            await self._take_over(accepted, tx)
            tasks = [attempt.task for attempt in accepted]
            columns = [
                [getattr(t, name) for t in tasks] for name in ("task_id", "attempt", "token", "namespace", "kind")
            ]
            columns.append([t.model_dump_json() for t in tasks])
            if tx.hopes:
                leased = {attempt.place for attempt in accepted}
                tx.write_last(ACCEPT_NEW, *columns, self._owner)
            else:
                rows = await tx.fetch(ACCEPT, *columns, self._owner)
                leased = {(row["task_id"], row["attempt"]) for row in rows}
            await failpoint("tasks.accepted")
            fresh = [attempt for attempt in accepted if attempt.place in leased]
            tx.on_commit(lambda: self._start(fresh))
            if len(fresh) < len(accepted):
                await self._refuse_cancelled([t for t in tasks if (t.task_id, t.attempt) not in leased], tx)
        for order in orders:
            if isinstance(order, TaskCancelled):
                await self._cancel(order, tx)

    async def _take_over(self, accepted: Sequence[Attempt], tx: Transaction) -> None:
        """Give attempts what the ones before them have left here."""
        again = [attempt for attempt in accepted if attempt.task.attempt > 1]
        if again:
            places = [[a.task.task_id for a in again], [a.task.attempt for a in again]]
            left = {row["task_id"]: row["carried"] for row in await tx.fetch(CARRIED, *places)}
            for attempt in again:
                if (carried := left.get(attempt.task.task_id)) is not None:
                    attempt.task = attempt.task.model_copy(update={"carried": Carried.model_validate(carried)})
        for attempt in accepted:
            attempt.carried = attempt.task.carried

    async def _refuse_cancelled(self, tasks: Sequence[TaskDispatched], tx: Transaction) -> None:
        for task in tasks:
            if await tx.fetch(WAS_CANCELLED, task.task_id, task.attempt):
                tx.emit(
                    failed(self._service, task, "cancelled", "cancelled before it began", retryable=False), cause=task
                )

    async def _cancel(self, order: TaskCancelled, tx: Transaction) -> None:
        rows = await tx.fetch(CANCEL, order.task_id, order.attempt, order.token, order.namespace)
        await failpoint("tasks.cancelled", order.task_id)
        if rows and rows[0]["kind"]:
            task = TaskDispatched.model_validate(rows[0]["dispatched"])
            tx.emit(failed(self._service, task, "cancelled", order.reason or "cancelled", retryable=False), cause=order)
            tx.on_commit(lambda: self._drop((order.task_id, order.attempt)))

    def _start(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self._attempts[attempt.place] = attempt
            TASKS_RUNNING.labels(attempt.task.kind).inc()
            attempt.worker = asyncio.create_task(
                self._work(attempt), name=f"{attempt.task.kind} {attempt.task.task_id}"
            )

    def _drop(self, place: tuple[UUID, int]) -> None:
        attempt = self._forget(place)
        if attempt and attempt.worker:
            attempt.worker.cancel()

    def _forget(self, place: tuple[UUID, int]) -> Attempt | None:
        attempt = self._attempts.pop(place, None)
        if attempt:
            TASKS_RUNNING.labels(attempt.task.kind).dec()
        return attempt

    async def _work(self, attempt: Attempt) -> None:
        task, envelope = attempt.task, attempt.envelope
        about = {NAMESPACE: task.namespace, RUN_ID: str(task.run_id), TASK_ID: str(task.task_id)}
        with span(self._service, task.kind, parent=envelope.traceparent if envelope else "", attributes=about) as made:
            traceparent = traceparent_of(made.get_span_context())
            if envelope and traceparent != envelope.traceparent:
                attempt.envelope = replace(envelope, traceparent=traceparent)
            await failpoint("tasks.started", task.task_id)
            ended = await self._doing.do(attempt)
            await failpoint("tasks.worked", task.task_id)
        outcome = ended.error or "succeeded"
        TASK_DURATION.labels(task.kind, outcome).observe(time.monotonic() - attempt.accepted)
        self._ended.put_nowait(ended)

    async def run(self) -> None:
        """Finish what ends, in groups, and keep the leases alive, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._finish_all())
            group.create_task(self._keep_leases())
            group.create_task(self._telling.run())

    async def recover(self) -> None:
        """Report the leases of this process's former life as lost; before anything is accepted."""
        await self._end_leases("lost")

    def preempt(self) -> None:
        """Tell all work that the worker has to go; what has not begun goes back at once."""
        for attempt in [one for one in self._attempts.values() if not one.preempted]:
            attempt.preempt()
            if attempt.begun is None and attempt.worker is not None:
                attempt.worker.cancel()
                self._ended.put_nowait(Ended(attempt, 0.0, error=PREEMPTED, message="the worker has to go"))

    async def drain(self, seconds: float) -> None:
        """Let work in flight end, as far as it does in time; the rest is reported as preempted."""
        self.preempt()
        workers = [attempt.worker for attempt in self._attempts.values() if attempt.worker]
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if workers:
                    await asyncio.wait(workers)
                await self._ended.join()
        for attempt in list(self._attempts.values()):
            if attempt.worker:
                attempt.worker.cancel()
        with suppress(MillraceError):
            await self._end_leases(PREEMPTED)

    async def _end_leases(self, error: str) -> None:
        async with self._begin() as tx:
            self._report_lost(await tx.fetch(END_FORMER_LIFE, self._owner), tx, error)
            await failpoint("tasks.recovered")

    async def _finish_all(self) -> None:
        while True:
            some = [await self._ended.get()]
            while not self._ended.empty() and len(some) < MAX_FINISHES:
                some.append(self._ended.get_nowait())
            try:
                await settle(some, self._finish, self._fail_finish, self._begin.database)
            except OutageError:
                # What was settled is known by its row; the rest is finished when the database is back.
                for ended in some:
                    self._ended.put_nowait(ended)
                await asyncio.sleep(0.5)
            for _ in some:
                self._ended.task_done()

    async def _finish(self, some: Sequence[Ended]) -> None:
        await self._hope.do(self._begin, partial(self._finish_in, some))
        await failpoint("tasks.finished")
        for ended in some:
            self._forget(ended.attempt.place)

    async def _finish_in(self, some: Sequence[Ended], tx: Any) -> None:  # noqa: ANN401 - the service's own Store
        tasks = [ended.attempt.task for ended in some]
        columns = [[getattr(task, name) for task in tasks] for name in ("task_id", "attempt", "token")]
        columns.append([not ended.error for ended in some])
        if tx.hopes:
            mine = {ended.attempt.place for ended in some}
            tx.hope(END, *columns, rows=len(some))
        else:
            mine = {(row["task_id"], row["attempt"]) for row in await tx.fetch(END, *columns)}
        await failpoint("tasks.ended")
        for ended in some:
            # Not mine: cancelled, lapsed, or finished before an outage hid it.
            if ended.attempt.place in mine:
                await self._say(ended, tx)
        await failpoint("tasks.finishing")

    async def _say(self, ended: Ended, tx: Any) -> None:  # noqa: ANN401 - the service's own Store
        attempt, task = ended.attempt, ended.attempt.task
        tx.handling(None, attempt.envelope)
        tx.used_refs, tx.made_refs = [], {}
        if not ended.error:
            tx.task = task
            ended = Ended(attempt, ended.cpu_s, result=await attempt.kind.finish(ended.result, tx))
            check_size(task, ended.result)  # which raises: with an output that cannot travel, no effect counts
        tx.emit(report_of(self._service, ended))
        if not ended.error:
            report_lineage(self._service, attempt, tx)
        tx.handling(None, None)

    async def _fail_finish(self, ended: Ended, error: Exception) -> None:
        if not isinstance(error, MillraceError):
            log.error("task_finish_failed", kind=ended.attempt.task.kind, exc_info=error)
        await self._finish([raised(ended.attempt, ended.cpu_s, error)])

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            places = list(self._attempts)
            with suppress(MillraceError, OSError):
                async with self._begin() as tx:
                    kept = (
                        await tx.fetch(BEAT, [p[0] for p in places], [p[1] for p in places], self._owner)
                        if places
                        else []
                    )
                    await failpoint("tasks.beat")
                    if lapsed := await tx.fetch(END_LAPSED):
                        self._report_lost(lapsed, tx)
                        await failpoint("tasks.lapsed")
                # A lease that is no longer ours ends its work: somebody else may be at it.
                for place in set(places) - {(row["task_id"], row["attempt"]) for row in kept}:
                    self._drop(place)

    def _report_lost(self, rows: Sequence[Any], tx: Transaction, error: str = "lost") -> None:
        for row in rows:
            task = TaskDispatched.model_validate(row["dispatched"])
            why = f"the worker of attempt {task.attempt} is gone"
            tx.emit(failed(self._service, task, error, why, retryable=True, carried=task.carried))
