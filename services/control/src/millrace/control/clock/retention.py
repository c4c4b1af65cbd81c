"""How long control keeps what: the rules by which housekeeping removes what is past its time."""

from datetime import timedelta
from functools import partial

from millrace.control.domain.archive import width_of
from millrace.control.store import Store
from millrace.runtime.database import Transactions
from millrace.runtime.housekeeping import Rule, older_than

LEASE_RETENTION = timedelta(days=1)
"""How long it is known of a leased attempt that its worker has said how it ended: longer than one goes on saying it."""

ARCHIVE_AFTER = timedelta(minutes=10)
"""How long a run that has ended stays among those that go on: nothing that is said of its tasks comes later."""


def rules(run_retention: timedelta, event_retention: timedelta, begin: Transactions[Store]) -> tuple[Rule, ...]:
    """Return what goes when.

    Args:
        run_retention: How long runs that have ended are kept, and what schedules have started.
        event_retention: How long events from outside are, and what triggers said when they came.
        begin: Opens transactions.
    """
    archive = partial(Store.archive_runs, width=width_of(run_retention))
    return (
        older_than(min(ARCHIVE_AFTER, run_retention), "run_archived", archive, begin),
        older_than(event_retention, "event", Store.forget_events, begin),
        older_than(event_retention, "trigger_version", Store.forget_versions, begin),
        older_than(run_retention, "schedule_fire", Store.forget_fires, begin),
        older_than(LEASE_RETENTION, "task_lease", Store.forget_leases, begin),
        older_than(timedelta(), "result", Store.forget_results, begin),
        older_than(timedelta(), "mail", Store.forget_mail, begin),
        # Last: it may have to wait for those who read, and is then tried again in the next round.
        older_than(run_retention, "run", Store.drop_archive, begin),
    )
