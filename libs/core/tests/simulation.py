"""Random workflows under random faults: what a world of workers can do to a run, as hypothesis strategies."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from millrace.core.decide import decide
from millrace.core.items import outputs_of
from millrace.core.parse import parse_workflow
from millrace.core.paths import inside, parent
from millrace.core.plan import Plan, compile_plan
from millrace.core.results import Results
from millrace.core.state import (
    ATTEMPT_OPEN,
    TASK_OPEN,
    TICKET,
    Admitted,
    AskCache,
    AskSlots,
    CacheAnswered,
    CancelAcknowledged,
    CancelAttempt,
    CancelRequested,
    Collect,
    Collected,
    Decision,
    Dispatch,
    Effect,
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
    RunPaused,
    RunResumed,
    RunState,
    Start,
    StartChild,
    Started,
    Succeeded,
    TaskRun,
    TaskState,
    TellCache,
    Tick,
)
from programs import document

T0 = datetime(2026, 1, 1, tzinfo=UTC)
RUN_ID = UUID(int=7)


def pending(trigger: dict[str, Any] | None = None) -> Run:
    return Run(RUN_ID, RunState.PENDING, trigger or {"data": {}})


def next_due(run: Run) -> datetime | None:
    """When something is due of a run."""
    dues = [due for one in (run, *run.tasks.values()) for due in (one.due_at, one.deadline_at) if due is not None]
    return min(dues, default=None)


def answers_to(results: Results, run_id: UUID, effect: Effect, now: datetime) -> list[tuple[UUID, CacheAnswered]]:
    """What the cache says to what a run asks or tells it."""
    match effect:
        case AskCache():
            return results.ask(run_id, effect, now)
        case TellCache():
            return results.tell(run_id, effect, now)
    return []


@dataclass
class World:
    """A run, the orders it gave and a clock.

    Attributes:
        slots: Whether there are slots for whoever asks.
    """

    plan: Plan
    run: Run = field(default_factory=pending)
    now: datetime = T0
    ids: int = 100
    orders: list[Dispatch] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    #: The cache, and the runs that share it.
    results: Results = field(default_factory=Results)
    worlds: dict[UUID, "World"] = field(default_factory=dict)
    #: What was retired, as it was last.
    past: dict[str, TaskRun] = field(default_factory=dict)
    slots: bool = True

    def __post_init__(self) -> None:
        self.worlds[self.run.run_id] = self

    def new_id(self) -> UUID:
        self.ids += 1
        return UUID(int=self.ids)

    def tell(self, *inputs: Input, after_s: float = 0.0) -> Decision:
        self.now += timedelta(seconds=after_s)
        known = dict(self.run.tasks)
        decision = decide(self.run, self.plan, inputs, self.now, self.new_id)
        self.run = decision.run
        if decision.planned is not None:
            self.plan = compile_plan(decision.planned)
        self.orders.extend(effect for effect in decision.effects if isinstance(effect, Dispatch))
        self.decisions.append(decision)
        self.past |= {name: (known | decision.changed)[name] for name in decision.retired}
        for effect in decision.effects:
            if isinstance(effect, Collect):
                self.tell(Collected(effect.name, outputs_of(self.past | self.run.tasks, effect.name)))
            elif isinstance(effect, AskSlots) and self.slots:
                self.tell(Admitted(effect.name, effect.ticket))
            for run_id, answer in answers_to(self.results, self.run.run_id, effect, self.now):
                self.worlds[run_id].tell(answer)
        return decision

    def order(self, name: str) -> Dispatch:
        return next(order for order in reversed(self.orders) if order.name == name)

    def succeed(self, name: str, after_s: float = 0.0, **output: Any) -> Decision:
        order = self.order(name)
        return self.tell(Succeeded(name, order.task_id, order.attempt, order.token, output), after_s=after_s)

    def fail(self, name: str, failure: Failure | None = None, after_s: float = 0.0) -> Decision:
        order = self.order(name)
        failure = failure or Failure("ValueError", "no")
        return self.tell(Failed(name, order.task_id, order.attempt, order.token, failure), after_s=after_s)

    def next_due(self) -> datetime | None:
        return next_due(self.run)

    def states(self) -> dict[str, str]:
        return {name: str(task.state) for name, task in self.run.tasks.items()}

    def ended(self) -> dict[str, str]:
        """The state of every task and scope that there ever was."""
        return {name: str(task.state) for name, task in (self.past | self.run.tasks).items()}

    def open_orders(self) -> list[Dispatch]:
        return [o for o in self.orders if o.name in self.run.tasks and self.run.tasks[o.name].token == o.token]

    def work_nothing(self, until_s: float) -> None:
        """Let time pass, so long from the beginning of time, without anybody doing what is ordered."""
        while (due := self.next_due()) is not None and due <= T0 + timedelta(seconds=until_s):
            self.tell(Tick(), after_s=max(0.0, (due - self.now).total_seconds()))

    def work(self, done: Callable[[Dispatch], dict[str, Any] | Failure] = lambda _: {}) -> None:
        """Do what is ordered, in order, and let time pass where nothing is, until the run has ended."""
        for _ in range(10_000):
            if self.run.state.ended:
                return
            if orders := self.open_orders():
                result = done(orders[0])
                at = (orders[0].name, orders[0].task_id, orders[0].attempt, orders[0].token)
                self.tell(Failed(*at, result) if isinstance(result, Failure) else Succeeded(*at, result))
            else:
                due = self.next_due()
                assert due is not None, "nothing is open and nothing is due"
                self.tell(Tick(), after_s=max(0.0, (due - self.now).total_seconds()))
        raise AssertionError("the run goes on for ever")


def world(output: Any = None, timeout_s: float = 86_400, **tasks: Any) -> World:
    document = {"name": "w", "timeout_s": timeout_s, "tasks": tasks, "output": output}
    return World(compile_plan(parse_workflow(document)))


def started(output: Any = None, timeout_s: float = 86_400, **tasks: Any) -> World:
    made = world(output, timeout_s, **tasks)
    made.tell(Start())
    return made


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    """A workflow with anything in it."""
    return document(lambda options: draw(st.sampled_from(options)))


def facts_about(order: Dispatch) -> st.SearchStrategy[Input]:
    """Anything a worker, or a ghost of one, may say of an attempt."""
    here = (order.name, order.task_id, order.attempt)
    tokens = st.sampled_from([order.token, order.token, order.token, UUID(int=1)])
    return st.one_of(
        tokens.map(lambda token: Started(*here, token)),
        tokens.map(lambda token: Progressed(*here, token)),
        st.tuples(tokens, st.sampled_from([{"ok": True, "x": 1}, {"ok": False}, {}]), st.booleans()).map(
            lambda told: Succeeded(*here, told[0], told[1], went_on=told[2])
        ),
        st.tuples(tokens, st.booleans(), st.booleans()).map(
            lambda drawn: Failed(*here, drawn[0], Failure("E", "m", retryable=drawn[1], lost=drawn[2]))
        ),
        tokens.map(lambda token: CancelAcknowledged(*here, token)),
    )


def schedules(orders: list[Dispatch]) -> st.SearchStrategy[list[Input]]:
    """What may happen next: facts about any attempt ever ordered, in any order, repeated; time; a cancel."""
    happenings: list[st.SearchStrategy[Input]] = [st.just(Tick()), st.just(Start())]
    happenings += [facts_about(order) for order in orders] * 2
    wishes: list[Input] = [
        CancelRequested("asked"),
        CancelRequested("at once", force=True),
        PauseRequested("asked"),
        ResumeRequested("asked"),
    ]
    happenings.append(st.integers(0, 30).map(lambda n: wishes[n] if n < len(wishes) else Tick()))
    if orders:
        states = st.sampled_from([TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED])
        names = st.sampled_from([order.name for order in orders])
        happenings.append(st.builds(ResultSet, names, states, st.just("by hand"), st.just({"ok": True, "x": 1})))
    return st.lists(st.one_of(happenings), max_size=4)


def check(world: World, before: Run, decision: Decision) -> None:
    """Hold one decision against what must hold of every decision."""
    run = decision.run
    plan = compile_plan(decision.planned) if decision.planned is not None else world.plan
    for name, task in run.tasks.items():
        waits = task.state in ATTEMPT_OPEN | {TaskState.RETRY_WAIT}
        assert not waits or task.due_at is not None, "what waits for a worker has a due time"
        assert task.due_at is None or task.state in TASK_OPEN, "what is settled has none"
        assert (task.token is not None) == (task.state in ATTEMPT_OPEN), "a token is valid only for an open attempt"
        around = parent(name)
        assert not around or around in run.tasks, "what it is in has not been let go of"
    _check_run(run, decision)
    _check_slots(before, decision, plan)
    for effect in decision.effects:
        if isinstance(effect, Dispatch):
            records = before.tasks | decision.changed
            needs = plan.step(effect.name).task.needs
            assert all(records[inside(parent(effect.name), need)].state not in TASK_OPEN for need in needs)
    for name in set(run.tasks) - set(decision.changed):
        assert run.tasks[name] is before.tasks[name], "what changed is named"
    for name, old in before.tasks.items():
        if old.state not in TASK_OPEN and name in run.tasks:
            assert replace(run.tasks[name], inner=old.inner) == old, "what is settled stays"
    for name in decision.retired:
        assert name not in run.tasks
        assert (before.tasks | decision.changed)[name].state not in TASK_OPEN, "only what is over is retired"
    if before.state.ended:
        assert run == before
        assert all(isinstance(effect, CancelAttempt) for effect in decision.effects), (
            "only what nobody wants is stopped"
        )


def tickets(run: Run) -> list[UUID]:
    return [UUID(task.inner[TICKET]) for task in run.tasks.values() if task.inner and TICKET in task.inner]


def _check_slots(before: Run, decision: Decision, plan: Plan) -> None:
    run = decision.run
    had, has = tickets(before), tickets(run)
    asked = [effect.ticket for effect in decision.effects if isinstance(effect, AskSlots)]
    freed = [effect.ticket for effect in decision.effects if isinstance(effect, FreeSlots)]
    assert len({*had, *asked}) == len(had) + len(asked), "a ticket is asked for once"
    assert len({*freed}) == len(freed), "what is given back is given back once"
    assert sorted([*has, *freed]) == sorted([*had, *asked]), "slots are kept or given back, and nothing else is"
    for name, task in run.tasks.items():
        takes = not plan.is_scope(name) and plan.step(name).task.pool is not None
        holds = TICKET in (task.inner or {})
        if task.state in ATTEMPT_OPEN:
            assert holds == takes, "an attempt that is open holds the slots that it takes"
        elif task.state is TaskState.QUEUED:
            assert holds == (run.state is not RunState.PAUSED), "what waits has its place, unless its run is paused"
        else:
            assert not holds, "what has no attempt that is open, and waits for none, holds no slots"


def _check_run(run: Run, decision: Decision) -> None:
    assert (run.due_at is not None) == (run.state in (RunState.RUNNING, RunState.PAUSED, RunState.ENDING))
    assert (run.pause is not None) == (run.state is RunState.PAUSED)
    if run.state is RunState.PAUSED and not any(isinstance(e, RunPaused | RunResumed) for e in decision.effects):
        begun = [e for e in decision.effects if isinstance(e, Dispatch | StartChild | RunEnded)]
        assert not begun, "in a paused run nothing begins, and it does not end"
    going_on = any(task.state in TASK_OPEN for task in run.tasks.values())
    assert run.state not in (RunState.RUNNING, RunState.ENDING) or going_on, "a run that goes on has something going on"
    if run.state.ended:
        assert not [task for task in run.tasks.values() if task.state in TASK_OPEN]
        assert run.ended_at is not None
