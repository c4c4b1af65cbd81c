"""What of control's goes when it is past its time."""

from datetime import timedelta
from functools import partial

from millrace.control.domain.archive import width_of
from millrace.control.store import Store
from millrace.runtime.housekeeping import Rule, older_than
from millrace.runtime.transaction import Transactions

LEASE_RETENTION = timedelta(days=1)
"""How long it is known of a leased attempt that its worker has said how it ended: longer than one goes on saying it."""
ARCHIVE_AFTER = timedelta(minutes=10)
"""How long a run that has ended stays among those that go on: nothing that is said of its tasks comes later."""


def rules(begin: Transactions[Store], *, keep_runs: timedelta, keep_events: timedelta) -> tuple[Rule, ...]:
    """Return the rules: by how long runs that have ended, and events from outside, are kept."""
    archive_runs = partial(Store.archive_runs, width=width_of(keep_runs))
    return (
        older_than(min(ARCHIVE_AFTER, keep_runs), "run_archived", archive_runs, begin),
        older_than(keep_events, "event", Store.forget_events, begin),
        older_than(keep_events, "trigger_version", Store.forget_versions, begin),
        older_than(keep_runs, "schedule_fire", Store.forget_fires, begin),
        older_than(LEASE_RETENTION, "task_lease", Store.forget_leases, begin),
        older_than(timedelta(), "result", Store.forget_results, begin),
        older_than(timedelta(), "mail", Store.forget_mail, begin),
        # Last: it may have to wait for those who read, and is then tried again in the next round.
        older_than(keep_runs, "run", Store.drop_archive, begin),
    )
