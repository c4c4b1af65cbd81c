"""All of control's SQL, on one transaction."""

from millrace.control.store.definitions import InForce
from millrace.control.store.events import Arrival, Events, Kept, Match, Start
from millrace.control.store.operations import Operations
from millrace.control.store.runs import Runs, Turn, Waiting
from millrace.control.store.signals import Signals


class Store(Runs, Events, Operations):
    """What control keeps: definitions, events and runs."""


__all__ = ["Arrival", "InForce", "Kept", "Match", "Signals", "Start", "Store", "Turn", "Waiting"]
