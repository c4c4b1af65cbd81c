"""Lineage as every service reports it: an OpenLineage run event on the service's own topic."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Literal
from uuid import UUID

from millrace.contracts.control import LeasedTask
from millrace.contracts.event import Event
from millrace.contracts.tasks import TaskDispatched, TaskReport

PRODUCER = "https://github.com/millrace/millrace"
SCHEMA_URL = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
PARENT_SCHEMA_URL = "https://openlineage.io/spec/facets/1-1-0/ParentRunFacet.json#/$defs/ParentRunFacet"
JOB_TYPE_SCHEMA_URL = "https://openlineage.io/spec/facets/2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet"
TASK_SCHEMA_URL = f"{PRODUCER}#/$defs/MillraceTaskRunFacet"
FACTS_SCHEMA_URL = f"{PRODUCER}#/$defs/MillraceFactsDatasetFacet"

RunState = Literal["COMPLETE", "FAIL"]

#: In a task's name, which of many items it is for: all of those are runs of one job.
_KEY = re.compile(r"\[[^\]]*\]")


class LineageReported(Event):
    """An OpenLineage RunEvent of one task's run.

    Attributes:
        run_id: The OpenLineage run: the task's id.
        event: The RunEvent, as the 2-0-2 schema has it.
    """

    topic: ClassVar[str] = "{service}.lineage"
    key_field: ClassVar[str] = "run_id"

    service: str
    run_id: UUID
    event: dict[str, Any]


def ref(kind: str, identifier: str) -> str:
    """Return the name under which lineage knows a thing, such as `data.version:3f…`.

    Args:
        kind: `file`, `data.version`, `feature.view`, `feature.training_set`, `training.model`,
            `training.evaluation`, `inference.deployment`.
        identifier: The owner's id of it; a file's is `sha256:<digest>`.
    """
    return f"{kind}:{identifier}"


def openlineage_namespace(namespace: str) -> str:
    """Return the OpenLineage namespace of a tenant's jobs and things."""
    return f"millrace://{namespace}"


def run_event(
    *,
    namespace: str,
    service: str,
    task: TaskDispatched | TaskReport | LeasedTask,
    time: datetime,
    state: RunState,
    used: Sequence[str] = (),
    made: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    traceparent: str = "",
) -> dict[str, Any]:
    """Return the OpenLineage RunEvent of one attempt of a task.

    Args:
        namespace: The tenant.
        service: Who did the work.
        task: The run is its id, the parent run is the workflow's; as it was ordered, or as it is reported.
        time: When the attempt ended.
        state: How it ended.
        used: References to what it read; one that is repeated counts once.
        made: References to what it made, each with the facts worth showing.
        traceparent: W3C trace context of the work, or empty.
    """
    where = openlineage_namespace(namespace)
    parent = {"run": {"runId": str(task.run_id)}, "job": {"namespace": where, "name": task.workflow}}
    job_type = {"processingType": "BATCH", "integration": "MILLRACE", "jobType": "TASK"}
    about = {
        "kind": task.kind,
        "name": task.name,
        "workflow": task.workflow,
        "attempt": task.attempt,
        "service": service,
    }
    if isinstance(task, TaskDispatched):
        about["principal"] = task.principal
    if traceparent:
        about["traceparent"] = traceparent
    return {
        "eventType": state,
        "eventTime": time.isoformat(),
        "producer": PRODUCER,
        "schemaURL": SCHEMA_URL,
        "run": {
            "runId": str(task.task_id),
            "facets": {"parent": _facet(PARENT_SCHEMA_URL, parent), "millrace_task": _facet(TASK_SCHEMA_URL, about)},
        },
        "job": {
            "namespace": where,
            "name": f"{task.workflow}.{_KEY.sub('[]', task.name)}",
            "facets": {"jobType": _facet(JOB_TYPE_SCHEMA_URL, job_type)},
        },
        "inputs": [{"namespace": where, "name": name} for name in sorted(set(used))],
        "outputs": [_output(where, name, made[name]) for name in sorted(made)],
    }


def _output(where: str, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    facets = {"millrace_facts": _facet(FACTS_SCHEMA_URL, {"facts": dict(facts)})} if facts else {}
    return {"namespace": where, "name": name, "facets": facets}


def _facet(schema_url: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": schema_url, **fields}
