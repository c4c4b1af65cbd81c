"""What a service says of keys whose events it could not handle."""

from typing import ClassVar

from millrace.contracts.event import Event

NO_NAMESPACE = "unknown"
"""Stands for the namespace of what came from outside without one."""


class KeyChange(Event):
    """Whether the events of one key are handled by a service; all that is said of a key stays in order.

    Attributes:
        service: Who reads them.
        held_topic: The topic of the key.
        held_key: The key; bytes that are not UTF-8 as escapes.
    """

    topic: ClassVar[str] = "{service}.held"
    key_field: ClassVar[str] = "held_key"

    service: str
    held_topic: str
    held_key: str


class KeyParked(KeyChange):
    """An event of a key has failed too often: it waits, and what comes after it of the same key waits too.

    Attributes:
        reason: Why it failed the last time.
    """

    reason: str


class KeyUnparked(KeyChange):
    """All events of the key that waited are handled or dropped: it flows again."""
