"""Schedules: when runs are started by time, and what of that is caught up, in full and without a clock."""

from millrace.core.schedules.document import MAX_SCHEDULE_BYTES, Schedule, parse_schedule
from millrace.core.schedules.fires import HORIZON, Fire, fires, fires_between, just_after, last_fire, previous_fire
from millrace.core.schedules.missed import Due, Kind, Passed, due, next_due
from millrace.core.schedules.template import fill, moment

__all__ = [
    "HORIZON",
    "MAX_SCHEDULE_BYTES",
    "Due",
    "Fire",
    "Kind",
    "Passed",
    "Schedule",
    "due",
    "fill",
    "fires",
    "fires_between",
    "just_after",
    "last_fire",
    "moment",
    "next_due",
    "parse_schedule",
    "previous_fire",
]
