"""Takes orders: accepts and leases what is dispatched, ends what is cancelled."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from millrace.contracts.tasks import Carried, ChainCut, TaskCancelled, TaskDispatched, TaskOrder
from millrace.runtime.errors import InvalidInput
from millrace.runtime.failpoints import failpoint
from millrace.runtime.subscriptions import TaskKind
from millrace.runtime.tasks.attempts import Attempt, Place, failed, kind_for
from millrace.runtime.tasks.leases import ACCEPT, ACCEPT_NEW, CANCEL, CARRIED, CUT, WAS_CANCELLED
from millrace.runtime.transaction import Transaction


class Orders:
    """Takes the orders of one service.

    Args:
        service: Whose.
        owner: Who holds the leases.
        kinds: What work there is, by its kind.
        attempts: Those under way here.
        start: Starts leased ones.
        drop: Ends one that is not wanted any more.
    """

    def __init__(
        self,
        service: str,
        owner: str,
        kinds: Mapping[str, TaskKind],
        attempts: Mapping[Place, Attempt],
        start: Callable[[Sequence[Attempt]], None],
        drop: Callable[[Attempt], None],
    ) -> None:
        self._service, self._owner, self._kinds, self._attempts = service, owner, kinds, attempts
        self._start, self._drop = start, drop

    async def take(self, orders: Sequence[TaskOrder], tx: Transaction) -> None:
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
            leased = await self.lease(tasks, ACCEPT, tx)
            await failpoint("tasks.accepted")
            fresh = [attempt for attempt in accepted if attempt.place in leased]
            tx.on_commit(lambda: self._start(fresh))
            if len(fresh) < len(accepted):
                await self._refuse_cancelled([t for t in tasks if (t.task_id, t.attempt) not in leased], tx)
        for order in orders:
            if isinstance(order, TaskCancelled):
                await self._cancel(order, tx)
            elif isinstance(order, ChainCut):
                await tx.fetch(CUT, order.task_id, order.attempt, order.token)
                tx.on_commit(partial(self._cut, order))

    async def lease(self, tasks: Sequence[TaskDispatched], sql: str, tx: Transaction) -> set[Place]:
        """Lease attempts; return the places of those that are."""
        columns = [[getattr(t, name) for t in tasks] for name in ("task_id", "attempt", "token", "namespace", "kind")]
        columns.append([t.model_dump_json() for t in tasks])
        if tx.hopes:
            tx.write_last(ACCEPT_NEW, *columns, self._owner)
            return {(task.task_id, task.attempt) for task in tasks}
        return {(row["task_id"], row["attempt"]) for row in await tx.fetch(sql, *columns, self._owner)}

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
            tx.on_commit(partial(self._stop, order))

    def _stop(self, order: TaskCancelled) -> None:
        if (attempt := self._here(order)) is not None:
            self._drop(attempt)

    def _cut(self, order: ChainCut) -> None:
        if (attempt := self._here(order)) is not None:
            attempt.cut()

    def _here(self, order: TaskOrder) -> Attempt | None:
        attempt = self._attempts.get((order.task_id, order.attempt))
        return attempt if attempt is not None and attempt.task.token == order.token else None
