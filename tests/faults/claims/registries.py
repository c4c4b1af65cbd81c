"""Claims about effects: outside, and in the services' own registries."""

import json
from collections import Counter
from collections.abc import Iterator

from millrace.contracts import SERVICES
from millrace.contracts.control import RunEvent
from millrace.contracts.held import KeyChange
from millrace.contracts.rpc.control.v1 import control_pb2
from millrace.contracts.tasks import TaskOrder, TaskReport

from tests.faults.facts import Facts, event_of, once
from tests.faults.finding import Finding, Kind
from tests.journeys.shop import ENDED

EFFECTS = "what a run does outside happens once"
REGISTRIES = "what a run puts into a registry is there once"
COUNTED = "each event is counted once by who counts them"
COSTS = "what a run took is counted once"
#: What is told there, observability counts.
COUNTED_TOPICS = frozenset(
    (
        RunEvent.topic,
        *(TaskReport.topic.format(service=service) for service in SERVICES),
        *(TaskOrder.topic.format(queue=service) for service in SERVICES),
        *(KeyChange.topic.format(service=service) for service in SERVICES),
    )
)
#: A sum of durations, told and kept as they are.
TOLERANCE_S = 1e-6


def effects_once(facts: Facts) -> Iterator[Finding]:
    """Each step of what a run was started for was done outside once, and the run has the outside's receipt."""
    done = Counter((effect.event, effect.step) for effect in facts.effects)
    for (event, step), count in done.items():
        if count > 1:
            yield Finding(EFFECTS, "doubled", f"{step} of {event} was done {count} times")
    receipts = {effect.task_id: effect.receipt for effect in facts.effects}
    for run in facts.runs.values():
        for task in _succeeded(run, "data.effect"):
            told = json.loads(task.output_json or "{}").get("receipt")
            if receipts.get(task.task_id) != told or told is None:
                found = receipts.get(task.task_id)
                yield Finding(EFFECTS, "lost", f"{task.name} of {event_of(run)} has receipt {told}, outside {found}")


def registered_once(facts: Facts) -> Iterator[Finding]:
    """A file has one version, an alias one place, and nothing of it was told twice."""
    told = once(facts.told)
    counts = {
        "data.ingest": {
            "registered": Counter(version.partition for version in facts.versions),
            "told": Counter(str(one.value["partition"]) for one in told if one.type == "VersionPublished"),
        },
        "training.promote": {
            "registered": Counter(facts.aliases),
            "told": Counter(str(one.value["alias"]) for one in told if one.type == "AliasMoved"),
        },
    }
    asked = {entry.key for entry in facts.history if entry.op == "trigger"}
    for run in facts.runs.values():
        event = event_of(run)
        for kind, found in counts.items() if event in asked else ():
            for task in _succeeded(run, kind):
                for how, count in found.items():
                    if count[event] != 1:
                        wrong: Kind = "doubled" if count[event] else "lost"
                        yield Finding(REGISTRIES, wrong, f"{task.name} of {event} is {how} {count[event]} times")


def generations_once(facts: Facts) -> Iterator[Finding]:
    """Features were put online once; what came when newer ones were online is not, and so told by nobody."""
    told = Counter(str(one.value["generation"]) for one in once(facts.told) if one.type == "ViewMaterialised")
    for generation, count in told.items():
        if count > 1:
            yield Finding(REGISTRIES, "doubled", f"generation {generation} was put online {count} times")


def costs_once(facts: Facts) -> Iterator[Finding]:
    """What a run took is what its tasks told, each attempt once."""
    took: Counter[str] = Counter()
    for one in once(facts.told):
        if one.type in {"TaskSucceeded", "TaskFailed"}:
            took[str(one.value["run_id"])] += one.value["duration_s"]
    for run_id, run in facts.runs.items():
        cost = facts.costs.get(run_id)
        if cost is None:
            yield Finding(COSTS, "lost", f"run {run_id} took {took[run_id]} s as told, nothing is known of it", run_id)
            continue
        if run.state in ENDED and cost.state != run.state:
            yield Finding(COSTS, "lost", f"run {run_id} is {run.state}, its cost says {cost.state}")
        counted = sum(step.duration_s for step in cost.steps)
        if abs(counted - took[run_id]) > TOLERANCE_S:
            kind: Kind = "doubled" if counted > took[run_id] else "lost"
            yield Finding(COSTS, kind, f"run {run_id} took {took[run_id]} s as told, {counted} s as counted")


def counted_once(facts: Facts) -> Iterator[Finding]:
    """Observability has counted each event that was told, repeated ones once, in every topic that it reads."""
    told = Counter(one.topic for one in once(facts.told))
    for topic in sorted(COUNTED_TOPICS | facts.handled.keys()):
        count = facts.handled.get(topic, 0)
        if count != told[topic]:
            kind: Kind = "doubled" if count > told[topic] else "lost"
            yield Finding(COUNTED, kind, f"{topic}: {told[topic]} events told, {count} counted")


def _succeeded(run: control_pb2.Run, kind: str) -> list[control_pb2.Task]:
    return [task for task in run.tasks if task.kind == kind and task.state == "succeeded"]
