"""All of control's SQL, on one transaction."""

from millrace.control.store.admission import Admissions, HeldAdmission
from millrace.control.store.archive import Archive
from millrace.control.store.awaited import Awaited, Awaiting
from millrace.control.store.backfills import Backfills, HeldBackfill
from millrace.control.store.definitions import InForce, Rules
from millrace.control.store.due import LOOK, Look, Turn, look_of
from millrace.control.store.events import Arrival, Kept, Start, key_of
from millrace.control.store.gatherings import KeptMemory, QueuedEvent, Settled
from millrace.control.store.health import Health, Seen
from millrace.control.store.leases import Leases
from millrace.control.store.operations import Operations
from millrace.control.store.pools import Pools
from millrace.control.store.queues import Queues
from millrace.control.store.results import KeptMail, Results
from millrace.control.store.runs import Waiting
from millrace.control.store.saved import SavedRuns
from millrace.control.store.schedules import HeldSchedule, NewFire, Schedules
from millrace.control.store.signals import Signals
from millrace.control.store.triggers import HeldTrigger, ShownTrigger
from millrace.control.store.turns import Turns


class Store(
    SavedRuns,
    Archive,
    Awaited,
    Schedules,
    Backfills,
    Queues,
    Leases,
    Operations,
    Turns,
    Admissions,
    Pools,
    Results,
    Health,
):
    """What control keeps: definitions, events, runs, schedules, pools and results."""


__all__ = [
    "LOOK",
    "Arrival",
    "Awaiting",
    "HeldAdmission",
    "HeldBackfill",
    "HeldSchedule",
    "HeldTrigger",
    "InForce",
    "Kept",
    "KeptMail",
    "KeptMemory",
    "Look",
    "NewFire",
    "QueuedEvent",
    "Rules",
    "Seen",
    "Settled",
    "ShownTrigger",
    "Signals",
    "Start",
    "Store",
    "Turn",
    "Waiting",
    "key_of",
    "look_of",
]
