"""What every event is: a frozen fact on one topic, in order per key."""

from functools import cache
from string import Formatter
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Namespace = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
"""A tenant's name: a DNS label."""

TYPE_PREFIX = "millrace."


class Event(BaseModel):
    """A fact that its publisher states once, in the transaction that made it true.

    Id, time, cause and trace belong to the transaction that emits, not to the event.

    Attributes:
        topic: Where it is published; `{field}` in it is the event's own field of that name.
        key_field: The field whose value is the record's key: facts of one key stay in order.
        namespace: The tenant it belongs to.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[str]
    key_field: ClassVar[str]

    namespace: Namespace

    @classmethod
    @cache
    def type_name(cls) -> str:
        """Return the CloudEvents type, such as `millrace.training.VersionRegistered`."""
        return f"{TYPE_PREFIX}{cls.__module__.rpartition('.')[2]}.{cls.__name__}"

    @classmethod
    def publisher(cls) -> str:
        """Return the module that declares it: the service that publishes it, or what all of them share."""
        return cls.__module__.rpartition(".")[2]

    def topic_name(self) -> str:
        """Return the topic with the event's own fields filled in."""
        fields = topic_fields(self.topic)
        return self.topic.format(**{name: getattr(self, name) for name in fields}) if fields else self.topic

    def key(self) -> str:
        """Return the record's key."""
        return str(getattr(self, self.key_field))

    def lingers(self) -> bool:
        """Return whether nobody waits for it: it may leave a moment later, with what follows in its partition key."""
        return False

    def partition_key(self) -> str | None:
        """Return what decides on the record's partition, where its publisher is one of the services; None for its key.

        A class may say otherwise where nothing counts on the order of a key: its facts are in order for each of these.
        """
        return None


@cache
def topic_fields(topic: str) -> tuple[str, ...]:
    """Return the names of the fields that a topic's template takes from its event."""
    return tuple(name for _, name, _, _ in Formatter().parse(topic) if name)


def all_events() -> dict[str, type[Event]]:
    """Return every concrete event class, by its type name: ours, and what else is declared so far."""
    # Each declares its own by being imported; and they are made of what stands above.
    from millrace.contracts import control, data, feature, held, inference, openlineage, tasks, training  # noqa: F401, PLC0415

    found: dict[str, type[Event]] = {}
    pending: list[type[Event]] = [Event]
    while pending:
        for cls in pending.pop().__subclasses__():
            pending.append(cls)
            if not cls.__subclasses__():
                found[cls.type_name()] = cls
    return dict(sorted(found.items()))
