"""What runs that a schedule starts are called and given."""

from datetime import datetime
from typing import Any

from millrace.core.schedules import Kind, Schedule, fill, moment

_SCHEDULE, _BACKFILL = "schedule/", "backfill/"


def queue_of(schedule: str) -> str:
    """Return the queue of a schedule's runs: no trigger has a name with a slash in it."""
    return f"{_SCHEDULE}{schedule}"


def schedule_of(queue: str) -> str:
    """Return whose queue it is; empty where that is no schedule's own."""
    return queue.removeprefix(_SCHEDULE) if queue.startswith(_SCHEDULE) else ""


def backfill_queue_of(schedule: str, backfill_id: str) -> str:
    """Return the queue of a backfill's runs."""
    return f"{_BACKFILL}{schedule}/{backfill_id}"


def document_for(
    schedule: Schedule, logical_at: datetime, previous_at: datetime | None, kind: Kind, backfill_id: str = ""
) -> dict[str, Any]:
    """Return the trigger document of a run for a moment.

    Args:
        schedule: Which starts it.
        logical_at: The moment, UTC.
        previous_at: The one before.
        kind: Why it is started now.
        backfill_id: In which backfill; empty for none.
    """
    told = moment(schedule.name, schedule.tz, logical_at, previous_at, kind, backfill_id)
    return {
        "id": told["logical_at"],
        "source": f"/millrace/control/schedules/{schedule.name}",
        "type": "schedule",
        "subject": schedule.name,
        "time": told["logical_at"],
        "data": fill(schedule.data, told),
        "schedule": told,
    }
