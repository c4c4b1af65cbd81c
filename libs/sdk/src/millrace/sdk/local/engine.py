"""Runs in memory, decided as control decides them; who works, and on what clock, is not its part."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from millrace.contracts.tasks import Carried
from millrace.core import state
from millrace.core.children import MAX_CHAIN, TOO_DEEP
from millrace.core.decide import decide
from millrace.core.ir import Workflow
from millrace.core.items import outputs_of
from millrace.core.paths import ROOT
from millrace.core.plan import Plan, compile_plan
from millrace.core.results import Results
from millrace.core.state import (
    Admitted,
    AskCache,
    AskSlots,
    CacheAnswered,
    CancelAcknowledged,
    CancelAttempt,
    ChildEnded,
    Collect,
    Collected,
    Decision,
    Dispatch,
    Effect,
    Failed,
    Failure,
    Input,
    Progressed,
    Run,
    RunEnded,
    RunState,
    Start,
    StartChild,
    Started,
    Succeeded,
    TaskRun,
    TaskState,
    TellCache,
    TellChild,
    Tick,
)
from millrace.sdk.local.bodies import Raised
from millrace.sdk.local.run import Call, LocalRun
from millrace.sdk.values import LocalValues

TRIGGER = {"id": "local", "source": "/local", "type": "", "subject": "", "time": ""}


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """An attempt to be worked on."""

    run: LocalRun
    call: Call
    task_id: UUID
    token: UUID
    carried: Carried

    @property
    def needs(self) -> dict[str, Any]:
        """What the workflow says that a worker needs for it."""
        given = self.run.plan.step(self.call.task).task.resources
        return given.needed() if given is not None else {}

    @property
    def place(self) -> tuple[str, UUID, int, UUID]:
        """What names it in what is said of it."""
        return self.call.task, self.task_id, self.call.attempt, self.token


R = TypeVar("R", bound=LocalRun)

Changed = Callable[[LocalRun, Run, Mapping[str, TaskRun]], None]
"""Is told of each decision: the run, how it was before, and the records that differ."""


class Engine(Generic[R]):
    """Runs, and what follows from what happens to them.

    Args:
        workflows: Those that can be started, and whose runs tasks can start.
        make: Makes a run, of its plan, its first state and who started it.
        now: What time it is.
        new_id: Gives ids.
        changed: Is told of each decision.

    Attributes:
        orders: Attempts that nobody has taken up yet; whoever works takes them from the left.
        stops: Tokens of attempts whose work is no longer wanted; likewise.
        going: Runs that have not ended, by their ids.
        results: What is kept of results, for as long as the engine is there.
        values: What its runs hand on by reference.
    """

    def __init__(
        self,
        workflows: Iterable[Workflow],
        make: Callable[[Plan, Run, str], R],
        now: Callable[[], datetime],
        new_id: Callable[[], UUID],
        changed: Changed = lambda *_: None,
    ) -> None:
        self.plans = {workflow.name: compile_plan(workflow) for workflow in workflows}
        self.orders: deque[Order] = deque()
        self.stops: deque[UUID] = deque()
        self.going: dict[UUID, R] = {}
        self.results, self.values = Results(), LocalValues()
        self._make, self._now, self._new_id, self._changed = make, now, new_id, changed
        self._parents: dict[UUID, tuple[LocalRun, StartChild]] = {}
        self._due: list[tuple[datetime, int, LocalRun, str]] = []
        self._numbers = itertools.count()
        self._worked_on: set[UUID] = set()

    def start(self, workflow: str, trigger: Mapping[str, Any], principal: str = "", *, refresh: bool = False) -> R:
        """Start a run and return it; one that refreshes takes no results that are kept.

        Raises:
            LookupError: There is no such workflow.
        """
        run = self._add(self._new_id(), workflow, {**TRIGGER, **trigger}, principal, refresh=refresh)
        self.tell(run, Start())
        return run

    def tell(self, run: LocalRun, happened: Input) -> str | None:
        """Let something happen to a run, and to others what follows; return why it changed nothing, or None."""
        reason: str | None = None
        todo: deque[tuple[LocalRun, Input]] = deque([(run, happened)])
        while todo:
            here, what = todo.popleft()
            before = here.run
            decision = decide(before, here.plan, [what], self._now(), self._new_id)
            here.take(decision)
            self._note_dues(here, decision)
            self._changed(here, before, decision.changed)
            for effect in decision.effects:
                todo.extend(self._follow(here, effect))
            if what is happened and decision.refused:
                reason = decision.refused[0].reason
        return reason

    # What workers say.

    def began(self, order: Order) -> None:
        """Say that an attempt is being worked on; from now on it counts as alive."""
        self._worked_on.add(order.token)
        order.run.calls.append(order.call)
        self.tell(order.run, Started(*order.place))

    def progressed(
        self, order: Order, fraction: float | None = None, message: str = "", carried: Carried | None = None
    ) -> None:
        """Say how far an attempt is, and what it leaves to the next one, where there is news of that."""
        if order.token in self._worked_on:
            left = state.Carried(carried.checkpoint, carried.external_ref) if carried is not None else None
            self.tell(order.run, Progressed(*order.place, fraction, message, carried=left))

    def ended(self, order: Order, came: Raised | dict[str, Any]) -> None:
        """Say what came of an attempt."""
        self._worked_on.discard(order.token)
        if not isinstance(came, Raised):
            self.tell(order.run, Succeeded(*order.place, came))
            return
        order.run.raised[order.call.task] = came
        failure = Failure(came.kind, came.message, retryable=not came.final, lost=came.lost)
        self.tell(order.run, Failed(*order.place, failure))

    def stopped(self, order: Order) -> None:
        """Say that the work on an attempt has stopped as asked."""
        self._worked_on.discard(order.token)
        self.tell(order.run, CancelAcknowledged(*order.place))

    # What time does.

    def next_due(self) -> datetime | None:
        """Return when something will happen because of the time; None while nothing will."""
        while self._due:
            due_at, _, run, name = self._due[0]
            if self._due_at(run, name) == due_at:
                return due_at
            heapq.heappop(self._due)
        return None

    def tick(self) -> None:
        """Let happen what is due."""
        now = self._now()
        while (due_at := self.next_due()) is not None and due_at <= now:
            _, _, run, name = heapq.heappop(self._due)
            self.tell(run, self._beat(run, name) or Tick())

    def _beat(self, run: LocalRun, name: str) -> Input | None:
        """Return that an attempt is alive, where it is and only its silence is due."""
        task = run.run.tasks.get(name)
        if task is None or task.state is not TaskState.RUNNING or task.token not in self._worked_on:
            return None
        limits = run.plan.step(name).task
        ends = [task.started_at + timedelta(seconds=limits.run_timeout_s)] if task.started_at else []
        ends += [task.deadline_at] if task.deadline_at is not None else []
        if limits.timeout_s is not None and task.began_at is not None:
            ends.append(task.began_at + timedelta(seconds=limits.timeout_s))
        if any(end <= self._now() for end in ends):
            return None
        return Progressed(name, task.task_id, task.attempt, task.token) if task.token is not None else None

    def _due_at(self, run: LocalRun, name: str) -> datetime | None:
        if name == ROOT:
            return _soonest(run.run)
        task = run.run.tasks.get(name)
        return _soonest(task) if task is not None else None

    # What follows.

    def _note_dues(self, run: LocalRun, decision: Decision) -> None:
        dues = [(_soonest(task), name) for name, task in decision.changed.items()]
        dues += [(_soonest(run.run), ROOT)] if decision.run_changed else []
        for due_at, name in dues:
            if due_at is not None:
                heapq.heappush(self._due, (due_at, next(self._numbers), run, name))

    def _follow(self, run: LocalRun, effect: Effect) -> Iterable[tuple[LocalRun, Input]]:
        match effect:
            case Dispatch():
                kind = run.plan.step(effect.name).task.kind or ""
                call = Call(run.workflow, effect.name, kind, effect.attempt, effect.input, self._now())
                left = Carried(**asdict(effect.carried)) if effect.carried is not None else Carried()
                self.orders.append(Order(run, call, effect.task_id, effect.token, left))
            case AskSlots():
                # Pools are the services'; here there is one machine, and `workers` says how much is done at once.
                yield run, Admitted(effect.name, effect.ticket)
            case CancelAttempt():
                yield from self._stop(run, effect.token)
            case Collect():
                yield run, Collected(effect.name, outputs_of(run.items_of(effect.name), effect.name))
            case AskCache():
                yield from self._answers(self.results.ask(run.run_id, effect, self._now()))
            case TellCache():
                yield from self._answers(self.results.tell(run.run_id, effect, self._now()))
            case StartChild():
                yield from self._start_child(run, effect)
            case TellChild() if effect.run_id in self.going:
                yield self.going[effect.run_id], effect.told
            case RunEnded():
                yield from self._over(run, effect)

    def _answers(self, told: Iterable[tuple[UUID, CacheAnswered]]) -> Iterable[tuple[LocalRun, Input]]:
        yield from ((self.going[run_id], answer) for run_id, answer in told if run_id in self.going)

    def _stop(self, run: LocalRun, token: UUID) -> Iterable[tuple[LocalRun, Input]]:
        """Stop an attempt: one that nobody has taken up stops at once."""
        order = next((order for order in self.orders if order.token == token), None)
        if order is None:
            self.stops.append(token)
            return
        self.orders.remove(order)
        yield run, CancelAcknowledged(*order.place)

    def _start_child(self, run: LocalRun, asked: StartChild) -> Iterable[tuple[LocalRun, Input]]:
        unknown = f"there is no workflow {asked.workflow} here: give its flow along"
        refused = unknown if asked.workflow not in self.plans else TOO_DEEP if self._depth(run) > MAX_CHAIN else None
        if refused is not None:
            yield run, ChildEnded(asked.name, asked.task_id, RunState.FAILED, refused)
            return
        about = {"id": str(asked.task_id), "source": f"/local/runs/{run.run_id}", "type": "subflow"}
        trigger = {**about, "subject": asked.name, "time": self._now().isoformat(), "data": asked.data}
        child = self._add(asked.run_id, asked.workflow, trigger, run.principal, refresh=run.run.refresh)
        self._parents[asked.run_id] = (run, asked)
        yield child, Start()

    def _depth(self, run: LocalRun) -> int:
        """Return how many runs have started one another to this one, and it."""
        depth, around = 1, self._parents.get(run.run_id)
        while around is not None:
            depth, around = depth + 1, self._parents.get(around[0].run_id)
        return depth

    def _over(self, run: LocalRun, ended: RunEnded) -> Iterable[tuple[LocalRun, Input]]:
        self.going.pop(run.run_id, None)
        parent = self._parents.pop(run.run_id, None)
        if parent is not None:
            asked = parent[1]
            yield parent[0], ChildEnded(asked.name, asked.task_id, ended.state, ended.cause, run.run.output)

    def _add(self, run_id: UUID, workflow: str, trigger: dict[str, Any], principal: str, *, refresh: bool) -> R:
        plan = self.plans.get(workflow)
        if plan is None:
            raise LookupError(f"there is no workflow {workflow}; known are {', '.join(self.plans)}")
        run = self._make(plan, Run(run_id, RunState.PENDING, trigger, refresh=refresh), principal)
        run.values = self.values
        self.going[run_id] = run
        return run


def _soonest(one: Run | TaskRun) -> datetime | None:
    """Return when something is due of a run or a task: its limit, or its deadline."""
    return min((at for at in (one.due_at, one.deadline_at) if at is not None), default=None)


def check_bodies(plans: Iterable[Plan], bodies: Container[str]) -> None:
    """Do nothing when each kind of work of some plans has a body, and each workflow that they start is among them.

    Args:
        plans: Which.
        bodies: The kinds that have one, or paths of tasks as they are written.

    Raises:
        LookupError: One is missing; it says which, and what would be right.
    """
    plans = list(plans)
    steps = [(path, step.task) for plan in plans for path, step in plan.steps.items()]
    works = {task.kind for path, task in steps if task.kind is not None and path not in bodies}
    if missing := sorted(kind for kind in works if kind not in bodies):
        raise LookupError(
            f"no body for {', '.join(missing)}: a run in this process needs a function for each kind of task, "
            f'with @task("{missing[0]}") above it'
        )
    names = {plan.workflow.name for plan in plans}
    if unknown := sorted({task.subflow.workflow for _, task in steps if task.subflow is not None} - names):
        raise LookupError(f"no workflow {', '.join(unknown)}: give the flows that are started along")
