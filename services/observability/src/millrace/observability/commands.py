"""What observability can be asked, checked."""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from millrace.contracts.event import Namespace
from millrace.runtime.command import Command
from pydantic import AwareDatetime, Field

Metric = Literal["run_duration_s", "task_duration_s", "task_queue_s", "runs", "events", "lag_s", "cost"]
USUAL_AUDIT_ROWS = 100


class GetSeries(Command):
    """Values of a metric over time.

    Attributes:
        start: From when; none for the beginning.
        end: Until when, exclusive; none for the present.
        labels: Only series with these labels; any of the metric's, and `run_id`.
    """

    namespace: Namespace
    metric: Metric
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    labels: Mapping[str, str] = {}


class GetRunCost(Command):
    """What a run took and cost, step by step."""

    namespace: Namespace
    run_id: UUID


class ListAudit(Command):
    """The newest mutating calls of all services."""

    namespace: Namespace
    limit: Annotated[int, Field(ge=1, le=1000)] = USUAL_AUDIT_ROWS
