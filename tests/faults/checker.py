"""The judge: from what clients saw and what anybody may read, what was lost, doubled, or out of order.

It knows nothing of the inside and does no I/O. That it finds nothing is the proof that everything held.
"""

from collections.abc import Callable, Iterator

from tests.faults.claims import evidence, lineage, registries, runs
from tests.faults.claims.evidence import SEEN
from tests.faults.claims.lineage import COMPLETE
from tests.faults.claims.registries import COSTS, COUNTED, EFFECTS, REGISTRIES
from tests.faults.claims.runs import ANSWERS, DONE, ENDS, ONE_RUN, ORDER, TASKS, TOLD, told_once
from tests.faults.facts import Facts
from tests.faults.finding import Finding

CLAIMS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    runs.one_run,
    runs.refused_has_no_run,
    runs.every_run_ends,
    runs.every_run_succeeds,
    runs.tasks_once,
    runs.in_order,
    runs.same_answer,
    runs.stays_ended,
    runs.predictions_apart,
    registries.effects_once,
    registries.registered_once,
    registries.generations_once,
    registries.costs_once,
    registries.counted_once,
    lineage.runs_known,
    lineage.tasks_known,
    lineage.told_known,
    lineage.ways_whole,
    lineage.no_cycle,
    lineage.answers_explained,
    evidence.clients_whole,
)


def check(facts: Facts) -> list[Finding]:
    """Return what is not as promised."""
    return [finding for claim in CLAIMS for finding in claim(facts)]


def verdict(facts: Facts) -> list[Finding]:
    """Return what is not as promised, or was not there to be judged."""
    return [*check(facts), *evidence.seen(facts)]


__all__ = [
    "ANSWERS",
    "CLAIMS",
    "COMPLETE",
    "COSTS",
    "COUNTED",
    "DONE",
    "EFFECTS",
    "ENDS",
    "ONE_RUN",
    "ORDER",
    "REGISTRIES",
    "SEEN",
    "TASKS",
    "TOLD",
    "Finding",
    "check",
    "told_once",
    "verdict",
]
