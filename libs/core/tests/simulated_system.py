"""What surrounds control in the simulator: workers, other runs, people, time, and all that may happen next."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from choices import Choices
from millrace.core.state import (
    TASK_OPEN,
    AskSlots,
    CancelAcknowledged,
    CancelAttempt,
    CutChain,
    Dispatch,
    EventCame,
    Failed,
    Failure,
    PauseRequested,
    Progressed,
    ResultSet,
    ResumeRequested,
    RunState,
    Signalled,
    Started,
    Succeeded,
    TaskState,
    Tick,
    Voted,
)
from programs import tasks
from simulated_control import BY_HAND, OTHER, Control, Faults, Message
from simulation import RUN_ID, answers_to


class System(Control):
    """One run, and all that can happen to it.

    Attributes:
        jobs: What workers do now.
    """

    def __init__(self, choices: Choices, faults: Faults) -> None:
        super().__init__(choices, faults)
        self.jobs: dict[UUID, Dispatch] = {}
        #: By an attempt's place, the token that workers know it by; and by a link's token, that of its chain's first.
        self._places: dict[tuple[UUID, int], UUID] = {}
        self._chains: dict[UUID, UUID] = {}
        self._taken: Counter[UUID] = Counter()
        self._seen: set[int] = set()
        self._stopped: set[UUID] = set()

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
        found += [self.hand_out] * bool(self.kept.awaited)
        found += [self.crash, self._again, self._wait_a_little, self._somebody_says, self._somebody_operates]
        found += [self._another_run] if self.kept.lines.leases or self.kept.lines.waiters else []
        if self.next_due() is not None:
            found.append(self.pass_time)
        return found

    def look_up(self) -> None:
        """Have the cache take what it is asked and told next."""
        for _, answer in answers_to(self.kept.cache, RUN_ID, self.kept.asked.pop(0), self.now):
            self.kept.mail.append(answer)

    def hand_out(self) -> None:
        """Have an event come that a task waits for, or did."""
        asked = self.pick(self.kept.awaited)
        self.kept.awaited.remove(asked)
        self.kept.events[asked.task_id] = event = {"data": {"n": self._number()}, "subject": asked.key}
        self.kept.mail.append(EventCame(((asked.name, asked.task_id),), event))

    def read_mail(self) -> None:
        """Have control read what the cache, pools or triggers have said, and now and then a second time."""
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
