"""What a decision says to others: orders to queues, facts about runs, lineage."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from operator import attrgetter
from types import MappingProxyType
from typing import Any
from uuid import UUID

from millrace.contracts import control as facts
from millrace.contracts import tasks
from millrace.contracts.event import Event
from millrace.contracts.openlineage import (
    PARENT_SCHEMA_URL,
    PRODUCER,
    SCHEMA_URL,
    LineageReported,
    openlineage_namespace,
)
from millrace.contracts.tasks import (
    ChainCut,
    ChainedTask,
    Hole,
    Resources,
    TaskCancelled,
    TaskDispatched,
    TaskFailed,
    TaskProgressed,
    TaskReport,
    TaskStarted,
    TaskSucceeded,
)
from millrace.control.domain.plans import misfit_in_plan
from millrace.core.ir import Task
from millrace.core.plan import Plan
from millrace.core.planning import INVALID_PLAN
from millrace.core.state import (
    CancelAcknowledged,
    CancelAttempt,
    Carried,
    CutChain,
    DeadlineMissed,
    Decision,
    Dispatch,
    Failed,
    Failure,
    Input,
    Link,
    Progressed,
    Run,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    RunState,
    Started,
    Succeeded,
)

#: What ends an attempt without fault of the work: its worker went or had to, or what it needs was down or overloaded.
BLAMELESS = frozenset({"lost", "preempted", "Unavailable", "Overloaded"})
ENDINGS: Mapping[RunState, type[facts.RunEnded]] = {
    RunState.SUCCEEDED: facts.RunSucceeded,
    RunState.REFUSED: facts.RunRefused,
    RunState.FAILED: facts.RunFailed,
    RunState.CANCELLED: facts.RunCancelled,
}


@dataclass(frozen=True, slots=True)
class Parent:
    """The task that has started a run.

    Attributes:
        depth: How many such steps the run is from one that was started otherwise.
    """

    run_id: UUID
    task: str
    task_id: UUID
    depth: int


@dataclass(slots=True)
class KeptRun:
    """A run as it is kept: the snapshot for decisions, and what never changes.

    Attributes:
        place: Its place among the queued runs of its trigger; None when it never waits.
        traceparent: The trace that began with what started it.
        parent: What started it, where that is a task of another run.
        planned_sha256: The hash of its workflow with what its tasks have planned; None where they have not.
        rerun_of: The run that it does again.
        version: Counts its changes.
        locker: Which transaction had locked its row last, by `xmax`, when it was read without a lock; 0 for none. None
            where this one has locked it.
        written_here: Whether this transaction writes its row, so that nobody else can change it meanwhile.
        size_bytes: What it takes in memory, about.
    """

    run: Run
    plan: Plan
    namespace: str
    workflow: str
    sha256: str
    principal: str
    trigger_name: str
    place: int | None
    traceparent: str
    created_at: datetime
    parent: Parent | None = None
    planned_sha256: str | None = None
    rerun_of: UUID | None = None
    version: int = 0
    locker: int | None = 0
    written_here: bool = False
    size_bytes: int = 0

    @property
    def ours(self) -> bool:
        """Whether nobody else can change it before this transaction has ended."""
        return self.written_here or self.locker is None

    def copy(self) -> "KeptRun":
        """Return another one like it."""
        return KeptRun(*_values(self))


_values = attrgetter(*(field.name for field in fields(KeptRun)))


def input_of(report: TaskReport, live: Collection[str] = (), slots: Mapping[str, int] = MappingProxyType({})) -> Input:
    """Return what a report means to a decision.

    Args:
        report: What a service or a team's worker says.
        live: The queues of the namespace's teams, which what it plans may name.
        slots: How many slots the pools have that what it plans names.
    """
    at = (report.name, report.task_id, report.attempt, report.token)
    match report:
        case TaskSucceeded():
            why = misfit_in_plan(report.output, live, slots)
            failure = Failure(INVALID_PLAN, why, retryable=False)
            return Failed(*at, failure) if why else Succeeded(*at, report.output, went_on=report.went_on)
        case TaskFailed(error="cancelled"):
            return CancelAcknowledged(*at)
        case TaskFailed():
            lost = report.error in BLAMELESS
            failure = Failure(report.error, report.message, retryable=report.retryable, lost=lost)
            return Failed(*at, failure, carried=_carried(report.carried))
        case TaskProgressed():
            return Progressed(*at, report.fraction, report.message, carried=_carried(report.carried))
        case TaskStarted():
            return Started(*at)
    return Progressed(*at)


def _carried(told: tasks.Carried | None) -> Carried | None:
    return Carried(told.checkpoint, told.external_ref) if told is not None else None


def events_of(kept: KeptRun, decision: Decision, now: datetime, *, chains: bool = False) -> Iterator[Event]:
    """Yield what is to be said because of a decision, in order; `kept.run` is already what was decided.

    Args:
        kept: The run.
        decision: That.
        now: When.
        chains: Whether orders say what their workers may go on with.
    """
    about = {
        "namespace": kept.namespace,
        "run_id": kept.run.run_id,
        "workflow": kept.workflow,
        "workflow_hash": kept.sha256,
    }
    for effect in decision.effects:
        match effect:
            case Dispatch():
                yield _order(kept, effect, now, chains=chains)
            case CancelAttempt():
                yield TaskCancelled(**_about_attempt(kept, effect), reason=effect.reason[:500])
            case CutChain() if chains:
                yield ChainCut(**_about_attempt(kept, effect))
            case RunStarted():
                yield facts.RunStarted(
                    **about,
                    trigger=kept.trigger_name,
                    event_source=kept.run.trigger.get("source", ""),
                    event_id=kept.run.trigger.get("id", ""),
                    principal=kept.principal,
                    queued_s=max(0.0, (now - kept.created_at).total_seconds()),
                    rerun_of=kept.rerun_of,
                )
            case RunPaused(cause=cause):
                yield facts.RunPaused(**about, cause=cause)
            case RunResumed(cause=cause, paused_s=paused_s):
                yield facts.RunResumed(**about, cause=cause, paused_s=max(0.0, paused_s))
            case DeadlineMissed():
                yield facts.DeadlineMissed(
                    **about,
                    task=effect.name,
                    task_id=effect.task_id,
                    deadline=effect.deadline_at,
                    action=effect.action,
                )
            case RunEnded(state=state, cause=cause):
                duration_s = max(0.0, (now - (kept.run.started_at or now)).total_seconds())
                yield ENDINGS[state](**about, cause=cause, duration_s=duration_s)
                yield _lineage(kept, now)


def _about_attempt(kept: KeptRun, effect: Dispatch | CancelAttempt | CutChain) -> dict[str, Any]:
    """Return what every order says of its attempt."""
    return {
        "namespace": kept.namespace,
        "queue": kept.plan.step(effect.name).task.work_queue,
        "task_id": effect.task_id,
        "attempt": effect.attempt,
        "token": effect.token,
    }


def _order(kept: KeptRun, effect: Dispatch, now: datetime, *, chains: bool) -> TaskDispatched:
    task = kept.plan.step(effect.name).task
    return TaskDispatched(
        **_about_attempt(kept, effect),
        **_about_work(task),
        input=effect.input,
        run_id=kept.run.run_id,
        workflow=kept.workflow,
        name=effect.name,
        principal=kept.principal,
        deadline=now + timedelta(seconds=_lasts_s(task)),
        carried=tasks.Carried(**asdict(effect.carried)) if effect.carried is not None else None,
        chain=tuple(_chained(kept, link) for link in effect.chain) if chains else (),
    )


def _chained(kept: KeptRun, link: Link) -> ChainedTask:
    task = kept.plan.step(link.name).task
    return ChainedTask(
        task_id=link.task_id,
        token=link.token,
        **_about_work(task),
        name=link.name,
        input=link.input,
        holes=tuple(Hole(path=hole.path, task=hole.task, pointer=hole.pointer) for hole in link.holes),
        lasts_s=_lasts_s(task),
    )


def _about_work(task: Task) -> dict[str, Any]:
    """Return what is said of a task's work, ordered or chained."""
    return {
        "kind": task.kind or "",
        # The worker's own lease lapses first, so that its service can say so itself.
        "heartbeat_timeout_s": task.heartbeat_timeout_s / 2,
        "resources": Resources(**task.resources.needed()) if task.resources is not None else None,
    }


