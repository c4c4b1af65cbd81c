"""Accepts, does and finishes the tasks of one service."""

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import structlog
from millrace.contracts.tasks import TaskDispatched, TaskOrder
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
    Place,
    check_size,
    failed,
    kind_for,
    raised,
    report_lineage,
    report_of,
)
from millrace.runtime.tasks.chains import order_after
from millrace.runtime.tasks.child import PREEMPTED
from millrace.runtime.tasks.computing import ComputeJob
from millrace.runtime.tasks.doing import Doing, LoopJob
from millrace.runtime.tasks.leases import (
    BEAT,
    END,
    END_FORMER_LIFE,
    END_LAPSED,
    GO_ON,
)
from millrace.runtime.tasks.orders import Orders
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
        self._attempts: dict[Place, Attempt] = {}
        self._telling = Telling(service, self._owner, begin, self._attempts, self._drop)
        self._doing = Doing(
            service,
            settings.concurrent_tasks,
            self._telling.keep,
            lambda attempt: LoopJob(attempt, self._telling.keep, artifacts, channels, begin),
            partial(ComputeJob, service=service, settings=settings, store=begin.store),
        )
        self._orders = Orders(service, self._owner, self._kinds, self._attempts, self._start, self._drop)
        self._ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._hope = Hope(service)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the row by which orders come in."""
        row = on_batch(TaskOrder, self._orders.take, start="earliest", topics=[f"control.tasks.{self._service}"])
        return (replace(row, full=self.full),)

    def full(self) -> bool:
        """Return whether so much is accepted that the rest has to wait in Kafka."""
        return len(self._attempts) >= MOST_ACCEPTED

    def _start(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            if (other := self._attempts.get(attempt.place)) is not None:
                self._drop(other)  # begun along a chain that does not count: its place is taken
            self._attempts[attempt.place] = attempt
            TASKS_RUNNING.labels(attempt.task.kind).inc()
            attempt.worker = asyncio.create_task(
                self._work(attempt), name=f"{attempt.task.kind} {attempt.task.task_id}"
            )

    def _drop(self, attempt: Attempt) -> None:
        self._forget(attempt)
        attempt.stop()

    def _forget(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.place) is attempt:
            del self._attempts[attempt.place]
            TASKS_RUNNING.labels(attempt.task.kind).dec()

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
                attempt.stop()
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
            attempt.stop()
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
            self._forget(ended.attempt)

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
        # Not mine: cancelled, lapsed, or finished before an outage hid it.
        kept = [await self._keep(ended, tx) for ended in some if ended.attempt.place in mine]
        begun = await self._go_on(kept, tx)
        for ended in kept:
            tx.handling(None, ended.attempt.envelope)
            tx.emit(report_of(self._service, ended, went_on=ended.attempt in begun))
        tx.handling(None, None)
        await failpoint("tasks.finishing")

    async def _keep(self, ended: Ended, tx: Any) -> Ended:  # noqa: ANN401 - the service's own Store
        """Keep the result of an attempt; return how it has ended, with what it hands on."""
        if ended.error:
            return ended
        attempt, task = ended.attempt, ended.attempt.task
        tx.handling(None, attempt.envelope)
        tx.used_refs, tx.made_refs, tx.task = [], {}, task
        ended = Ended(attempt, ended.cpu_s, result=await attempt.kind.finish(ended.result, tx))
        check_size(task, ended.result)  # which raises: with an output that cannot travel, no effect counts
        report_lineage(self._service, attempt, tx)
        return ended

    async def _go_on(self, kept: Sequence[Ended], tx: Any) -> Collection[Attempt]:  # noqa: ANN401 - likewise
        """Lease what is chained to attempts that have succeeded; return those of which it is."""
        nexts: dict[Attempt, Attempt] = {}
        for ended in kept:
            attempt = ended.attempt
            if ended.error or attempt.preempted or not attempt.task.chain:
                continue
            order = order_after(attempt.task, ended.result, tx.now)
            with suppress(InvalidInput):  # which control is told once it orders that
                if order is not None:
                    nexts[attempt] = Attempt(order, kind_for(self._service, self._kinds, order), attempt.envelope)
        if not nexts:
            return ()
        leased = await self._orders.lease([one.task for one in nexts.values()], GO_ON, tx)
        begun = {attempt: one for attempt, one in nexts.items() if one.place in leased}
        tx.on_commit(lambda: self._start([*begun.values()]))
        return begun.keys()

    async def _fail_finish(self, ended: Ended, error: Exception) -> None:
        if not isinstance(error, MillraceError):
            log.error("task_finish_failed", kind=ended.attempt.task.kind, exc_info=error)
        await self._finish([raised(ended.attempt, ended.cpu_s, error)])

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            held = dict(self._attempts)
            with suppress(MillraceError, OSError):
                async with self._begin() as tx:
                    kept = await tx.fetch(BEAT, [p[0] for p in held], [p[1] for p in held], self._owner) if held else []
                    await failpoint("tasks.beat")
                    if lapsed := await tx.fetch(END_LAPSED):
                        self._report_lost(lapsed, tx)
                        await failpoint("tasks.lapsed")
                chained = {(row["task_id"], row["attempt"]): row["chained"] for row in kept}
                for place, attempt in held.items():
                    if place not in chained:
                        self._drop(attempt)  # the lease is no longer ours: somebody else may be at it
                    elif attempt.task.chain and not chained[place]:
                        attempt.cut()

    def _report_lost(self, rows: Sequence[Any], tx: Transaction, error: str = "lost") -> None:
        for row in rows:
            task = TaskDispatched.model_validate(row["dispatched"])
            why = f"the worker of attempt {task.attempt} is gone"
            tx.emit(failed(self._service, task, error, why, retryable=True, carried=task.carried))
