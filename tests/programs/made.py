"""Makes programs up from choices: of a seed, or of hypothesis."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.programs.program import (
    COUNTERS,
    LEASED,
    MOST_COMMANDS,
    TAKEN,
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

#: How many commands the largest of those has at least that have others in them.
MOST_WITHIN = 4

Pick = Callable[[Sequence[Any]], Any]
"""Returns one of some options; the first is the simplest."""


def of_seed(seed: int, *, plain: bool = False) -> Program:
    """Return the program of a seed."""
    return program(random.Random(seed).choice, plain=plain)


def program(pick: Pick, *, plain: bool = False) -> Program:
    """Return a program of up to 20 commands.

    Args:
        pick: Who chooses.
        plain: It has only what the previous build knows.
    """
    made = _Made(pick, plain=plain)
    last = pick([None] * 6 + [Cancel, Mended]) if not plain else None
    where = replace(_Where(COUNTERS), fails=last is not Mended, ends=last is not Mended, undoes=last is not Mended)
    commands = made.body(where, most=8, least=pick([1, 3]))
    if last is Cancel:
        commands += (Cancel(), *made.body(where, most=2))
    if last is Mended:
        commands += (Mended(pick(COUNTERS), made.amount()), *made.body(where, most=2))
    return Program(commands, plain=plain, paused=not plain and pick([False, False, False, True]))


@dataclass(frozen=True)
class _Where:
    """What may be done at a place, so that what it comes to does not depend on who is faster.

    Attributes:
        counters: That it may touch.
        sees: Nobody else changes them meanwhile.
        fails: It may fail: nothing beside it would be stopped by that.
        ends: It may end the run, likewise.
        undoes: It may say how it is undone.
        waits: It is done once, so that a signal is for nobody else.
        depth: How deep bodies may lie in it.
    """

    counters: tuple[str, ...]
    sees: bool = True
    fails: bool = True
    ends: bool = True
    undoes: bool = True
    waits: bool = True
    depth: int = 3


class _Made:
    """A program in the making."""

    def __init__(self, pick: Pick, *, plain: bool) -> None:
        self._pick = pick
        self._plain = plain
        self._left = MOST_COMMANDS - 3  # the first, one that the driver has a part in, and one behind that
        self._signals = 0

    def body(self, where: _Where, most: int, least: int = 1) -> Body:
        """Return commands; at least one, for which there is room already."""
        made = [self._command(where)]
        for _ in range(self._pick(range(least - 1, most))):
            if self._left:
                self._left -= 1
                made.append(self._command(where))
        return tuple(made)

    def amount(self) -> int:
        """Return what is added."""
        return int(self._pick(range(1, 6)))

    def _command(self, where: _Where) -> Command:
        make = self._pick([self._add] * 4 + self._others(where))
        made: Command = make(where)
        return made

    def _others(self, where: _Where) -> list[Callable[[_Where], Command]]:
        room = self._left >= MOST_WITHIN
        made: list[Callable[[_Where], Command]] = [self._together] if room else []
        if where.sees and where.fails and room:
            made.append(self._guard)
        if where.fails:
            made.append(self._fail)
        if where.ends and where.sees:
            made.append(self._end)
        if self._plain:
            return made
        made += [self._once, self._wait]
        if where.waits:
            made.append(self._signal)
        if where.depth and room:
            made += [self._each, self._race, self._call, self._planned]
            made += [self._choose, self._repeat] if where.sees else []
            made += [self._attempt] if where.undoes else []
            made += [self._branches] if len(where.counters) > 1 else []
        return made

    def _inner(self, where: _Where, **other: Any) -> Body:
        return self._all([replace(where, **other)])[0]

    def _all(self, places: Sequence[_Where]) -> tuple[Body, ...]:
        """Return a body for each place within a command; each has room for one command, whatever is in the others."""
        self._left -= len(places)
        return tuple(self.body(replace(where, depth=where.depth - 1), most=3) for where in places)

    # What there is.

    def _add(self, where: _Where) -> Add:
        add = Add(self._pick(where.counters), self.amount(), takes_s=self._pick([0, 0, 0.1, 0.3]))
        add = replace(add, fails=self._pick([0, 0, 0, 1, 2]), late=self._pick([False, True]))
        if self._plain:
            return add
        add = replace(add, queue=self._pick([TAKEN, TAKEN, LEASED]), slot=self._pick([False, False, True]))
        if where.undoes:
            add = replace(add, undo=self._pick([False, False, True]), tidy=self._pick([False] * 4 + [True]))
        return add

    def _together(self, where: _Where) -> Together:
        adds = [self._add(where) for _ in range(self._pick([2, 3]))]
        self._left -= len(adds)
        return Together(tuple(adds))

    def _once(self, where: _Where) -> Once:
        return Once(self._pick(where.counters), self._pick([1, 2]))

    def _fail(self, where: _Where) -> Fail:
        return Fail(self._pick(where.counters), self.amount(), *(self._pick([False, True]) for _ in range(2)))

    def _guard(self, where: _Where) -> Guard:
        self._left -= 1
        return Guard(self._least(), self._add(where))

    def _end(self, where: _Where) -> End:
        return End(self._pick(where.counters), self._pick([100, 2, 0]), self._pick(["refused", "succeeded", "failed"]))

    def _wait(self, _: _Where) -> Wait:
        return Wait(self._pick([0, 0.2, 1]))

    def _signal(self, where: _Where) -> Signal:
        self._signals += 1
        return Signal(f"go{self._signals}", self._pick(where.counters), self.amount())

    def _choose(self, where: _Where) -> Choose:
        bodies = self._all([where, where][: self._pick([1, 2])])
        return Choose(self._pick(where.counters), self._least(), *bodies)

    def _each(self, where: _Where) -> Each:
        amounts = None if where.sees and self._pick([False, True]) else tuple(range(1, self._pick([3, 5, 1])))
        at_once = self._pick([1, 3])
        inner = replace(where, sees=where.sees and at_once == 1, ends=False, waits=False)
        body = self._inner(inner, fails=True) if self._pick([False, True]) else ()
        return Each(self._pick(where.counters), amounts, at_once, body)

    def _repeat(self, where: _Where) -> Repeat:
        counter, least = self._pick(where.counters), self._pick([1, 4, 8])
        return Repeat(counter, self._pick([2, 3]), least, self._pick([10, 2]) if where.fails else 10)

    def _branches(self, where: _Where) -> Branches:
        middle = len(where.counters) // 2
        parts = where.counters[:middle], where.counters[middle:]
        within = replace(where, fails=False, ends=False)
        return Branches(self._all([replace(within, counters=part) for part in parts]))

    def _race(self, where: _Where) -> Race:
        return Race(self._inner(where, fails=False, ends=False))

    def _attempt(self, where: _Where) -> Attempt:
        catches = self._pick([True, True, not where.fails])
        fails, cleans = self._pick([True, False]), self._pick([False, True])
        self._left -= fails + cleans
        do, catch = self._all([replace(where, fails=True), where])
        do += (self._fail(where),) if fails else ()
        last = (replace(self._add(where), undo=False, tidy=False),) if cleans else ()
        return Attempt(do, catch, catches, last)

    def _call(self, where: _Where) -> Call:
        return Call(self._inner(where, ends=False, waits=False))

    def _planned(self, where: _Where) -> Planned:
        return Planned(self._inner(where))

    def _least(self) -> int:
        return int(self._pick([1, 5, 9, 20]))