def _lasts_s(task: Task) -> float:
    return task.longest_start_s + task.run_timeout_s


def _lineage(kept: KeptRun, now: datetime) -> LineageReported:
    """Return the OpenLineage event of the run as a whole, the parent of its tasks' runs."""
    where = openlineage_namespace(kept.namespace)
    run = kept.run
    done = run.state is RunState.SUCCEEDED or run.state is RunState.REFUSED
    about = {
        "_producer": PRODUCER,
        "_schemaURL": f"{PRODUCER}#/$defs/MillraceRunFacet",
        "state": str(run.state),
        "cause": run.cause,
        "workflow": kept.workflow,
        "workflow_hash": kept.sha256,
        "trigger": kept.trigger_name,
        "event_source": run.trigger.get("source", ""),
        "event_id": run.trigger.get("id", ""),
        "principal": kept.principal,
        "started_at": run.started_at.isoformat() if run.started_at else None,
    }
    facets: dict[str, Any] = {"millrace_run": about}
    if kept.parent is not None:
        up = {"run": {"runId": str(kept.parent.task_id)}, "job": {"namespace": where, "name": kept.parent.task}}
        facets["parent"] = {"_producer": PRODUCER, "_schemaURL": PARENT_SCHEMA_URL, **up}
    event: dict[str, Any] = {
        "eventType": "COMPLETE" if done else "ABORT" if run.state is RunState.CANCELLED else "FAIL",
        "eventTime": now.isoformat(),
        "producer": PRODUCER,
        "schemaURL": SCHEMA_URL,
        "run": {"runId": str(run.run_id), "facets": facets},
        "job": {"namespace": where, "name": kept.workflow, "facets": {}},
        "inputs": [],
        "outputs": [],
    }
    return LineageReported(namespace=kept.namespace, service="control", run_id=run.run_id, event=event)
