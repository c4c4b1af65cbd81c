"""What a process is that was forked for a piece of work."""

import multiprocessing
import sys

from millrace.runtime.tasks import group


def settle() -> None:
    """Have this process be one of its own: it leads a group, may start processes, and draws its own random numbers."""
    group.lead()
    multiprocessing.current_process().daemon = False  # what it starts ends with its group
    # `random` sees to that by itself where a process is forked, numpy does not.
    if (drawn := sys.modules.get("numpy.random")) is not None:
        drawn.seed()
