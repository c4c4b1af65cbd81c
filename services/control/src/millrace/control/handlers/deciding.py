"""Deciding on runs: what is told them, what is kept of that, and what is said."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from millrace.contracts.event import Event
from millrace.control.domain.admission import Claims
from millrace.control.domain.runs import KeptRun, Parent, events_of
from millrace.control.handlers.admission import settle_claims
from millrace.control.handlers.orders import keep_orders, stopped_unleased
from millrace.control.store import Store
from millrace.core import state
from millrace.core.children import MAX_CHAIN, TOO_DEEP
from millrace.core.decide import decide
from millrace.core.plan import Plan, compile_plan
from millrace.core.state import (
    AskCache,
    AwaitEvent,
    CancelAttempt,
    ChildEnded,
    Collect,
    Collected,
    Decision,
    Input,
    Refused,
    Run,
    RunEnded,
    RunState,
    StartChild,
    TaskRun,
    TellCache,
    TellChild,
    Tick,
)
from millrace.runtime.errors import NotFound
from millrace.runtime.telemetry import span
from millrace.runtime.transaction import UnexpectedError

SERVICE = "control"

log = structlog.get_logger()


async def advance(told: Iterable[tuple[KeptRun, Sequence[Input], Event | None]], tx: Store) -> Sequence[Refused]:
    """Decide on held runs, keep what was decided and say what follows; return what was refused."""
    asked = [*told]
    decided = await _decide(asked, tx)
    await _follow(decided, {kept.run.run_id: cause for kept, _, cause in asked}, tx)
    return [refused for _, decision in decided for refused in decision.refused]


async def begin_runs(
    runs: Sequence[KeptRun],
    at_once: Sequence[KeptRun],
    tx: Store,
    told: Iterable[tuple[KeptRun, Sequence[Input], None]] = (),
) -> None:
    """Keep new runs and start those that need not wait; tell held ones what is said with that.

    All that they ask of pools is asked together: who has asked once asks for nothing of another namespace.
    """
    decided: list[tuple[KeptRun, Decision]] = []
    for kept in at_once:
        decision = decide(kept.run, kept.plan, [state.Start()], tx.now, tx.new_id)
        kept.run = decision.run
        decided.append((kept, decision))
        await _say(kept, decision, None, tx)
    tx.add_runs(runs)
    for kept in runs:
        if kept.rerun_of is not None:
            tx.take_over(kept)
    tx.save_decisions(decided, new=True)
    await _follow([*decided, *await _decide(told, tx)], {}, tx)


def pending(
    run_id: UUID,
    plan: Plan,
    trigger: dict[str, Any],
    tx: Store,
    *,
    namespace: str,
    principal: str,
    traceparent: str,
    trigger_name: str = "",
    place: int | None = None,
    parent: Parent | None = None,
    rerun_of: UUID | None = None,
    refresh: bool = False,
    tasks: dict[str, TaskRun] | None = None,
) -> KeptRun:
    """Return a run that has not started, with the records that it takes over."""
    return KeptRun(
        run=Run(run_id, RunState.PENDING, trigger, refresh=refresh, tasks=tasks or {}),
        plan=plan,
        namespace=namespace,
        workflow=plan.workflow.name,
        sha256=plan.workflow.sha256,
        principal=principal,
        trigger_name=trigger_name,
        place=place,
        traceparent=traceparent,
        created_at=tx.now,
        parent=parent,
        rerun_of=rerun_of,
        written_here=True,
    )


async def _follow(decided: Sequence[tuple[KeptRun, Decision]], causes: Mapping[UUID, Event | None], tx: Store) -> None:
    """Do what decisions ask of control itself and of pools, and go on with what comes of it."""
    held = {kept.run.run_id: kept for kept, _ in decided}
    claims = Claims()
    while decided:
        claims.take(decided)
        told = [(kept, await _done(kept, decision, tx), causes.get(kept.run.run_id)) for kept, decision in decided]
        again: list[tuple[KeptRun, Sequence[Input], Event | None]] = [one for one in told if one[1]]
        if again or claims.touched:
            await tx.settle()  # the same rows are written a second time
        if claims.touched and not again:
            # Last of all, with all rows written: who holds what pools have waits for nothing that another may hold.
            granted, claims = await settle_claims(claims, held.keys(), tx), Claims()
            again = [(held[run_id], said, causes.get(run_id)) for run_id, said in granted.items()]
        for kept, _, _ in again:
            kept.written_here = True
        decided = await _decide(again, tx)


async def _done(kept: KeptRun, decision: Decision, tx: Store) -> Sequence[Input]:
    """Read outputs, start and stop children, tell the parent; return what the run is to be told of it at once."""
    told: list[Input] = []
    for effect in decision.effects:
        match effect:
            case Collect(name=name):
                told.append(Collected(name, await tx.outputs(kept.run.run_id, name)))
            case StartChild():
                told += await _start_child(kept, effect, tx)
            case CancelAttempt():
                told += await stopped_unleased(kept, effect, tx)
            case AskCache() | TellCache():
                tx.add_result_mail(kept.namespace, kept.run.run_id, effect)
            case AwaitEvent():
                tx.add_awaited(kept.namespace, kept.run.run_id, effect)
            case TellChild(run_id=run_id, told=wish):
                tx.add_mail(run_id, wish)
            case RunEnded(state=ended, cause=cause) if kept.parent is not None:
                up = kept.parent
                tx.add_mail(up.run_id, ChildEnded(up.task, up.task_id, ended, cause, kept.run.output))
    return told


async def _start_child(kept: KeptRun, asked: StartChild, tx: Store) -> Sequence[Input]:
    """Start a run for a task; return what the task is to be told when that cannot be."""
    depth = kept.parent.depth + 1 if kept.parent is not None else 1
    if depth > MAX_CHAIN:
        return [ChildEnded(asked.name, asked.task_id, RunState.FAILED, TOO_DEEP)]
    try:
        plan = await tx.plan_in_force(kept.namespace, asked.workflow)
    except NotFound as error:
        return [ChildEnded(asked.name, asked.task_id, RunState.FAILED, str(error))]
    given = {
        "id": str(asked.task_id),
        "source": f"/millrace/control/runs/{kept.run.run_id}",
        "type": "subflow",
        "subject": asked.name,
        "time": tx.now.isoformat(),
        "data": asked.data,
    }
    child = pending(
        asked.run_id,
        plan,
        given,
        tx,
        namespace=kept.namespace,
        principal=kept.principal,
        traceparent=kept.traceparent,
        parent=Parent(kept.run.run_id, asked.name, asked.task_id, depth),
        refresh=kept.run.refresh,
    )
    # It begins in a transaction of its own: however many there are, none waits for all.
    tx.add_child(child)
    return []


async def _decide(
    told: Iterable[tuple[KeptRun, Sequence[Input], Event | None]], tx: Store
) -> Sequence[tuple[KeptRun, Decision]]:
    decided: list[tuple[KeptRun, Decision]] = []
    for kept, inputs, cause in told:
        decision = decide(kept.run, kept.plan, inputs, tx.now, tx.new_id)
        kept.run = decision.run
        if decision.planned is not None:
            kept.plan, kept.planned_sha256 = compile_plan(decision.planned), decision.planned.sha256
        for refused in decision.refused:
            if not isinstance(refused.input, Tick):
                log.info(
                    "input_refused",
                    run_id=str(kept.run.run_id),
                    input=type(refused.input).__name__,
                    reason=refused.reason,
                )
        decided.append((kept, decision))
        if decision.changed or decision.run_changed or decision.effects:
            await _say(kept, decision, cause, tx)
    # What is decided of a run that is not locked counts only if it is still so, also that nothing is to be done.
    if saved := [one for one in decided if one[1].changed or one[1].run_changed or not one[0].ours]:
        tx.save_decisions(saved)
    return decided


async def _say(kept: KeptRun, decision: Decision, cause: Event | None, tx: Store) -> None:
    events: Iterable[Event] = events_of(kept, decision, tx.now, chains=tx.signals.chains)
    if leased := await tx.leased_queues(kept.plan.queues):
        if not kept.ours:
            raise UnexpectedError(f"run {kept.run.run_id} has tasks that are leased, under its lock only")
        events = keep_orders(kept, decision, events, leased, tx)
    if cause is not None:
        for event in events:
            tx.emit(event, cause=cause)
    elif decision.effects:
        with span(SERVICE, "run decide", parent=kept.traceparent):
            for event in events:
                tx.emit(event)
