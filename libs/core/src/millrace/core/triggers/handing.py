"""Events of a trigger without a workflow: which of them the tasks get that wait for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from millrace.core.triggers.gathering import Member
from millrace.core.triggers.ir import MAX_MEMBERS


@dataclass(frozen=True, slots=True)
class Handed:
    """What becomes of the events under one key.

    Attributes:
        given: What all tasks get that wait now; None where none waits, or there is nothing.
        waiting: What is kept for those that wait later, the oldest first.
        expired: What was kept for long enough.
        refused: What there is no room for.
        due_at: When the next of those that are kept expires.
    """

    given: Member | None
    waiting: Sequence[Member]
    expired: Sequence[Member]
    refused: Sequence[Member]
    due_at: datetime | None


def hand_out(
    keep_s: float, before: Sequence[Member], arrivals: Sequence[Member], now: datetime, *, waited_for: bool
) -> Handed:
    """Return what becomes of events, in the order in which they came.

    Args:
        keep_s: How long one is kept that no task waits for, seconds.
        before: Those that are kept.
        arrivals: Those that have just come.
        now: The time.
        waited_for: Whether a task waits for one.
    """
    keep = timedelta(seconds=keep_s)
    every = sorted({*before, *arrivals}, key=lambda member: (member.at, member.time, member.source, member.id))
    live = [member for member in every if now < member.at + keep]
    given, live = (live[0], live[1:]) if waited_for and live else (None, live)
    waiting = live[:MAX_MEMBERS]
    return Handed(
        given=given,
        waiting=waiting,
        expired=[member for member in every if now >= member.at + keep],
        refused=live[MAX_MEMBERS:],
        due_at=waiting[0].at + keep if waiting else None,
    )
