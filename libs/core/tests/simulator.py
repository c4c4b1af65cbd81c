"""Control, a broker and workers in one process: what fails, and when, is chosen by a seed.

`make verify SEEDS=10000` runs that many seeds; a seed that breaks an invariant is printed with the shortest choices
that break it too. Each seed is one workflow. Control reads, decides, commits, sends and acknowledges, and may die
between any two of these; what it reads comes at least once, late, and in order only within one chain; workers answer,
fail, fall silent or die, and orders may be lost. Other runs take slots of the same pools, and give them back; those
that tasks have started end as they like, and are told to stop.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import Pool
from typing import Any
from uuid import UUID

from choices import Choices, shrunk
from lines import Lines
from millrace.core.cache_key import key_of
from millrace.core.decide import decide
from millrace.core.draft import CHILD
from millrace.core.items import outputs_of
from millrace.core.parse import parse_workflow
from millrace.core.parts import Cache
from millrace.core.plan import Plan, compile_plan
from millrace.core.results import Results
from millrace.core.state import (
    CACHE,
    SET_BY,
    TASK_OPEN,
    Admitted,
    AskCache,
    AskSlots,
    CacheAnswered,
    CancelAcknowledged,
    CancelAttempt,
    CancelRequested,
    ChildEnded,
    Collect,
    Collected,
    CutChain,
    Decision,
    Dispatch,
    Failed,
    Failure,
    FreeSlots,
    Input,
    PauseRequested,
    Progressed,
    ResultSet,
    ResumeRequested,
    Run,
    RunEnded,
    RunState,
    Signalled,
    Start,
    StartChild,
    Started,
    Succeeded,
    TaskRun,
    TaskState,
    TellCache,
    TellChild,
    Tick,
    Voted,
)
from programs import document, tasks
from simulation import RUN_ID, T0, answers_to, check, next_due, pending, tickets

CHAOS_STEPS = 120
QUIET_STEPS = 5_000
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
    mail: list[Admitted | CacheAnswered | ChildEnded] = field(default_factory=list)
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


class System:
    """One run, and all that can happen to it.

    Attributes:
        reports: By the token of a chain's first attempt, what workers have said; control reads each in order.
        orders: By task, what control has sent; a worker reads each in order.
        jobs: What workers do now.
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
        self.jobs: dict[UUID, Dispatch] = {}
        self.effects: dict[UUID, Any] = {}
        self.begun: set[tuple[UUID, int, UUID]] = set()
        #: By an attempt's place, the token that workers know it by; and by a link's token, that of its chain's first.
        self._places: dict[tuple[UUID, int], UUID] = {}
        self._chains: dict[UUID, UUID] = {}
        self._acknowledged: Counter[UUID] = Counter()
        self._taken: Counter[UUID] = Counter()
        self._seen: set[int] = set()
        self._stopped: set[UUID] = set()
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

    # Control: a round is read, decide, commit, send, acknowledge; each `yield` is a place to die at.

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

    # Workers.

    def take_order(self, key: UUID) -> None:
        """Have a worker read the next order of a task."""
        order = self.orders[key][self._taken[key]]
        self._taken[key] += 1
        if order.message_id in self._seen:
            return
        self._seen.add(order.message_id)
        what = order.what
        if isinstance(what, Dispatch) and what.token not in self._stopped:
            # What was begun there as a link that does not count gives way.
            self.jobs.pop(self._places.get((what.task_id, what.attempt), what.token), None)
            self._begin(what)
        elif isinstance(what, CutChain) and what.token in self.jobs:
            self.jobs[what.token] = replace(self.jobs[what.token], chain=())
        elif isinstance(what, CancelAttempt):
            self._stopped.add(what.token)
            if (job := self.jobs.pop(what.token, None)) is not None:
                self.say(CancelAcknowledged(job.name, job.task_id, job.attempt, job.token))

    def lose_order(self) -> None:
        """Have the next order of a task that is to begin or to stop come to nobody."""
        keys = [k for k in self.untaken() if not isinstance(self.orders[k][self._taken[k]].what, CutChain)]
        if keys:
            self._taken[self.pick(keys)] += 1

    def work(self, job: Dispatch, ends: str) -> None:
        """Have a worker say something of a job, or nothing any more."""
        at = (job.name, job.task_id, job.attempt, job.token)
        match ends:
            case "succeeds" | "goes on with the next":
                output = self.effects.setdefault(job.task_id, {"ok": job.task_id.int % 2 == 0, "x": job.task_id.int})
                self.say(Succeeded(*at, output, went_on=ends != "succeeds" and self._go_on(job)))
            case "plans" if self.plan.step(job.name).task.plans:
                self.say(Succeeded(*at, {"$plan": self._plan_for(job)}))
            case "plans" | "fails":
                self.say(Failed(*at, Failure(self.pick(["E", "F"]), "no", retryable=self.pick([True, False]))))
            case "is lost":
                self.say(Failed(*at, Failure("lost", "the worker died", lost=True)))
            case "starts":
                self.say(Started(*at))
            case "goes on":
                self.say(Progressed(*at, 0.5))
        if ends not in {"starts", "goes on"}:
            del self.jobs[job.token]

    def _begin(self, job: Dispatch) -> None:
        self._places[job.task_id, job.attempt] = job.token
        self.jobs[job.token] = job

    def _go_on(self, job: Dispatch) -> bool:
        """Have a worker begin the next link with a success; return whether it does."""
        for link in job.chain[:1]:
            if (link.task_id, 1) in self._places or link.token in self._stopped:
                return False
            self._chains[link.token] = self._chains.get(job.token, job.token)
            self.begun.add((link.task_id, 1, link.token))
            self._begin(Dispatch(link.name, link.task_id, 1, link.token, link.input, chain=job.chain[1:]))
        return bool(job.chain)

    def _plan_for(self, job: Dispatch) -> dict[str, Any]:
        made = tasks(self.pick, f"p{self._number()}x", most=2, depth=1, ends=False)
        return {"tasks": made, "output": {"ok": True, "x": job.task_id.int}}

    def say(self, fact: Any) -> None:
        """Publish what a worker says of a task, once or again."""
        key = self._chains.get(fact.token, fact.token)
        self.reports[key].append(Message(self._number(), key, fact))

    # Time, and what may happen next.

    def next_due(self) -> datetime | None:
        """Return when something is due."""
        return next_due(self.kept.run)

    def pass_time(self) -> None:
        """Let time pass until something is due, and let it happen."""
        due = self.next_due()
        assert due is not None, "what has not ended has something that wakes it"
        self.now = max(self.now, due)
        self.ask(Tick())

    def happenings(self) -> list[Callable[[], None]]:
        """Return what may happen next, at the worst."""
        found: list[Callable[[], None]] = [self.control, self.control, self.control]
        found += [partial(self.take_order, key) for key in self.untaken()]
        for job in self.jobs.values():
            ends = ("succeeds", *["goes on with the next"] * 4, "plans", "fails", "is lost", "says nothing more")
            ways = (*ends, *["starts"] * 4, "goes on")
            found += [partial(self.work, job, way) for way in ways]
        found += [self.look_up] * 5 * bool(self.kept.asked) + [self.read_mail] * 5 * bool(self.kept.mail)
        found += [self.end_child] * 2 * bool(self.going_children()) + [self.lose_order] * bool(self.untaken())
        found += [self.crash, self._again, self._wait_a_little, self._somebody_says, self._somebody_operates]
        found += [self._another_run] if self.kept.lines.leases or self.kept.lines.waiters else []
        if self.next_due() is not None:
            found.append(self.pass_time)
        return found

    def look_up(self) -> None:
        """Have the cache take what it is asked and told next."""
        for _, answer in answers_to(self.kept.cache, RUN_ID, self.kept.asked.pop(0), self.now):
            self.kept.mail.append(answer)

    def read_mail(self) -> None:
        """Have control read what the cache or pools have said, and now and then a second time."""
        told = self.kept.mail.pop(0)
        self.ask(told)
        if self.pick([False, True]):
            self.ask(told)

    def untaken(self) -> list[UUID]:
        """Return the tasks of which there is an order that no worker has read."""
        return [key for key, sent in self.orders.items() if len(sent) > self._taken[key]]

    def unread(self) -> bool:
        """Return whether control has something to read or to send."""
        unread = any(len(told) > self._acknowledged[key] for key, told in self.reports.items())
        return unread or bool(self.kept.outbox) or self._round is not None or bool(self.kept.mail)

    def leave(self) -> None:
        """Have all other runs give back their slots, and their places."""
        lines = self.kept.lines
        for ticket in self._others:
            lines.free(ticket)
        self.kept.mail += self._let_in()

    def _another_run(self) -> None:
        """Have another run ask for slots, or give some back."""
        lines = self.kept.lines
        others = [ticket for ticket in [*lines.leases, *lines.waiters] if ticket in self._others]
        if others and self.pick([True, False]):
            lines.free(self.pick(others))
        else:
            ticket = self.new_id()
            self._others.add(ticket)
            turn = (self.pick([1, 2]), self.pick([0, 1]), self.pick(["", "a"]))
            lines.ask(AskSlots(OTHER, ticket, ticket, self.pick(["p", "q"]), *turn))
        self.kept.mail += self._let_in()

    def _again(self) -> None:
        if told := [one for some in self.reports.values() for one in some]:
            one = self.pick(told)
            self.reports[one.key].append(one)

    def _somebody_says(self) -> None:
        waiting = [name for name, task in self.kept.run.tasks.items() if task.state == "waiting"]
        vote = Voted(self.pick(waiting or ["nothing"]), self.pick(["ada", "bob"]), self.pick([True, False]))
        self.ask(self.pick([Signalled("go", {"ok": True, "x": 1}), vote]))

    def _somebody_operates(self) -> None:
        going = [name for name, task in self.kept.run.tasks.items() if task.state in TASK_OPEN]
        state = self.pick([TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED])
        result = ResultSet(self.pick(going or ["nothing"]), state, "ada: by hand", BY_HAND)
        wish = ResumeRequested("ada") if self.kept.run.state is RunState.PAUSED else PauseRequested("ada")
        self.ask(self.pick([wish, wish, result]))

    def _wait_a_little(self) -> None:
        self.now += timedelta(seconds=self.pick([0.5, 3, 30]))

    def new_id(self) -> UUID:
        """Return an id that nothing else has."""
        return UUID(int=self._number())

    def _number(self) -> int:
        self._ids += 1
        return self._ids


