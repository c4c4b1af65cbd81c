"""Every topic there is: partitions, retention, owner. It creates topics; nothing else does."""

from collections.abc import Iterable
from dataclasses import dataclass

from millrace.contracts import SERVICES
from millrace.contracts.event import all_events, topic_fields

DAY_S = 24 * 3600
TASK_PARTITIONS = 4
"""All task topics have as many, so that a task's orders and reports are spread alike."""


@dataclass(frozen=True)
class Topic:
    """One Kafka topic.

    Attributes:
        owner: The only publisher: a service, or `upstream` for what comes from outside.
        retention_s: How long records are kept, seconds.
    """

    name: str
    owner: str
    partitions: int
    retention_s: int


FOREIGN = (
    Topic("triggers", "upstream", 4, 7 * DAY_S),
    Topic("flights.labels", "upstream", 4, 7 * DAY_S),
    Topic("openlineage.events", "upstream", 4, 7 * DAY_S),
)


def queue_topics(queues: Iterable[str]) -> tuple[Topic, ...]:
    """Return the topics of some queues of teams: their orders, and what their workers report."""
    retention_s = 7 * DAY_S
    return tuple(
        topic
        for queue in queues
        for topic in (
            Topic(f"control.tasks.{queue}", "control", TASK_PARTITIONS, retention_s),
            Topic(f"{queue}.tasks", queue, TASK_PARTITIONS, retention_s),
        )
    )


def queues_in(topics: Iterable[str]) -> list[str]:
    """Return the queues of teams both of whose topics are among these, by name.

    Only control may make a topic for orders: one for reports alone is nobody's queue.
    """
    there = frozenset(topics)
    orders, reports = queue_topics([""])
    named = (topic.removeprefix(orders.name) for topic in there if topic.startswith(orders.name))
    return sorted(name for name in named if name not in SERVICES and f"{name}{reports.name}" in there)


def catalogue() -> tuple[Topic, ...]:
    """Return every topic of Millrace, by name; a template's fields are filled with the seven services."""
    found = {topic.name: topic for topic in FOREIGN}
    for cls in all_events().values():
        fields = topic_fields(cls.topic)
        for service in SERVICES if fields else [cls.publisher()]:
            name = cls.topic.format(**dict.fromkeys(fields, service))
            owner = "control" if name.startswith("control.") else service
            tasks = ".tasks" in name
            found[name] = Topic(name, owner, TASK_PARTITIONS if tasks else 2, 7 * DAY_S)
    return tuple(sorted(found.values(), key=lambda topic: topic.name))
