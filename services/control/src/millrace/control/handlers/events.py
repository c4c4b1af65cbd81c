"""Events from outside: kept once each, and what triggers make of them."""

from collections.abc import Sequence
from uuid import UUID

from millrace.control.commands import ExplainEvent
from millrace.control.domain.events import Received, read_record
from millrace.control.domain.explain import Explanation, explain
from millrace.control.handlers.deciding import SERVICE, begin_runs, pending
from millrace.control.store import Arrival, InForce, Kept, Start, Store
from millrace.core.triggers import Source, match
from millrace.runtime.errors import InvalidInput
from millrace.runtime.failpoints import failpoint
from millrace.runtime.held import hold
from millrace.runtime.subscriptions import Record
from millrace.runtime.telemetry import current_traceparent, span


async def take_records(records: Sequence[Record], tx: Store) -> None:
    """Keep the events in records of foreign topics, and start what their triggers say.

    Raises:
        InvalidInput: A record is an event in nobody's format.
    """
    topics = sorted({record.topic for record in records})
    rules = await tx.rules(topics)
    arrivals = [arrival for record in records for arrival in _arrivals(record, rules.sources, tx)]
    wanted = _starts(arrivals, rules.triggers, tx)
    taken = await tx.add_events(arrivals, list(wanted))
    await failpoint("control.events_kept")
    if taken:
        await _start_runs([(start.run_id, start.arrival, wanted[start]) for start in taken], tx)


async def explain_event(asked: ExplainEvent, tx: Store) -> tuple[Kept | None, list[Explanation]]:
    """Return an event as it came, None when it has not, and what each trigger made of it."""
    arrived = await tx.event(asked.namespace, asked.source, asked.event_id)
    if arrived is None:
        return None, []
    matches = await tx.matches(asked.namespace, asked.source, asked.event_id)
    recorded = {found.trigger: (found.disposition, found.dedupe_key, found.run_id) for found in matches}
    rules = await tx.rules([arrived.topic])
    mine = [rule.trigger for rule in rules.triggers if rule.namespace == asked.namespace]
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
        kept = pending(
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
    await begin_runs(runs, at_once, tx)
    await failpoint("control.runs_begun")


def _trace_of(received: Received) -> str:
    """Return the trace that a run begins with: its event's, or a new one."""
    with span(SERVICE, "trigger match", parent=received.traceparent):
        return current_traceparent()