def play(choices: Choices, faults: Faults) -> System:
    """Run one system through its faults and then to its end.

    Raises:
        AssertionError: An invariant does not hold.
    """
    system = System(choices, faults)
    system.ask(Start())
    for _ in range(CHAOS_STEPS):
        if system.kept.run.state.ended and not system.unread():
            break
        choices.pick(system.happenings())()
        if choices.pick(range(200)) == 199:
            system.ask(CancelRequested("enough", force=choices.pick([False, True])))
    system.leave()
    for _ in range(QUIET_STEPS):
        if not _goes_on(system):
            break
    _judge(system)
    return system


def _goes_on(system: System) -> bool:
    """Let happen what happens when nothing fails any more; return whether anything did."""
    if system.kept.mail:
        system.read_mail()
    elif untaken := system.untaken():
        system.take_order(untaken[0])
    elif system.jobs:
        system.work(next(iter(system.jobs.values())), "goes on with the next")
    elif system.unread():
        system.control()
    elif system.kept.asked:
        system.look_up()
    elif system.going_children():
        system.end_child()
    elif system.kept.run.state is RunState.PAUSED:
        system.ask(ResumeRequested("ada"))
    elif not system.kept.run.state.ended:
        system.pass_time()
    else:
        return False
    return True


def _judge(system: System) -> None:
    kept = system.kept
    assert kept.run.state.ended, "the run has not ended"
    assert not kept.lines.leases, "slots were never given back"
    assert not kept.lines.waiters, "a place in a line was never given up"
    assert kept.ends == 1, f"its end was told {kept.ends} times"
    said = {one.message_id for some in system.reports.values() for one in some}
    assert kept.inbox >= said, "something that was said was never handled"
    assert set(kept.applied.values()) <= {1}, "something that was said was handled twice"
    assert set(kept.results.values()) <= {1}, "an attempt has had two results"
    ordered = [one for some in system.orders.values() for one in some if isinstance(one.what, Dispatch)]
    tokens = {(one.what.task_id, one.what.attempt): one.what.token for one in ordered}
    assert len({one.what.token for one in ordered}) == len(tokens), "an attempt was ordered with two tokens"
    for child in kept.children.values():
        subflow = system.plan.step(child.started.name).task.subflow
        known = child.heard or child.told_to_stop or (subflow is not None and subflow.on_stop == "abandon")
        assert known, f"the run of {child.started.name} goes on, and nobody waits for it"
    assert not kept.cache.waits(), "somebody waits for a result of a run that has ended"
    for name, task in (kept.past | kept.run.tasks).items():
        if task.attempt:
            by_itself = any(begun[:2] == (task.task_id, task.attempt) for begun in system.begun)
            assert by_itself or (task.task_id, task.attempt) in tokens, (
                f"{name} was never ordered, and not begun either"
            )
        child = kept.children.get(UUID((task.inner or {}).get(CHILD, str(RUN_ID))))
        if child is not None and SET_BY not in (task.inner or {}):
            told = child.ended.output if child.ended is not None else None
            assert task.state != "succeeded" or task.output == told, f"{name} has another output than its run"
        if SET_BY in (task.inner or {}):
            assert task.state != "succeeded" or task.output == BY_HAND, f"{name} has another output than was set"
        elif (task.inner or {}).get(CACHE, {}).get("found") == "hit":
            assert not task.attempt, f"{name} was given its result and done besides"
            assert task.output in system.effects.values(), f"{name} was given what no work has come to"
        elif task.attempt and task.state == "succeeded" and "plan" not in (task.inner or {}):
            assert task.output == system.effects[task.task_id], f"{name} has another output than its work"


