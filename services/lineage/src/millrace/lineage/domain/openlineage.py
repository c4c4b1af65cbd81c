"""What one OpenLineage event, of any emitter, says of the graph."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from millrace.contracts.openlineage import openlineage_namespace
from millrace.lineage.domain.graph import STATE_RANK, Graph, clean, content_id, utc
from millrace.runtime.errors import InvalidInput

OWN_KINDS = ("run:", "job:", "dataset:")
"""Ids that lineage itself gives; nobody's thing may pass for one."""


def graph_of_openlineage(event: object, tenant: str) -> Graph:
    """Return what a RunEvent, JobEvent or DatasetEvent says.

    An event is known by the SHA-256 of its content: the same one twice is one. What it does not repeat is not taken
    back; a facet is replaced as a whole by a later one of its name.

    Args:
        event: Parsed JSON, as the 2-0-2 schema has it; unknown fields are kept where they are facets, else ignored.
        tenant: The Millrace namespace it belongs to.

    Raises:
        InvalidInput: It is none of the three, or a part that the graph needs is missing or malformed.
    """
    fields = _object(event, "an OpenLineage event")
    reading = _Reading(tenant, _time(fields.get("eventTime")), content_id(event))
    if "run" in fields:
        reading.run(fields)
    elif "job" in fields:
        reading.job_io(fields)
    elif "dataset" in fields:
        reading.dataset(fields["dataset"])
    else:
        raise InvalidInput("an OpenLineage event has a run and a job, a job, or a dataset")
    return reading.graph


def run_node(run_id: str) -> str:
    """Return the id of a run's node."""
    return f"run:{clean(run_id).lower()}"


def job_node(namespace: str, name: str) -> str:
    """Return the id of a job's node."""
    return clean(f"job:{namespace}:{name}")


def dataset_node(tenant: str, namespace: str, name: str) -> str:
    """Return the id of a dataset's node: a Millrace thing's own reference, or both its names."""
    if namespace == openlineage_namespace(tenant) and ":" in name and not name.startswith(OWN_KINDS):
        return clean(name)
    return clean(f"dataset:{namespace}:{name}")


class _Reading:
    def __init__(self, tenant: str, at: datetime, event_id: str) -> None:
        self.graph = Graph()
        self.tenant = tenant
        self.at = at
        self.event_id = event_id

    def run(self, fields: Mapping[str, Any]) -> None:
        run = _object(fields["run"], "run")
        node = run_node(_text(run.get("runId"), "run.runId"))
        job = self.job(fields.get("job"))
        self.connect(job, node)
        self.graph.reach(self.tenant, node, _state(fields.get("eventType")), self.at)
        facets = self.facets(node, run.get("facets"))
        self.say(node, "job", {"node": job})
        self.parent(node, facets.get("parent"))
        self.inputs_and_outputs(node, fields)

    def parent(self, node: str, facet: object) -> None:
        if not isinstance(facet, dict):
            return
        run = _object(facet.get("run"), "parent.run")
        parent = run_node(_text(run.get("runId"), "parent.run.runId"))
        if parent != node:
            self.connect(parent, node)
            self.connect(self.job(facet.get("job")), parent)

    def job_io(self, fields: Mapping[str, Any]) -> None:
        self.inputs_and_outputs(self.job(fields["job"]), fields)

    def job(self, value: object) -> str:
        job = _object(value, "job")
        node = job_node(_text(job.get("namespace"), "job.namespace"), _text(job.get("name"), "job.name"))
        self.graph.mention(self.tenant, node, self.at)
        self.facets(node, job.get("facets"))
        return node

    def inputs_and_outputs(self, node: str, fields: Mapping[str, Any]) -> None:
        for thing in _list(fields.get("inputs"), "inputs"):
            self.connect(self.dataset(thing), node)
        for thing in _list(fields.get("outputs"), "outputs"):
            self.connect(node, self.dataset(thing))

    def dataset(self, value: object) -> str:
        thing = _object(value, "a dataset")
        namespace, name = _text(thing.get("namespace"), "namespace"), _text(thing.get("name"), "name")
        node = self.graph.mention(self.tenant, dataset_node(self.tenant, namespace, name), self.at)
        for group in ("facets", "inputFacets", "outputFacets"):
            self.facets(node, thing.get(group))
        return node

    def facets(self, node: str, value: object) -> Mapping[str, Any]:
        facets = _object(value or {}, "facets")
        for name, facet in facets.items():
            self.say(node, name, facet)
        return facets

    def say(self, node: str, name: str, value: object) -> None:
        self.graph.say(self.tenant, node, name, value, at=self.at, event_id=self.event_id)

    def connect(self, source: str, target: str) -> None:
        self.graph.connect(self.tenant, source, target, self.at)


def _state(value: object) -> str:
    state = str(value).upper()
    return state if state in STATE_RANK else "OTHER"


def _time(value: object) -> datetime:
    try:
        return utc(datetime.fromisoformat(_text(value, "eventTime")))
    except (ValueError, OverflowError):
        raise InvalidInput("eventTime is an ISO 8601 date and time") from None


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} is an object")
    return value


def _list(value: object, name: str) -> Iterable[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInput(f"{name} is a list")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{name} is a text that is not empty")
    return value
