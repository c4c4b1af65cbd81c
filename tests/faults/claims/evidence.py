"""Claims about the load itself: that there is something to judge, and that its clients did not break."""

from collections import Counter
from collections.abc import Callable, Iterator

from tests.faults.facts import Facts
from tests.faults.finding import Finding

SEEN = "what is judged is there to be judged"
CLIENTS = "no client of the load breaks"
#: Over how many services a run goes that is one of the main job's shape.
SERVICES = 3


def clients_whole(facts: Facts) -> Iterator[Finding]:
    """No client ended by an error that is no answer to what it asked."""
    for entry in facts.history:
        if entry.outcome == "unknown" and entry.op == "broken":
            yield Finding(CLIENTS, "failed", f"a client of {entry.key}: {entry.value}")


def seen(facts: Facts) -> Iterator[Finding]:
    """Each thing that other claims are about was there at least once: of nothing, all that is claimed is true."""
    for what, is_there in _THINGS.items():
        if not is_there(facts):
            yield Finding(SEEN, "unseen", f"not one {what}")


def _answered(facts: Facts, op: str) -> Counter[str]:
    return Counter(entry.key for entry in facts.history if entry.op == op and entry.outcome == "ok")


def _over_services(facts: Facts) -> bool:
    runs = [run for run in facts.runs.values() if run.state == "succeeded"]
    return any(len({task.kind.partition(".")[0] for task in run.tasks}) >= SERVICES for run in runs)


_THINGS: dict[str, Callable[[Facts], object]] = {
    "event was acknowledged": lambda facts: _answered(facts, "trigger"),
    "run was started by a call": lambda facts: _answered(facts, "start"),
    "request was answered twice": lambda facts: any(count > 1 for count in _answered(facts, "start").values()),
    "prediction was answered": lambda facts: _answered(facts, "predict"),
    "prediction was explained": lambda facts: any(facts.explanations.values()),
    f"run over {SERVICES} services succeeded": _over_services,
}