def broken(choices: Choices, faults: Faults) -> Exception | None:
    """Return what one run of choices breaks: an invariant, or the program; None when nothing."""
    try:
        play(choices, faults)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is found and shortened
        return error
    return None


def failure_of(choices: Choices, faults: Faults) -> str:
    """Return what one run of choices breaks, in words; empty when nothing."""
    match broken(choices, faults):
        case None:
            return ""
        case AssertionError() as error:
            return str(error) or "an assertion"
        case error:
            return f"{type(error).__name__}: {error}"


def found(seed: int, faults: Faults = Faults()) -> str:
    """Return what a seed breaks, with the shortest choices that break it too; empty when nothing."""
    choices = Choices(seed)
    if (first := broken(choices, faults)) is None:
        return ""
    best = shrunk(choices.taken, lambda given: type(broken(Choices(given=given), faults)) is type(first))
    return f"seed {seed}: {failure_of(Choices(given=best), faults)}\nchoices: {best}"


def main() -> int:
    """Run many seeds on all processors; return 1 when one broke something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    asked = parser.parse_args()
    with Pool() as pool:
        for done, broken in enumerate(pool.imap(found, range(asked.first, asked.first + asked.seeds), 50), 1):
            if broken:
                sys.stdout.write(f"\n{broken}\n")
                return 1
            if sys.stdout.isatty():
                sys.stdout.write(f"\r{done} of {asked.seeds} seeds")
                sys.stdout.flush()
    sys.stdout.write(f"\n{asked.seeds} seeds, from {asked.first} on: every invariant held\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
