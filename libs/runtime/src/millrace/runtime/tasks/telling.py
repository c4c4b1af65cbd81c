"""What is kept and told of attempts while they go on: what they leave to the next one, and how far they are."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from millrace.contracts.event import Event
from millrace.contracts.tasks import Carried, TaskStarted
from millrace.runtime.batches import OutageError, settle
from millrace.runtime.database import Transactions
from millrace.runtime.errors import MillraceError
from millrace.runtime.failpoints import failpoint
from millrace.runtime.tasks.attempts import Attempt, Place, about, progressed
from millrace.runtime.tasks.leases import CARRY

STARTED_AFTER_S = 1.0
PROGRESS_EVERY_S = 5.0
MAX_KEPT = 100
AGAIN_AFTER_S = 0.5

Asked = tuple[Attempt, Carried, asyncio.Future[None]]

log = structlog.get_logger()


class Telling:
    """Keeps what attempts leave to the next ones, in groups, and tells now and then how far they are.

    Args:
        service: Whose attempts.
        owner: Who holds their leases.
        begin: Opens transactions.
        attempts: Those under way.
        drop: Ends one whose lease is no longer held.
    """

    def __init__(
        self,
        service: str,
        owner: str,
        begin: Transactions[Any],
        attempts: Mapping[Place, Attempt],
        drop: Callable[[Attempt], None],
    ) -> None:
        self._service, self._owner, self._begin, self._attempts, self._drop = service, owner, begin, attempts, drop
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()

    def keep(self, attempt: Attempt, carried: Carried) -> asyncio.Future[None]:
        """Keep what an attempt leaves to the next one; done once it is in the database."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((attempt, carried, kept))
        return kept

    async def run(self) -> None:
        """Go on until cancelled; a database that does not answer is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_all())
            group.create_task(self._tell_progress())

    async def _keep_all(self) -> None:
        some: list[Asked] = []
        while True:
            some = some or [await self._asked.get()]
            while not self._asked.empty() and len(some) < MAX_KEPT:
                some.append(self._asked.get_nowait())
            try:
                await settle(some, self._keep, _refuse, self._begin.database)
            except OutageError:
                # Until the database is back, or the leases are lost: then nobody waits for it any more.
                await asyncio.sleep(AGAIN_AFTER_S)
                some = [asked for asked in some if not asked[2].done()]
            else:
                some = []

    async def _keep(self, some: Sequence[Asked]) -> None:
        """Keep the latest of each attempt."""
        latest = {attempt.place: (attempt, carried) for attempt, carried, _ in some}
        rows = [
            (attempt.task.task_id, attempt.task.attempt, attempt.task.token, carried.model_dump_json())
            for attempt, carried in latest.values()
        ]
        async with self._begin() as tx:
            found = await tx.fetch(CARRY, *map(list, zip(*rows, strict=True)), self._owner)
            held = {(row["task_id"], row["attempt"]) for row in found}
            # An outside job is told of at once: people look for it, and it costs money.
            named = [
                (attempt, carried)
                for place, (attempt, carried) in latest.items()
                if place in held and carried.external_ref != _ref(attempt.carried)
            ]
            for attempt, carried in named:
                tx.handling(None, attempt.envelope)
                for event in self._news(attempt, carried):
                    tx.emit(event)
        told = {attempt.place for attempt, _ in named}
        for place, (attempt, carried) in latest.items():
            attempt.carried = carried
            attempt.untold = place not in told
            if place in told:
                attempt.announced, attempt.told = True, time.monotonic()
        for attempt, _, kept in some:
            if attempt.place not in held:
                kept.cancel()
                self._drop(attempt)
            elif not kept.done():
                kept.set_result(None)

    async def _tell_progress(self) -> None:
        while True:
            await asyncio.sleep(STARTED_AFTER_S / 2)
            now = time.monotonic()
            due = [attempt for attempt in self._attempts.values() if _is_due(attempt, now)]
            carried = {attempt.place: attempt.carried for attempt in due if attempt.untold}
            if not due:
                continue
            with suppress(MillraceError, OSError):
                async with self._begin() as tx:
                    for attempt in due:
                        tx.handling(None, attempt.envelope)
                        for event in self._news(attempt, carried.get(attempt.place)):
                            tx.emit(event)
                    await failpoint("tasks.told")
                for attempt in due:
                    attempt.announced, attempt.told = True, now
                    if attempt.carried is carried.get(attempt.place):
                        attempt.untold = False

    def _news(self, attempt: Attempt, carried: Carried | None) -> Sequence[Event]:
        """Return what is to be told of an attempt: that it has started, or how far it is."""
        said = about(self._service, attempt.task)
        started = [] if attempt.announced else [TaskStarted(**said)]
        if started and carried is None:
            return started
        return [*started, progressed(self._service, attempt, carried)]


async def _refuse(asked: Asked, error: Exception) -> None:
    """Have the work be told of what cannot be kept; what others have asked for is kept."""
    attempt, _, kept = asked
    log.error("not_kept", kind=attempt.task.kind, task_id=str(attempt.task.task_id), exc_info=error)
    if not kept.done():
        kept.set_exception(error)


def _is_due(attempt: Attempt, now: float) -> bool:
    if attempt.begun is None:
        return False
    # Said even when nothing has moved: to control, silence means that the worker is gone.
    if attempt.announced:
        return now - attempt.told > PROGRESS_EVERY_S
    return now - attempt.begun > STARTED_AFTER_S


def _ref(carried: Carried | None) -> str:
    return carried.external_ref if carried is not None else ""
