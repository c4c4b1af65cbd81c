"""Everything control does: one function per command, kind of report, record and tick."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from millrace.contracts import SERVICES
from millrace.contracts.event import Event
from millrace.contracts.tasks import TaskReport
from millrace.control.commands import ApplyTrigger, ApplyWorkflow, CancelRun, ExplainEvent, StartRun
from millrace.control.domain.events import Received, read_record
from millrace.control.domain.explain import Explanation, explain
from millrace.control.domain.runs import KeptRun, events_of, input_of
from millrace.control.store import Arrival, InForce, Kept, Start, Store, Turn
from millrace.core import state
from millrace.core.decide import decide
from millrace.core.plan import Plan
from millrace.core.state import CancelRequested, Collect, Collected, Decision, Input, Run, RunState, Tick
from millrace.core.triggers import Source, match
from millrace.runtime.errors import Conflict, InvalidInput
from millrace.runtime.failpoints import failpoint
from millrace.runtime.held import hold
from millrace.runtime.subscriptions import Record, on_batch
from millrace.runtime.telemetry import current_traceparent, span

SERVICE = "control"
TASK_TOPICS = tuple(f"{name}.tasks" for name in SERVICES)

log = structlog.get_logger()


async def apply_workflow(command: ApplyWorkflow, tx: Store) -> bool:
    """Put a workflow in force for new runs; return whether it was not already."""
    return await tx.put_workflow(command.namespace, command.workflow, command.principal)


async def apply_trigger(command: ApplyTrigger, tx: Store) -> bool:
    """Put a trigger in force; return whether it was not already.

    Raises:
        NotFound: Its workflow does not exist.
        Conflict: Its topic has another source, which other triggers listen to.
    """
    trigger, namespace = command.trigger, command.namespace
    await tx.plan_in_force(namespace, trigger.workflow)
    source = await tx.hold_source(namespace, trigger.source.topic)
    if source is not None and source != trigger.source:
        others = await tx.triggers_of(namespace, trigger.source.topic, but=trigger.name)
        if others:
            raise Conflict(
                f"topic {trigger.source.topic} is read as {source.model_dump(exclude_defaults=True)} by trigger "
                f"{', '.join(others)}; a topic has one source in a namespace"
            )
    if await tx.hold_trigger(namespace, trigger.name) == trigger:
        return False
    tx.put_source(namespace, trigger.source)
    tx.put_trigger(namespace, trigger, command.principal)
    return True


async def start_run(command: StartRun, tx: Store) -> KeptRun:
    """Start a run of a workflow on the caller's behalf.

    Raises:
        NotFound: The workflow does not exist.
    """
    plan = await tx.plan_in_force(command.namespace, command.workflow)
    await failpoint("control.start_run")
    given = {"id": "", "source": "", "type": "", "subject": "", "time": tx.now.isoformat(), "data": command.data}
    kept = _pending(
        tx.new_id(),
        plan,
        given,
        tx,
        namespace=command.namespace,
        principal=command.principal,
        traceparent=current_traceparent(),
    )
    await _begin_runs([kept], [kept], tx)
    return kept


async def cancel_run(command: CancelRun, tx: Store) -> KeptRun:
    """Ask a run to stop; one that is ending already goes on to its end.

    Raises:
        NotFound: It does not exist.
        Conflict: It has ended.
    """
    kept = await tx.hold_run(command.namespace, command.run_id)
    if kept.run.state.ended:
        raise Conflict(f"run {command.run_id} is {kept.run.state}, it has ended already")
    await failpoint("control.cancel_run")
    cause = f"cancelled by {command.principal}" + (f": {command.reason}" if command.reason else "")
    await _advance([(kept, [CancelRequested(cause)], None)], tx)
    return kept


async def apply_reports(reports: Sequence[TaskReport], tx: Store) -> None:
    """Move each run on by what the services say of its tasks."""
    by_run: defaultdict[UUID, list[TaskReport]] = defaultdict(list)
    for report in reports:
        by_run[report.run_id].append(report)
    kept_runs = await tx.hold_runs(by_run)
    await failpoint("control.runs_held")
    if len(kept_runs) < len(by_run):
        missing = by_run.keys() - {kept.run.run_id for kept in kept_runs}
        log.warning("reports_refused", reason="the run does not exist", run_ids=sorted(map(str, missing)))
    await _advance(
        [(kept, [input_of(r) for r in by_run[kept.run.run_id]], by_run[kept.run.run_id][-1]) for kept in kept_runs], tx
    )
    await failpoint("control.decided")


async def take_records(records: Sequence[Record], tx: Store) -> None:
    """Keep the events in records of foreign topics, and start what their triggers say.

    Raises:
        InvalidInput: A record is an event in nobody's format.
    """
    topics = sorted({record.topic for record in records})
    sources, triggers = await tx.rules(topics)
    arrivals = [arrival for record in records for arrival in _arrivals(record, sources, tx)]
    wanted = _starts(arrivals, triggers, tx)
    taken = await tx.add_events(arrivals, list(wanted))
    await failpoint("control.events_kept")
    if taken:
        await _start_runs([(start.run_id, start.arrival, wanted[start]) for start in taken], tx)


async def fire_due(run_ids: Sequence[UUID], tx: Store) -> int:
    """Let happen what is due of some runs, and return of how many; one that somebody else holds is left for later."""
    kept_runs = await tx.hold_runs(run_ids, skip_locked=True)
    await _advance([(kept, [Tick()], None) for kept in kept_runs], tx)
    await failpoint("control.fired")
    return len(kept_runs)


async def start_next_in_queues(turns: Sequence[Turn], tx: Store) -> None:
    """Start the runs whose turn has come, if it still has."""
    await tx.hold_queues(sorted({(turn.namespace, turn.trigger) for turn in turns}))
    await failpoint("control.turn")
    mine = [
        turn.run_id
        for turn in turns
        if await tx.first_in_queue(turn.namespace, turn.trigger) == (turn.run_id, RunState.PENDING)
    ]
    await _advance([(kept, [state.Start()], None) for kept in await tx.hold_runs(mine)], tx)


async def explain_event(asked: ExplainEvent, tx: Store) -> tuple[Kept | None, list[Explanation]]:
    """Return an event as it came, None when it has not, and what each trigger made of it."""
    arrived = await tx.event(asked.namespace, asked.source, asked.event_id)
    if arrived is None:
        return None, []
    matches = await tx.matches(asked.namespace, asked.source, asked.event_id)
    recorded = {found.trigger: (found.disposition, found.dedupe_key, found.run_id) for found in matches}
    _, triggers = await tx.rules([arrived.topic])
    mine = [rule.trigger for rule in triggers if rule.namespace == asked.namespace]
    return arrived, explain(arrived.event, mine, recorded)


def _arrivals(record: Record, sources: Sequence[tuple[str, Source]], tx: Store) -> list[Arrival]:
    """Return a record as the event that it is in each namespace that reads its topic.

    A namespace that reads it in another way than it is written keeps it from nobody else: it is held for that one.
    """
    arrivals: list[Arrival] = []
    refusals: list[InvalidInput] = []
    for namespace, source in sources:
        if source.topic == record.topic:
            try:
                received = read_record(record, source)
            except InvalidInput as error:
                refusals.append(InvalidInput(f"namespace {namespace}: {error}"))
                continue
            if received.namespace in {"", namespace}:
                arrivals.append(Arrival(namespace, received, record))
    if refusals and not arrivals:
        raise refusals[0]
    if refusals:
        hold(tx, SERVICE, record, "; ".join(map(str, refusals)))
    return arrivals


async def _advance(told: Iterable[tuple[KeptRun, Sequence[Input], Event | None]], tx: Store) -> None:
    """Decide on held runs, keep what was decided and say what follows."""
    asked = [*told]
    await _tell_outputs(_decide(asked, tx), {kept.run.run_id: cause for kept, _, cause in asked}, tx)


async def _tell_outputs(
    decided: Sequence[tuple[KeptRun, Decision]], causes: Mapping[UUID, Event | None], tx: Store
) -> None:
    """Read, for decisions that ask for them, the outputs of items, and go on with those."""
    while asked := [
        (kept, [effect.name for effect in decision.effects if isinstance(effect, Collect)])
        for kept, decision in decided
        if any(isinstance(effect, Collect) for effect in decision.effects)
    ]:
        told = [
            (kept, [Collected(n, await tx.outputs(kept.run.run_id, n)) for n in names], causes.get(kept.run.run_id))
            for kept, names in asked
        ]
        decided = _decide(told, tx)


def _decide(
    told: Iterable[tuple[KeptRun, Sequence[Input], Event | None]], tx: Store
) -> Sequence[tuple[KeptRun, Decision]]:
    decided: list[tuple[KeptRun, Decision]] = []
    for kept, inputs, cause in told:
        decision = decide(kept.run, kept.plan, inputs, tx.now, tx.new_id)
        kept.run = decision.run
        for refused in decision.refused:
            if not isinstance(refused.input, Tick):
                log.info(
                    "input_refused",
                    run_id=str(kept.run.run_id),
                    input=type(refused.input).__name__,
                    reason=refused.reason,
                )
        if decision.changed or decision.run_changed:
            decided.append((kept, decision))
            _say(kept, decision, cause, tx)
    if decided:
        tx.save_decisions(decided)
    return decided


def _say(kept: KeptRun, decision: Decision, cause: Event | None, tx: Store) -> None:
    if cause is not None:
        for event in events_of(kept, decision, tx.now):
            tx.emit(event, cause=cause)
    elif decision.effects:
        with span(SERVICE, "run decide", parent=kept.traceparent):
            for event in events_of(kept, decision, tx.now):
                tx.emit(event)


async def _begin_runs(runs: Sequence[KeptRun], at_once: Sequence[KeptRun], tx: Store) -> None:
    """Keep new runs and start those that need not wait."""
    decided: list[tuple[KeptRun, Decision]] = []
    for kept in at_once:
        decision = decide(kept.run, kept.plan, [state.Start()], tx.now, tx.new_id)
        kept.run = decision.run
        decided.append((kept, decision))
        _say(kept, decision, None, tx)
    tx.add_runs(runs)
    tx.save_decisions(decided, new=True)
    await _tell_outputs(decided, {}, tx)


def _starts(arrivals: Sequence[Arrival], triggers: Sequence[InForce], tx: Store) -> dict[Start, InForce]:
    """Return what triggers make of events, should those not have come before."""
    starts: dict[Start, InForce] = {}
    for arrival in arrivals:
        for rule in triggers:
            if rule.namespace != arrival.namespace or rule.trigger.source.topic != arrival.record.topic:
                continue
            found = match(rule.trigger, arrival.received.event)
            if found.taken:
                starts[Start(arrival, rule.trigger.name, found.dedupe_key, tx.new_id())] = rule
    return starts


async def _start_runs(starting: Sequence[tuple[UUID, Arrival, InForce]], tx: Store) -> None:
    queued = sorted({(r.namespace, r.trigger.name) for _, _, r in starting if r.trigger.strategy == "queue"})
    queues = await tx.hold_queues(queued) if queued else {}
    busy = {queue for queue in queued if await tx.first_in_queue(*queue) is not None}
    plans = await tx.plans(rule.sha256 for _, _, rule in starting)
    runs, at_once = [], []
    for run_id, arrival, rule in starting:
        queue = (rule.namespace, rule.trigger.name)
        place = None
        if queue in queues:
            place = queues[queue] = queues[queue] + 1
        kept = _pending(
            run_id,
            plans[rule.sha256],
            arrival.received.event.document(),
            tx,
            namespace=rule.namespace,
            principal=rule.principal,
            traceparent=_trace_of(arrival.received),
            trigger_name=rule.trigger.name,
            place=place,
        )
        runs.append(kept)
        if queue not in busy:
            at_once.append(kept)
        if place is not None:
            busy.add(queue)
    for (namespace, trigger), count in queues.items():
        tx.save_queued(namespace, trigger, count)
    await _begin_runs(runs, at_once, tx)
    await failpoint("control.runs_begun")


def _pending(
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
) -> KeptRun:
    return KeptRun(
        run=Run(run_id, RunState.PENDING, trigger),
        plan=plan,
        namespace=namespace,
        workflow=plan.workflow.name,
        sha256=plan.workflow.sha256,
        principal=principal,
        trigger_name=trigger_name,
        place=place,
        traceparent=traceparent,
        created_at=tx.now,
    )


def _trace_of(received: Received) -> str:
    """Return the trace that a run begins with: its event's, or a new one."""
    with span(SERVICE, "trigger match", parent=received.traceparent):
        return current_traceparent()


SUBSCRIPTIONS = (on_batch(TaskReport, apply_reports, topics=TASK_TOPICS, start="earliest"),)
