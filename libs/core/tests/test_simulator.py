from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from choices import Choices
from millrace.core.decide import decide
from millrace.core.plan import Plan
from millrace.core.state import (
    CACHE,
    SET_BY,
    TICKET,
    CacheAnswered,
    CancelAcknowledged,
    Decision,
    Failed,
    Input,
    ResumeRequested,
    Run,
    RunState,
    Succeeded,
    TaskState,
    TellCache,
)
from simulated_control import Faults
from simulator import failure_of, found, play

SEEDS = 200
#: Within so many seeds a planted bug is found.
FOUND_WITHIN = 1_000


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_fails_and_when_every_run_ends_and_every_message_counts_once(seed: int) -> None:
    assert not found(seed)


def test_seeds_come_to_every_end_by_many_ways() -> None:
    ends: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    children: Counter[bool] = Counter()
    missed = waited = begun = 0
    for seed in range(SEEDS):
        system = play(Choices(seed), Faults())
        begun += len(system.begun)
        children.update(child.heard for child in system.kept.children.values())
        ends[system.kept.run.state] += 1
        waited += system.kept.lines.numbers
        every = (system.kept.past | system.kept.run.tasks).values()
        answers.update(
            (task.inner or {})[CACHE].get("found", "nothing") for task in every if CACHE in (task.inner or {})
        )
        missed += sum(one.missed_at is not None for one in (system.kept.run, *every))
        forms.update({system.plan.step(n).task.form for n in system.kept.run.tasks if not system.plan.is_scope(n)})

    assert waited > SEEDS // 2
    assert begun > SEEDS // 20, "links of chains that workers have begun by themselves"
    assert min(children[True], children[False]) > SEEDS // 20, "runs of other workflows, waited for and not"
    assert set(ends) == {"succeeded", "refused", "failed", "cancelled"}
    assert set(answers) == {"hit", "miss", "nothing"}
    assert missed
    assert set(forms) >= {
        "kind",
        "end",
        "wait",
        "gate",
        "approve",
        "foreach",
        "while",
        "switch",
        "parallel",
        "try",
        "subflow",
    }


def believes_every_token(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide, taking what a former attempt says for the present one's."""
    told = [
        replace(one, attempt=known.attempt, token=known.token)
        if isinstance(one, Succeeded | Failed | CancelAcknowledged)
        and (known := run.tasks.get(one.name)) is not None
        and known.token is not None
        else one
        for one in inputs
    ]
    return decide(run, plan, told, now, new_id)


def forgets_retries(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide, but wait for a next attempt without anything that wakes it."""
    decision = decide(run, plan, inputs, now, new_id)
    for task in decision.changed.values():
        if task.state is TaskState.RETRY_WAIT:
            task.due_at = None
    return decision


def begins_while_paused(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide on what workers say of a paused run as if it were not paused."""
    if run.state is not RunState.PAUSED or not all(isinstance(told, Succeeded | Failed) for told in inputs):
        return decide(run, plan, inputs, now, new_id)
    decision = decide(replace(run, state=RunState.RUNNING), plan, inputs, now, new_id)
    if decision.run.state is RunState.RUNNING:
        decision.run.state = RunState.PAUSED
    return decision


def forgets_what_was_held_back(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide, but have a run that is resumed look at nothing."""
    if run.state is not RunState.PAUSED or run.pause is None or not isinstance(inputs[0], ResumeRequested):
        return decide(run, plan, inputs, now, new_id)
    due_at = now + timedelta(seconds=run.pause.left_s or 0.0)
    resumed = replace(run, state=RunState.RUNNING, pause=None, due_at=due_at)
    return Decision(resumed, run_changed=True, changed={}, retired=(), effects=(), refused=())


def leaves_the_worker_of_a_result_that_was_set(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide, but take the result of a worker for a task whose result was set by hand."""
    for told in inputs:
        known = run.tasks.get(told.name) if isinstance(told, Succeeded) else None
        if isinstance(told, Succeeded) and known is not None and SET_BY in (known.inner or {}):
            changed = replace(known, output=told.output)
            return Decision(
                replace(run, tasks=run.tasks | {known.name: changed}), False, {known.name: changed}, (), (), ()
            )
    return decide(run, plan, inputs, now, new_id)


def dispatches_without_slots(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide, but take back a task's slots when its worker starts."""
    decision = decide(run, plan, inputs, now, new_id)
    for task in decision.changed.values():
        if task.state is TaskState.RUNNING and TICKET in (task.inner or {}):
            task.inner = None
    return decision


def leaves_who_waits_for_a_result(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide, but say nothing of what has come to no result."""
    decision = decide(run, plan, inputs, now, new_id)
    told = tuple(e for e in decision.effects if not isinstance(e, TellCache) or e.kept_s is not None)
    return replace(decision, effects=told)


def does_what_was_given(
    run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]
) -> Decision:
    """Decide, but give a task the result of nobody's work."""
    told = [replace(one, output={"ok": True}) if isinstance(one, CacheAnswered) else one for one in inputs]
    return decide(run, plan, told, now, new_id)


def breaks_down(run: Run, plan: Plan, inputs: Sequence[Input], now: datetime, new_id: Callable[[], UUID]) -> Decision:
    """Decide, but break down when a task has been lost twice."""
    decision = decide(run, plan, inputs, now, new_id)
    if any(task.losses > 1 for task in decision.changed.values()):
        raise KeyError("twice")
    return decision


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (Faults(forgets=True), "handled twice"),
        (Faults(deletes_before_sending=True), "never ordered"),
        (Faults(acknowledges_before_committing=True), "never handled"),
        (Faults(keeps_slots_of_the_lost=True), "nobody else"),
        (Faults(leaves_children=True), "goes on, and nobody waits for it"),
        (Faults(decide=breaks_down), "KeyError: 'twice'"),
        (Faults(decide=dispatches_without_slots), "slots are kept or given back"),
        (Faults(decide=believes_every_token), "another attempt than its own"),
        (Faults(decide=forgets_retries), "has a due time"),
        (Faults(decide=begins_while_paused), "in a paused run nothing begins"),
        (Faults(decide=forgets_what_was_held_back), "has something going on"),
        (Faults(decide=leaves_the_worker_of_a_result_that_was_set), "what is settled stays"),
        (Faults(decide=leaves_who_waits_for_a_result), "waits for a result"),
        (Faults(decide=does_what_was_given), "what no work has come to"),
    ],
)
def test_a_planted_bug_is_found_and_its_choices_are_shortened(faults: Faults, said: str) -> None:
    seed = next(seed for seed in range(FOUND_WITHIN) if said in failure_of(Choices(seed), faults))

    told = found(seed, faults)

    choices = [int(number) for number in told.rpartition("choices: ")[2].strip("[]").split(",")]
    assert told.startswith(f"seed {seed}: ")
    assert failure_of(Choices(given=choices), faults)
    assert not failure_of(Choices(given=choices), Faults())
    assert len(choices) < len(played(seed, faults))


def played(seed: int, faults: Faults) -> Sequence[int]:
    choices = Choices(seed)
    failure_of(choices, faults)
    return choices.taken
