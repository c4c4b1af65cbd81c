"""How long control keeps what: the rules by which housekeeping removes what is past its time."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from millrace.control.domain.archive import width_of
from millrace.control.store import Store
from millrace.control.store.archive import MOST_RUNS
from millrace.runtime.database import Transactions
from millrace.runtime.errors import Unavailable
from millrace.runtime.housekeeping import Rule, older_than

LEASE_RETENTION = timedelta(days=1)
"""How long it is known of a leased attempt that its worker has said how it ended: longer than one goes on saying it."""

ARCHIVE_AFTER = timedelta(minutes=10)
"""How long a run that has ended stays among those that go on: nothing that is said of its tasks comes later."""

MOST_STUCK = 100
"""Of more runs that cannot be moved something else is wrong than with each of them."""

log = structlog.get_logger()


class Archiving:
    """Moves runs that have ended to the archive; one that cannot be moved stays where it is, and is told of.

    Args:
        begin: Opens transactions.
        after: How long after their ends.
        width: Of the archive's parts.
    """

    def __init__(self, begin: Transactions[Store], after: timedelta, width: timedelta) -> None:
        self._begin, self._after, self._width = begin, after, width
        self._stuck: set[UUID] = set()

    async def batches(self) -> AsyncIterator[int]:
        """Move some each time it is asked for the next; say how many.

        Those of a batch that failed are moved one by one; one that fails again is left out from then on, at most
        `MOST_STUCK` of them. What went wrong last is raised at the end.
        """
        alone, moved = 0, 1
        failure: Exception | None = None
        while moved:
            runs: dict[UUID, datetime] = {}
            try:
                async with self._begin() as tx:
                    runs = await tx.ended_runs(tx.now - self._after, 1 if alone else MOST_RUNS, self._stuck)
                    if runs:
                        await tx.archive(runs, self._width)
            except (Unavailable, OSError):
                raise
            except Exception as error:
                if not runs or len(self._stuck) >= MOST_STUCK:
                    raise
                alone, failure = (alone - 1, error) if len(runs) == 1 else (len(runs), failure)
                if len(runs) == 1:
                    self._leave(*runs)
                yield 0
            else:
                alone, moved = max(0, alone - 1), len(runs)
                yield moved
        if failure is not None:
            raise failure

    def _leave(self, run_id: UUID) -> None:
        log.error("run_not_archived", run_id=str(run_id))
        self._stuck.add(run_id)


def rules(run_retention: timedelta, event_retention: timedelta, begin: Transactions[Store]) -> tuple[Rule, ...]:
    """Return what goes when.

    Args:
        run_retention: How long runs that have ended are kept, and what schedules have started.
        event_retention: How long events from outside are, and what triggers said when they came.
        begin: Opens transactions.
    """
    archiving = Archiving(begin, min(ARCHIVE_AFTER, run_retention), width_of(run_retention))
    return (
        Rule("run_archived", archiving.batches),
        older_than(event_retention, "event", Store.forget_events, begin),
        older_than(event_retention, "trigger_version", Store.forget_versions, begin),
        older_than(run_retention, "schedule_fire", Store.forget_fires, begin),
        older_than(LEASE_RETENTION, "task_lease", Store.forget_leases, begin),
        older_than(timedelta(), "result", Store.forget_results, begin),
        older_than(timedelta(), "mail", Store.forget_mail, begin),
        older_than(timedelta(), "awaited", Store.forget_awaited, begin),
        # Last: it may have to wait for those who read, and is then tried again in the next round.
        older_than(run_retention, "run", Store.drop_archive, begin),
    )
