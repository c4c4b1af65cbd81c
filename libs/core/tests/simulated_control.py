"""Control in the simulator: it reads, decides, commits, sends, acknowledges, and may die between any two of these."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from choices import Choices
from lines import Lines
from millrace.core.cache_key import key_of
from millrace.core.decide import decide
from millrace.core.items import outputs_of
from millrace.core.parse import parse_workflow
from millrace.core.parts import Cache
from millrace.core.plan import Plan, compile_plan
from millrace.core.results import Results
from millrace.core.state import (
    Admitted,
    AskCache,
    AskSlots,
    AwaitEvent,
    CacheAnswered,
    CancelAcknowledged,
    CancelAttempt,
    ChildEnded,
    Collect,
    Collected,
    CutChain,
    Decision,
    Dispatch,
    EventCame,
    Failed,
    FreeSlots,
    Input,
    Run,
    RunEnded,
    RunState,
    StartChild,
    Succeeded,
    TaskRun,
    TellCache,
    TellChild,
)
from programs import document
from simulation import T0, check, next_due, pending, tickets

BY_HAND = {"ok": True, "x": -1}
OTHER = "another run's"
RESULTS = (Succeeded, Failed, CancelAcknowledged)
Decide = Callable[[Run, Plan, Sequence[Input], datetime, Callable[[], UUID]], Decision]


@dataclass
class Message:
    """Something sent; it may come more often than once.

    Attributes:
        key: What it is about: orders of one task stay in order, and reports of one chain, by its first token.
    """

    message_id: int
    key: UUID
    what: Any


@dataclass
class Child:
    """A run that a task has started.

    Attributes:
        told_to_stop: Somebody wanted it to stop.
        ended: How it has ended; None while it goes on.
        heard: Its end counted.
    """

    started: StartChild
    heard: bool = False
    told_to_stop: bool = False
    ended: ChildEnded | None = None


@dataclass
class Kept:
    """What control has committed: a crash leaves this and nothing else."""

    run: Run
    past: dict[str, TaskRun] = field(default_factory=dict)
    inbox: set[int] = field(default_factory=set)
    outbox: list[Message] = field(default_factory=list)
    applied: Counter[int] = field(default_factory=Counter)
    results: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    ends: int = 0
    lines: Lines = field(default_factory=lambda: Lines({"p": 2, "q": 1}))
    #: The cache, what it is still to be asked and told; and what it and pools have said that the run has not read yet.
    cache: Results = field(default_factory=Results)
    asked: list[AskCache | TellCache] = field(default_factory=list)
    mail: list[Admitted | CacheAnswered | ChildEnded | EventCame] = field(default_factory=list)
    #: Who waits for an event, and what each that has waited for one was given.
    awaited: list[AwaitEvent] = field(default_factory=list)
    events: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    children: dict[UUID, Child] = field(default_factory=dict)


@dataclass(frozen=True)
class Faults:
    """Bugs that are planted, to see that they are found."""

    forgets: bool = False
    deletes_before_sending: bool = False
    acknowledges_before_committing: bool = False
    keeps_slots_of_the_lost: bool = False
    leaves_children: bool = False
    decide: Decide = decide


class Control:
    """Control of one run: what it has committed, and what it reads and sends.

    Attributes:
        reports: By the token of a chain's first attempt, what workers have said; control reads each in order.
        orders: By task, what control has sent; a worker reads each in order.
        begun: Attempts that workers have begun by themselves, as links of a chain: who they are, and their tokens.
        effects: What work has done outside, once per task however often it was tried.
    """

    def __init__(self, choices: Choices, faults: Faults) -> None:
        self.pick = choices.pick
        self.faults = faults
        self.plan = compile_plan(parse_workflow(document(choices.pick)))
        self.kept = Kept(pending())
        self.now = T0
        self.reports: defaultdict[UUID, list[Message]] = defaultdict(list)
        self.orders: defaultdict[UUID, list[Message]] = defaultdict(list)
        self.effects: dict[UUID, Any] = {}
        self.begun: set[tuple[UUID, int, UUID]] = set()
        self._acknowledged: Counter[UUID] = Counter()
        self._others: set[UUID] = set()
        self._ids = 100
        self._round: Iterator[str] | None = None
        self._earlier_runs()

    def _earlier_runs(self) -> None:
        """Have earlier runs leave results, perhaps."""
        for cache in (Cache(), Cache(version="2")):
            if self.pick([False, True]):
                key, task_id = key_of("data.ingest", cache, {}, None), self.new_id()
                output = self.effects[task_id] = {"ok": True, "x": task_id.int}
                told = TellCache("before", task_id, key, "data.ingest", {}, output=output, kept_s=cache.expires_s)
                self.kept.cache.tell(UUID(int=8), told, T0)

    # A round is read, decide, commit, send, acknowledge; each `yield` is a place to die at.

    def control(self) -> None:
        """Let control take one step."""
        if self._round is None:
            self._round = self._rounds()
        if next(self._round, None) is None:
            self._round = None

    def crash(self) -> None:
        """Kill control where it is."""
        self._round = None

    def ask(self, happened: Input) -> None:
        """Have control decide on a call, or on what is due."""
        self._commit([], [happened])

    def _rounds(self) -> Iterator[str]:
        waiting = [key for key, told in self.reports.items() if len(told) > self._acknowledged[key]]
        chosen = [key for key in waiting if self.pick([True, False])] or waiting[:1]
        ends = {key: self.pick(range(self._acknowledged[key], len(self.reports[key]))) + 1 for key in chosen}
        batch = [one for key, end in ends.items() for one in self.reports[key][self._acknowledged[key] : end]]
        yield "read"
        if self.faults.acknowledges_before_committing:
            self._acknowledged |= Counter(ends)
            yield "acknowledged"
        known = set() if self.faults.forgets else self.kept.inbox
        fresh = {one.message_id: one for one in batch if one.message_id not in known}
        if fresh:
            self._commit([*fresh], [one.what for one in fresh.values()])
            yield "committed"
        for one in [*self.kept.outbox]:
            if self.faults.deletes_before_sending:
                self.kept.outbox.remove(one)
                yield "deleted"
            self.orders[one.key].append(one)
            yield "sent"
            if one in self.kept.outbox:
                self.kept.outbox.remove(one)
        self._acknowledged |= Counter(ends)
        yield "acknowledged"

    def _commit(self, message_ids: Sequence[int], inputs: Sequence[Input]) -> None:
        kept, told = self.kept, inputs
        kept.inbox.update(message_ids)
        kept.applied.update(message_ids)
        while told:
            before = kept.run
            decision = self.faults.decide(before, self.plan, told, self.now, self.new_id)
            check(self, before, decision)
            kept.run = decision.run
            if decision.planned is not None:
                self.plan = compile_plan(decision.planned)
            kept.past |= {name: (before.tasks | decision.changed)[name] for name in decision.retired}
            refused = [id(one.input) for one in decision.refused]
            for one in (t for t in told if isinstance(t, RESULTS) and id(t) not in refused):
                known = before.tasks.get(one.name)
                its_own = known is not None and known.token == one.token
                began = (one.task_id, one.attempt, one.token) in self.begun  # perhaps with what was told before it
                assert its_own or began, "a result counted for another attempt than its own"
                kept.results[one.task_id, one.attempt] += 1
            for child in kept.children.values():
                child.heard |= any(one is child.ended and id(one) not in refused for one in told)
            kept.asked += [effect for effect in decision.effects if isinstance(effect, AskCache | TellCache)]
            kept.awaited += [effect for effect in decision.effects if isinstance(effect, AwaitEvent)]
            self._take_children(decision)
            kept.ends += sum(isinstance(effect, RunEnded) for effect in decision.effects)
            sent = [effect for effect in decision.effects if isinstance(effect, Dispatch | CutChain | CancelAttempt)]
            kept.outbox += [Message(self._number(), effect.task_id, effect) for effect in sent]
            asked = [effect.name for effect in decision.effects if isinstance(effect, Collect)]
            told = [Collected(name, outputs_of(kept.past | kept.run.tasks, name)) for name in asked]
            told += self._settle_slots(decision)
            held = {*kept.lines.leases, *kept.lines.waiters} - self._others
            assert held == {*tickets(kept.run)}, "who has a ticket has a lease or a place, and nobody else"

    def _take_children(self, decision: Decision) -> None:
        """Start runs that are asked for, and pass on what those are told."""
        for effect in decision.effects:
            if isinstance(effect, StartChild):
                assert effect.run_id not in self.kept.children, "a run of another workflow is started once"
                self.kept.children[effect.run_id] = Child(effect)
            elif isinstance(effect, TellChild) and not self.faults.leaves_children:
                self.kept.children[effect.run_id].told_to_stop = True

    def going_children(self) -> list[Child]:
        """Return the runs that tasks have started and that go on."""
        return [child for child in self.kept.children.values() if child.ended is None]

    def end_child(self) -> None:
        """Have a run that a task has started end."""
        child = self.pick(self.going_children())
        ways = [RunState.SUCCEEDED, RunState.FAILED, RunState.REFUSED, RunState.CANCELLED]
        state, started = RunState.CANCELLED if child.told_to_stop else self.pick(ways), child.started
        output = {"ok": True, "x": started.run_id.int} if state is RunState.SUCCEEDED else None
        child.ended = ChildEnded(started.name, started.task_id, state, "so", output)
        self.kept.mail.append(child.ended)

    def _settle_slots(self, decision: Decision) -> list[Input]:
        """Let in whose turn it is; return what the run is told of it at once: it may have it as mail instead."""
        lines = self.kept.lines
        lost = self.faults.keeps_slots_of_the_lost and any(task.losses for task in decision.changed.values())
        for effect in decision.effects:
            if isinstance(effect, AskSlots):
                lines.ask(effect)
            elif isinstance(effect, FreeSlots) and not lost:
                lines.free(effect.ticket)
        granted = self._let_in()
        if self.pick([True, False]):
            return granted
        self.kept.mail += granted
        return []

    def _let_in(self) -> list[Any]:
        lines = self.kept.lines
        names = {ticket: one.name for ticket, (_, one) in lines.waiters.items()}
        grants = lines.let_in(self.now).grants
        assert all(lines.taken(pool) <= slots for pool, slots in lines.slots.items()), "more slots taken than there are"
        return [Admitted(names[grant.ticket], grant.ticket) for grant in grants if names[grant.ticket] != OTHER]

    def next_due(self) -> datetime | None:
        """Return when something is due."""
        return next_due(self.kept.run)

    def new_id(self) -> UUID:
        """Return an id that nothing else has."""
        return UUID(int=self._number())

    def _number(self) -> int:
        self._ids += 1
        return self._ids
