"""Sources and triggers: which events are read, and which of them start runs of what, when and together with which."""

from millrace.core.triggers.gathering import Firing, Gathered, Member, Memory, gather, slots_of
from millrace.core.triggers.handing import Handed, hand_out
from millrace.core.triggers.ir import Strategy, Throttle, Trigger, parse_trigger
from millrace.core.triggers.matching import Event, Index, Match, key_text, match, reader_of
from millrace.core.triggers.sources import Source
from millrace.core.triggers.strategies import Admission, Arrival, OpenRun, admit, arrive, looks_at_open, width_of

__all__ = [
    "Admission",
    "Arrival",
    "Event",
    "Firing",
    "Gathered",
    "Handed",
    "Index",
    "Match",
    "Member",
    "Memory",
    "OpenRun",
    "Source",
    "Strategy",
    "Throttle",
    "Trigger",
    "admit",
    "arrive",
    "gather",
    "hand_out",
    "key_text",
    "looks_at_open",
    "match",
    "parse_trigger",
    "reader_of",
    "slots_of",
    "width_of",
]
