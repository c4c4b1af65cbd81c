"""Random workflows under random faults: what a world of workers can do to a run, as hypothesis strategies."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from millrace.core.decide import decide
from millrace.core.parse import parse_workflow
from millrace.core.plan import Plan, compile_plan
from millrace.core.state import (
    ATTEMPT_OPEN,
    TASK_OPEN,
    CancelAcknowledged,
    CancelRequested,
    Decision,
    Dispatch,
    Failed,
    Failure,
    Input,
    Progressed,
    Run,
    RunState,
    Start,
    Started,
    Succeeded,
    Tick,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
RUN_ID = UUID(int=7)


def pending(trigger: dict[str, Any] | None = None) -> Run:
    return Run(RUN_ID, RunState.PENDING, trigger or {"data": {}})


@dataclass
class World:
    """A run, the orders it gave and a clock."""

    plan: Plan
    run: Run = field(default_factory=pending)
    now: datetime = T0
    ids: int = 100
    orders: list[Dispatch] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def new_id(self) -> UUID:
        self.ids += 1
        return UUID(int=self.ids)

    def tell(self, *inputs: Input, after_s: float = 0.0) -> Decision:
        self.now += timedelta(seconds=after_s)
        decision = decide(self.run, self.plan, inputs, self.now, self.new_id)
        self.run = decision.run
        self.orders.extend(effect for effect in decision.effects if isinstance(effect, Dispatch))
        self.decisions.append(decision)
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
        dues = [task.due_at for task in self.run.tasks.values() if task.due_at]
        dues += [self.run.due_at] if self.run.due_at else []
        return min(dues, default=None)

    def states(self) -> dict[str, str]:
        return {name: str(task.state) for name, task in self.run.tasks.items()}


def world(**tasks: Any) -> World:
    return World(compile_plan(parse_workflow({"name": "w", "tasks": tasks})))


def started(**tasks: Any) -> World:
    made = world(**tasks)
    made.tell(Start())
    return made


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    """A DAG of up to seven tasks with conditions, ends, retries and short limits."""
    tasks: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 7))):
        names = list(tasks)
        needs = draw(st.lists(st.sampled_from(names), unique=True, max_size=3)) if names else []
        task: dict[str, Any] = {"needs": needs, "run_if": draw(st.sampled_from(["succeeded", "succeeded", "settled"]))}
        if needs and draw(st.booleans()):
            task["when"] = draw(
                st.sampled_from(
                    [
                        f"outputs.{needs[0]}.ok",
                        f"status.{needs[0]} == 'succeeded'",
                        f"status.{needs[0]} != 'succeeded' || !outputs.{needs[0]}.ok",
                    ]
                )
            )
        if number and draw(st.integers(0, 5)) == 0:
            task["end"] = {"state": draw(st.sampled_from(["succeeded", "refused", "failed"])), "reason": "so"}
        else:
            task["kind"] = "data.ingest"
            task["input"] = {"x": {"$from": f"/tasks/{needs[0]}/output/x"}} if needs and draw(st.booleans()) else {}
            task["retries"] = {
                "max_attempts": draw(st.integers(1, 3)),
                "lost": draw(st.integers(0, 2)),
                "backoff_s": draw(st.sampled_from([0, 1, 20])),
            }
            task["queue_timeout_s"] = draw(st.sampled_from([5, 50]))
            task["run_timeout_s"] = draw(st.sampled_from([5, 50]))
            task["heartbeat_timeout_s"] = draw(st.sampled_from([2, 20]))
        tasks[f"t{number}"] = task
    return {"name": "w", "timeout_s": draw(st.sampled_from([20, 300])), "tasks": tasks}


def facts_about(order: Dispatch) -> st.SearchStrategy[Input]:
    """Anything a worker, or a ghost of one, may say of an attempt."""
    here = (order.name, order.task_id, order.attempt)
    tokens = st.sampled_from([order.token, order.token, order.token, UUID(int=1)])
    return st.one_of(
        tokens.map(lambda token: Started(*here, token)),
        tokens.map(lambda token: Progressed(*here, token)),
        st.tuples(tokens, st.sampled_from([{"ok": True, "x": 1}, {"ok": False}, {}])).map(
            lambda pair: Succeeded(*here, *pair)
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
    happenings.append(st.integers(0, 30).map(lambda n: CancelRequested("asked") if n == 0 else Tick()))
    return st.lists(st.one_of(happenings), max_size=4)


def check(world: World, before: Run, decision: Decision) -> None:
    """Hold one decision against what must hold of every decision."""
    run = decision.run
    for task in run.tasks.values():
        assert (task.due_at is not None) == (task.state in TASK_OPEN), (
            "an open task has a due time, and only an open one"
        )
        assert (task.token is not None) == (task.state in ATTEMPT_OPEN), "a token is valid only for an open attempt"
    assert (run.due_at is not None) == (run.state in (RunState.RUNNING, RunState.ENDING))
    if run.state.ended:
        assert not [task for task in run.tasks.values() if task.state in TASK_OPEN]
        assert run.ended_at is not None
    for effect in decision.effects:
        if isinstance(effect, Dispatch):
            needs = world.plan.steps[effect.name].task.needs
            assert all(need in run.tasks and run.tasks[need].state not in TASK_OPEN for need in needs)
    for name in set(run.tasks) - set(decision.changed):
        assert run.tasks[name] is before.tasks[name], "what changed is named"
    for name, old in before.tasks.items():
        if old.state not in TASK_OPEN:
            assert run.tasks[name] == old, "what is settled stays"
    if before.state.ended:
        assert run == before
        assert not decision.effects
