"""What a program comes to, said without running it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.programs.program import (
    TIDIED,
    Add,
    Attempt,
    Body,
    Branches,
    Call,
    Cancel,
    Choose,
    Command,
    Each,
    End,
    Fail,
    Guard,
    Mended,
    Once,
    Planned,
    Program,
    Race,
    Repeat,
    Signal,
    Together,
    Wait,
)

#: How many items a list has at most that is made of a counter's value.
ITEMS = 4


@dataclass(frozen=True)
class Outcome:
    """How a program's runs ended, and what its counters came to.

    Attributes:
        states: Of the run, and of the one that does it again.
        counters: Those that are not 0.
    """

    states: tuple[str, ...]
    counters: Mapping[str, int]

    def differences(self, came: "Outcome") -> list[str]:
        """Return in what something else has come, a line each."""
        found = [f"states: {self.states} expected, {came.states} came"] if came.states != self.states else []
        for name in sorted({*self.counters, *came.counters}):
            expected, counted = self.counters.get(name, 0), came.counters.get(name, 0)
            if expected != counted:
                found.append(f"counter {name}: {expected} expected, {counted} came")
        return found


def predict(program: Program) -> Outcome:
    """Return what a program comes to, whatever happens to those who run it."""
    model = _Model()
    states = [model.run(program.commands)]
    mended = next((n for n, command in enumerate(program.commands) if isinstance(command, Mended)), None)
    if mended is not None and states == ["failed"]:
        model.is_mended = True
        states.append(model.run(program.commands[mended:]))
    return Outcome(tuple(states), {name: value for name, value in sorted(model.counters.items()) if value})


class _Failed(Exception):
    """What is done has failed."""


class _Ended(Exception):
    """The run ends."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


Undo = list[tuple[str, int]]


class _Model:
    """Counters, and what commands make of them.

    Attributes:
        is_mended: Whether what was broken is not any more.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.is_mended = False
        self._had: set[Once] = set()

    def run(self, body: Body) -> str:
        """Return how a run of a body ends."""
        try:
            self._body(body, [])
        except _Failed:
            return "failed"
        except _Ended as ended:
            return ended.state
        return "succeeded"

    def _body(self, body: Body, around: Undo) -> None:
        """Do a body; what can be undone in it is undone when it does not succeed, else perhaps later with `around`."""
        own: Undo = []
        try:
            self._commands(body, own)
        except (_Failed, _Ended) as ended:
            if not isinstance(ended, _Ended) or ended.state != "succeeded":
                for counter, amount in own:
                    self.counters[counter] -= amount
            raise
        around += own

    def _commands(self, body: Body, own: Undo) -> None:
        failed = skipped = False
        for place, command in enumerate(body):
            if skipped:
                # The first that goes on whatever became of what it needs goes on with nothing of its own.
                skipped = not _joins(command)
                continue
            try:
                self._do(command, own)
            except _Failed:
                failed = True
                if isinstance(command, Fail) and command.recovered:
                    continue
                if not any(map(_joins, body[place + 1 :])):
                    raise
                skipped = True
        if failed:
            raise _Failed

    def _do(self, command: Command, own: Undo) -> None:
        getattr(self, f"_{type(command).__name__.lower()}")(command, own)

    # What each command does, by its name.

    def _add(self, add: Add, own: Undo) -> None:
        self.counters[add.counter] += add.amount
        if add.undo:
            own.append((add.counter, add.amount))
        if add.tidy:
            self.counters[TIDIED] += 1

    def _fail(self, fail: Fail, _: Undo) -> None:
        if fail.late:
            self.counters[fail.counter] += fail.amount
        raise _Failed

    def _once(self, once: Once, _: Undo) -> None:
        if once not in self._had:
            self._had.add(once)
            self.counters[once.counter] += once.amount

    def _together(self, together: Together, own: Undo) -> None:
        for add in together.adds:
            self._add(add, own)

    def _guard(self, guard: Guard, own: Undo) -> None:
        if self.counters[guard.add.counter] >= guard.least:
            self._add(guard.add, own)

    def _end(self, end: End, _: Undo) -> None:
        if self.counters[end.counter] >= end.least:
            raise _Ended(end.state)

    def _choose(self, choose: Choose, own: Undo) -> None:
        self._body(choose.enough if self.counters[choose.counter] >= choose.least else choose.otherwise, own)

    def _each(self, each: Each, own: Undo) -> None:
        amounts = range(self.counters[each.counter] % ITEMS) if each.amounts is None else each.amounts
        for amount in amounts:
            try:
                self._body((Add(each.counter, amount), *each.body), own)
            except _Failed:
                continue

    def _repeat(self, repeat: Repeat, _: Undo) -> None:
        done = 0
        while not done or self.counters[repeat.counter] < repeat.least:
            if done == repeat.most:
                raise _Failed
            self.counters[repeat.counter] += repeat.amount
            done += 1

    def _branches(self, branches: Branches, own: Undo) -> None:
        for body in branches.bodies:
            self._body(body, own)

    def _race(self, race: Race, own: Undo) -> None:
        self._body(race.body, own)

    def _planned(self, planned: Planned, own: Undo) -> None:
        self._body(planned.body, own)

    def _attempt(self, attempt: Attempt, own: Undo) -> None:
        try:
            try:
                self._body(attempt.do, own)
            except _Failed:
                if not attempt.catches:
                    raise
                self._body(attempt.catch, own)
        finally:
            self._body(attempt.last, [])

    def _call(self, call: Call, _: Undo) -> None:
        if self.run(call.body) != "succeeded":
            raise _Failed

    def _signal(self, signal: Signal, _: Undo) -> None:
        self.counters[signal.counter] += signal.amount

    def _wait(self, _: Wait, __: Undo) -> None:
        """Nothing is counted."""

    def _cancel(self, _: Cancel, __: Undo) -> None:
        raise _Ended("cancelled")

    def _mended(self, mended: Mended, _: Undo) -> None:
        if not self.is_mended:
            raise _Failed
        self.counters[mended.counter] += mended.amount


def _joins(command: Command) -> bool:
    """Whether its last task goes on whatever became of those before it."""
    return isinstance(command, Guard | End) or (isinstance(command, Fail) and command.recovered)
