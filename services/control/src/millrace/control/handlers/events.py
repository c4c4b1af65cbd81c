"""Events from outside: kept once each, and what triggers make of them."""

from collections.abc import Sequence

from millrace.control.commands import ExplainEvent, GetRun
from millrace.control.domain.events import read_record
from millrace.control.domain.explain import Explanation, Turn, explain
from millrace.control.domain.explain import explain_run as explain_run_of
from millrace.control.domain.explain_tasks import asked_keys
from millrace.control.domain.runs import KeptRun
from millrace.control.domain.schedules import schedule_of
from millrace.control.handlers.awaited import why_nothing_comes
from millrace.control.handlers.deciding import SERVICE
from millrace.control.handlers.pools import why_tasks_wait
from millrace.control.handlers.triggers import start_runs
from millrace.control.store import Arrival, InForce, Kept, Rules, Start, Store
from millrace.core.triggers import Match, match
from millrace.runtime.errors import InvalidInput
from millrace.runtime.failpoints import failpoint
from millrace.runtime.held import hold
from millrace.runtime.subscriptions import Record


async def take_records(records: Sequence[Record], tx: Store) -> None:
    """Keep the events in records of foreign topics, and start what their triggers say.

    Raises:
        InvalidInput: A record is an event in nobody's format.
    """
    rules = await tx.rules()
    arrivals = [arrival for record in records for arrival in _arrivals(record, rules, tx)]
    wanted = _starts(arrivals, rules, tx)
    taken = await tx.add_events(arrivals, list(wanted))
    tx.note_matched((start.arrival.namespace, start.trigger) for start in taken)
    await failpoint("control.events_kept")
    if taken:
        await start_runs([(start, wanted[start]) for start in taken], tx)


async def explain_event(asked: ExplainEvent, tx: Store) -> tuple[Kept | None, list[Explanation]]:
    """Return an event as it came, None when it has not, and what each trigger made of it.

    Raises:
        InvalidInput: It is not said of which source, and several have an event with this id.
    """
    sources = [asked.source] if asked.source else await tx.sources_of(asked.namespace, asked.event_id)
    if len(sources) > 1:
        raise InvalidInput(f"source: several have an event {asked.event_id}, say which: {', '.join(sources)}")
    arrived = await tx.event(asked.namespace, sources[0], asked.event_id) if sources else None
    if arrived is None:
        return None, []
    matches = await tx.matches(asked.namespace, arrived.event.source, asked.event_id)
    triggers = await tx.triggers_at(asked.namespace, arrived.received_at)
    return arrived, explain(arrived.event, arrived.topic, arrived.received_at, triggers, matches)


async def explain_run(asked: GetRun, tx: Store) -> tuple[KeptRun, list[str]]:
    """Return a run, and what started it and why it stands where it does, a sentence each.

    Raises:
        NotFound: It does not exist.
    """
    kept = await tx.run(asked.namespace, asked.run_id)
    turn = None
    if kept.run.started_at is None and not kept.run.state.ended and kept.place is not None:
        turn = await _turn(kept, kept.place, tx)
    keys = asked_keys(kept.run)
    results = await tx.slots(kept.namespace, keys) if keys else {}
    waits = {**await why_tasks_wait(kept, tx), **await why_nothing_comes(kept, tx)}
    return kept, explain_run_of(kept, turn, waits, results)


async def _turn(kept: KeptRun, place: int, tx: Store) -> Turn:
    waiting, under_way = await tx.before(kept.namespace, kept.trigger_name, place)
    if name := schedule_of(kept.trigger_name):
        row = await tx.shown_schedule(kept.namespace, name)
        return Turn(waiting, under_way, row["paused_by"], row["blocked_by"], None)
    shown = await tx.shown_trigger(kept.namespace, kept.trigger_name)
    next_at = shown.next_at if shown.next_at and shown.next_at > tx.now else None
    return Turn(waiting, under_way, shown.paused_by, shown.blocked_by, next_at)


def _arrivals(record: Record, rules: Rules, tx: Store) -> list[Arrival]:
    """Return a record as the event that it is in each namespace that reads its topic.

    A namespace that reads it in another way than it is written keeps it from nobody else: it is held for that one.
    """
    arrivals: list[Arrival] = []
    refusals: list[InvalidInput] = []
    for namespace, source in rules.readers(record.topic):
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


def _starts(arrivals: Sequence[Arrival], rules: Rules, tx: Store) -> dict[Start, InForce]:
    """Return what triggers make of events, should those not have come before."""
    starts: dict[Start, InForce] = {}
    for arrival in arrivals:
        event, topic = arrival.received.event, arrival.record.topic
        for rule in rules.index.candidates(arrival.namespace, topic, event):
            found = match(rule.trigger, event, topic)
            if found.taken:
                starts[_start(arrival, rule, found, tx)] = rule
            elif found.error:
                tx.note_failed((rule.namespace, rule.trigger.name), found.error)
    return starts


def _start(arrival: Arrival, rule: InForce, found: Match, tx: Store) -> Start:
    name, run_id = rule.trigger.name, tx.new_id()
    if rule.paused and rule.trigger.on_paused == "drop":
        return Start(arrival, name, found.dedupe_key, run_id, "dropped", reason="the trigger was paused")
    if rule.paused or rule.draining:
        return Start(arrival, name, found.dedupe_key, run_id, "queued", version=0)
    how = "waiting" if rule.trigger.gathers else "started"
    return Start(arrival, name, found.dedupe_key, run_id, how, rule.version, found.key, found.slot)
