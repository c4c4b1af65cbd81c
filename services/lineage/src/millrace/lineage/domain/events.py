"""What each Millrace event says of the graph."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import singledispatch

from millrace.contracts.control import (
    LeasedTask,
    LeasedTaskEnded,
    RunCancelled,
    RunEnded,
    RunEvent,
    RunFailed,
    RunRefused,
    RunStarted,
)
from millrace.contracts.data import VersionPublished
from millrace.contracts.event import Event
from millrace.contracts.feature import TrainingSetBuilt, ViewApplied, ViewMaterialised
from millrace.contracts.inference import CanaryJudged, DeploymentReady, PredictionsLogged, TrafficShifted
from millrace.contracts.openlineage import LineageReported, RunState, openlineage_namespace, ref, run_event
from millrace.contracts.tasks import TaskFailed, TaskSucceeded
from millrace.contracts.training import AliasMoved, EvaluationEvent, EvaluationPassed, VersionRegistered
from millrace.lineage.domain.graph import Answer, Graph, canonical, utc
from millrace.lineage.domain.openlineage import graph_of_openlineage, job_node, run_node

END_STATES: Mapping[type[RunEvent], str] = {RunFailed: "FAIL", RunCancelled: "ABORT"}


@singledispatch
def graph_of(event: Event, at: datetime, event_id: str) -> Graph:  # noqa: ARG001 - the signature of those below
    """Return what an event says; one of a class that has no part in lineage says nothing.

    Args:
        event: What was published.
        at: When.
        event_id: Its id.
    """
    return Graph()


@graph_of.register
def _(event: LineageReported, at: datetime, event_id: str) -> Graph:  # noqa: ARG001 - it has a time and a content of its own
    return graph_of_openlineage(event.event, event.namespace)


@graph_of.register
def _(event: TaskSucceeded | TaskFailed, at: datetime, event_id: str) -> Graph:  # noqa: ARG001 - as above
    state: RunState = "COMPLETE" if isinstance(event, TaskSucceeded) else "FAIL"
    made = run_event(namespace=event.namespace, service=event.service, task=event, time=at, state=state)
    return graph_of_openlineage(made, event.namespace)


@graph_of.register
def _(event: LeasedTask, at: datetime, event_id: str) -> Graph:  # noqa: ARG001 - as above
    if not isinstance(event, LeasedTaskEnded):
        return Graph()
    state: RunState = "COMPLETE" if event.outcome == "succeeded" else "FAIL"
    made = run_event(namespace=event.namespace, service=event.queue, task=event, time=at, state=state)
    return graph_of_openlineage(made, event.namespace)


@graph_of.register
def _(event: VersionPublished, at: datetime, event_id: str) -> Graph:
    version = ref("data.version", event.version_id)
    file = ref("file", f"sha256:{event.source_sha256}")
    names = {"dataset", "partition", "contract", "contract_hash", "good_rows", "quarantined_rows", "landed_at"}
    graph = _made(event, version, [file], names, at=at, event_id=event_id)
    graph.say(event.namespace, file, "source", {"uri": event.source_uri}, at=at, event_id=event_id)
    return graph


@graph_of.register
def _(event: ViewApplied, at: datetime, event_id: str) -> Graph:
    return _made(event, ref("feature.declaration", event.view_hash), [], {"view"}, at=at, event_id=event_id)


@graph_of.register
def _(event: ViewMaterialised, at: datetime, event_id: str) -> Graph:
    sources = [ref("feature.declaration", event.view_hash), *_refs("data.version", event.version_ids)]
    return _made(event, ref("feature.view", event.generation), sources, {"view", "entities"}, at=at, event_id=event_id)


@graph_of.register
def _(event: TrainingSetBuilt, at: datetime, event_id: str) -> Graph:
    sources = [*_refs("feature.declaration", event.view_hashes), *_refs("data.version", event.version_ids)]
    return _made(
        event, ref("feature.training_set", event.training_set_id), sources, {"spine_rows"}, at=at, event_id=event_id
    )


@graph_of.register
def _(event: VersionRegistered, at: datetime, event_id: str) -> Graph:
    names = {"model", "version", "estimator", "params", "metrics", "parity_max_abs"}
    sources = [ref("feature.training_set", event.training_set_id)]
    return _made(event, ref("training.model", event.version_id), sources, names, at=at, event_id=event_id)


@graph_of.register
def _(event: AliasMoved, at: datetime, event_id: str) -> Graph:
    names = {"model", "version", "alias", "previous_version"}
    return _said(
        event, ref("training.model", event.version_id), f"alias {event.alias}", names, at=at, event_id=event_id
    )


@graph_of.register
def _(event: EvaluationEvent, at: datetime, event_id: str) -> Graph:
    evaluation = ref("training.evaluation", event.evaluation_id)
    sources = [ref("training.model", event.version_id), ref("feature.training_set", event.training_set_id)]
    graph = _made(event, evaluation, sources, {"model", "version", "measures", "reasons"}, at=at, event_id=event_id)
    verdict = "passed" if isinstance(event, EvaluationPassed) else "failed"
    graph.say(event.namespace, evaluation, "verdict", {"verdict": verdict}, at=at, event_id=event_id)
    return graph


@graph_of.register
def _(event: DeploymentReady, at: datetime, event_id: str) -> Graph:
    deployment = ref("inference.deployment", str(event.deployment_id))
    sources = [ref("training.model", event.version_id)]
    return _made(event, deployment, sources, {"model", "version"}, at=at, event_id=event_id)


@graph_of.register
def _(event: TrafficShifted, at: datetime, event_id: str) -> Graph:
    names = {"weight", "generation", "reason"}
    return _said(
        event, ref("inference.deployment", str(event.deployment_id)), "traffic", names, at=at, event_id=event_id
    )


@graph_of.register
def _(event: CanaryJudged, at: datetime, event_id: str) -> Graph:
    names = {"verdict", "answers", "mean_difference", "standard_error"}
    return _said(
        event, ref("inference.deployment", str(event.deployment_id)), "canary", names, at=at, event_id=event_id
    )


@graph_of.register
def _(event: PredictionsLogged, at: datetime, event_id: str) -> Graph:  # noqa: ARG001 - a prediction has an id of its own
    graph = Graph()
    deployment = ref("inference.deployment", str(event.deployment_id))
    graph.mention(event.namespace, deployment, at)
    for prediction in event.predictions:
        detail = canonical(prediction.model_dump(mode="json"))
        graph.answer(event.namespace, prediction.prediction_id, Answer(utc(prediction.time), deployment, detail))
    return graph


@graph_of.register
def _(event: RunEvent, at: datetime, event_id: str) -> Graph:
    run = run_node(str(event.run_id))
    graph = _said(event, run, "workflow", {"workflow", "workflow_hash"}, at=at, event_id=event_id)
    graph.connect(event.namespace, job_node(openlineage_namespace(event.namespace), event.workflow), run, at)
    if isinstance(event, RunStarted):
        graph.reach(event.namespace, run, "START", at)
        names = {"trigger", "event_source", "event_id", "principal"}
        graph.join(_said(event, run, "start", names, at=at, event_id=event_id))
    elif isinstance(event, RunEnded):
        graph.reach(event.namespace, run, END_STATES.get(type(event), "COMPLETE"), at)
        outcome = {"outcome": "refused" if isinstance(event, RunRefused) else "done", "cause": event.cause}
        graph.say(event.namespace, run, "end", outcome, at=at, event_id=event_id)
    return graph


def _made(event: Event, node: str, sources: Iterable[str], names: set[str], *, at: datetime, event_id: str) -> Graph:
    graph = _said(event, node, type(event).__name__, names, at=at, event_id=event_id)
    for source in sources:
        graph.connect(event.namespace, source, node, at)
    return graph


def _said(event: Event, node: str, name: str, names: set[str], *, at: datetime, event_id: str) -> Graph:
    graph = Graph()
    graph.say(event.namespace, node, name, event.model_dump(mode="json", include=names), at=at, event_id=event_id)
    return graph


def _refs(kind: str, identifiers: Iterable[str]) -> list[str]:
    return [ref(kind, identifier) for identifier in identifiers]
