"""How a group's partitions are assigned to its static members."""

import hashlib
from collections.abc import Iterable

from aiokafka.coordinator.assignors.range import RangePartitionAssignor


def assignors_of(topics: Iterable[str]) -> tuple[type[RangePartitionAssignor], ...]:
    """Return how a member that reads `topics` has partitions assigned: by range, under a name that tells the topics.

    A static member that comes back is given its former assignment unless the name of the group's protocol would change:
    under one name for all it would never be given a new topic, and would be given one that it no longer reads, which
    aiokafka refuses for ever. Members that want different topics, as during a roll-out, meet under the plain name.
    """
    digest = hashlib.sha256("\n".join(sorted(topics)).encode()).hexdigest()[:12]
    mine = type("TopicsRangeAssignor", (RangePartitionAssignor,), {"name": f"range-{digest}"})
    return (mine, RangePartitionAssignor)
