"""The model: a program in one process comes to what it says; what counts otherwise is found."""

from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.core.parse import parse_workflow
from millrace.sdk.client import ENDED
from millrace.sdk.flows import Flow
from millrace.sdk.testing import Environment
from millrace.sdk.work import attempt

from tests.programs.adding import Ledger, added
from tests.programs.made import of_seed, program
from tests.programs.model import Outcome, predict
from tests.programs.program import (
    LEASED,
    MOST_COMMANDS,
    TAKEN,
    Add,
    Command,
    End,
    Fail,
    Guard,
    Mended,
    Program,
    Signal,
    Together,
)
from tests.programs.work import planned
from tests.programs.written import NEVER, PLAIN, workflows

PLAYED = 200
#: Within so many programs a planted bug is found.
FOUND_WITHIN = 10


class Outside:
    """Counters in this process, each of which takes one amount of a task."""

    def __init__(self) -> None:
        self.had: dict[str, tuple[str, int]] = {}

    def __call__(self, key: str, counter: str, _: str, amount: int) -> int:
        """Add once, and return what the counter came to by that."""
        self.had.setdefault(key, (counter, amount))
        keys = list(self.had)
        return sum(self.had[one][1] for one in keys[: keys.index(key) + 1] if self.had[one][0] == counter)

    def counters(self) -> dict[str, int]:
        """Return what is not 0."""
        found: Counter[str] = Counter()
        for counter, amount in self.had.values():
            found[counter.partition(".")[2]] += amount
        return {name: value for name, value in found.items() if value}


class Twice(Outside):
    """Counters that take the third amount twice."""

    def __call__(self, key: str, counter: str, step: str, amount: int) -> int:
        if len(self.had) == 2 and amount and key not in self.had:
            self.had[f"{key} again"] = (counter, amount)
        return super().__call__(key, counter, step, amount)


class Lossy(Outside):
    """Counters that say that they have taken an amount, and lose the third."""

    def counters(self) -> dict[str, int]:
        lost = list(self.had)[2:3]
        return Outside.counters(_without(self, lost))


def _without(outside: Outside, keys: list[str]) -> Outside:
    kept = Outside()
    kept.had = {key: one for key, one in outside.had.items() if key not in keys}
    return kept


def played(one: Program, outside: Outside) -> Outcome:
    """Play a program in this process, on a clock that is moved on."""
    documents = [parse_workflow(document) for document in workflows(one, "programs.local")]
    environment = Environment(*(Flow(document, {}) for document in documents))
    for queue in (TAKEN, LEASED, PLAIN):
        environment.stub(f"{queue}.add", _adds(outside))
    environment.stub(f"{TAKEN}.plan", planned)
    run = environment.start("programs.local", {"program": "p"})
    for command in one.every:
        if isinstance(command, Signal) and not run.run.state.ended:
            run.signal(command.name, {"amount": command.amount})
    while NEVER not in run.waiting and environment.skip():
        pass
    if NEVER in run.waiting:
        run.cancel()
    return Outcome((run.finish().state,), outside.counters())


def _adds(ledger: Ledger) -> Callable[..., Any]:
    def add(takes_s: float = 0.0, **given: Any) -> dict[str, Any]:
        here = attempt()
        assert here is not None
        return added(ledger, here.task_id, here.number, here.task, **given)

    return add


def _checked(one: Program, outside: Outside) -> list[str]:
    """Return in what a program came to something else than the model says."""
    return predict(one).differences(played(one, outside))


@settings(max_examples=PLAYED, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(choices=st.data(), plain=st.booleans())
def test_a_program_in_one_process_comes_to_what_the_model_says(choices: st.DataObject, plain: bool) -> None:
    one = program(lambda options: choices.draw(st.sampled_from(options)), plain=plain)

    assert len(one.every) <= MOST_COMMANDS
    if not one.has(Mended):  # nothing is done again there
        assert _checked(one, Outside()) == [], one.text()


def test_programs_of_seeds_have_every_command_and_come_to_every_end() -> None:
    programs = [of_seed(seed) for seed in range(PLAYED)]

    assert {type(command) for one in programs for command in one.every} == {*get_args(Command)}
    assert {state for one in programs for state in predict(one).states} == {*ENDED}
    assert {one.paused for one in programs} == {True, False}
    assert max(len(one.every) for one in programs) > MOST_COMMANDS // 2


def test_what_the_previous_build_does_not_know_is_in_no_plain_program() -> None:
    known = {Add, Fail, Together, Guard, End}
    fields = {"needs", "run_if", "when", "end", "kind", "input", "retries", "queue_timeout_s", "heartbeat_timeout_s"}

    for seed in range(PLAYED):
        one = of_seed(seed, plain=True)
        assert {type(command) for command in one.every} <= known
        (document,) = workflows(one, "programs.plain")
        assert {field for task in document["tasks"].values() for field in task} <= fields


@pytest.mark.parametrize("planted", [Twice, Lossy])
def test_a_counter_that_adds_twice_or_loses_an_add_is_found(planted: type[Outside]) -> None:
    programs = (of_seed(seed) for seed in range(FOUND_WITHIN))

    assert any(_checked(one, planted()) for one in programs if not one.has(Mended))
