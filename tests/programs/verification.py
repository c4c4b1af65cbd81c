"""Many programs at once on one stack, what is done to it meanwhile, and what has come to another end than modelled."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from tests.faults.stack import Stack
from tests.programs.disturbed import FAULTS
from tests.programs.played import Played, Player, counters_of
from tests.programs.previous import roll

AT_ONCE = 10
#: So many programs share one of each fault.
ROUND = 50
#: They are under way for so long before something is done.
BEGUN_S = 0.7
ROLLING = "rolling restart with the previous build"
KINDS = (*FAULTS, ROLLING)
#: Rows of control that are there only while something is under way, or could not be handled.
PASSING = ("lease", "waiter", "mail", "held")

Told = Callable[[str], None]
Python = Callable[[], Awaitable[str]]
"""Comes to the Python of the previous build."""


def kind_of(seed: int) -> str:
    """Return what is done while the program of a seed runs, so that a seed alone plays it again."""
    return KINDS[seed % len(KINDS)]


class Verification:
    """Programs on a stack, and what became of them.

    Args:
        stack: Where.
        ended: Is told of each program that is over.
        told: Is told what is done, a line each.

    Attributes:
        diverged: Programs that came to another end, and what is left behind, as people read it.
    """

    def __init__(self, stack: Stack, ended: Callable[[], None] = lambda: None, told: Told = lambda _: None) -> None:
        self.diverged: dict[str, str] = {}
        self._stack = stack
        self._player = Player(stack)
        self._ended, self._told = ended, told
        self._room = asyncio.Semaphore(AT_ONCE)
        self._played: list[Played] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def round(self, seeds: Sequence[int], python: Python | None = None) -> None:
        """Play programs, each while what its seed says is done, and judge them.

        Args:
            seeds: Whose.
            python: Needed where some are played during a rolling restart.

        Raises:
            AssertionError: The stack was not ready again in time.
        """
        groups = {kind: [seed for seed in seeds if kind_of(seed) == kind] for kind in KINDS}
        for kind, group in groups.items():
            if not group:
                continue
            began = time.monotonic()
            if kind == ROLLING:
                await self._roll(group, python)
            else:
                await self.disturbed(group, kind)
            self._told(f"{kind}: {len(group)} programs begun, {time.monotonic() - began:.0f} s")
        await self.over()
        await self.judge()

    async def disturbed(self, seeds: Sequence[int], kind: str) -> None:
        """Begin programs, and do something to the stack."""
        for seed in seeds:
            self._begin(seed)
        await asyncio.sleep(BEGUN_S)
        await FAULTS[kind](self._stack, random.Random(seeds[0]))

    async def over(self) -> None:
        """Return when all that was begun is over."""
        if self._under_way:
            await asyncio.gather(*self._under_way)

    async def judge(self) -> None:
        """Compare all that was played so far with the model, what was judged before too: things may come late."""
        counters = counters_of(await asyncio.to_thread(self._stack.effects.rows))
        for played in self._played:
            if told := played.divergence(counters.get(played.name, {})):
                self.diverged[played.name] = told
        for table in PASSING:
            left = self._stack.postgres.execute("control", f"SELECT count(*) FROM {table}")
            if left.strip() != "0":
                self.diverged[table] = f"{left.strip()} rows are left in {table} of control"

    async def _roll(self, seeds: Sequence[int], python: Python | None) -> None:
        """Play programs that the previous build knows during a rolling restart to it and back.

        What is younger than that build is not under way meanwhile: it must not decide on what it does not know.
        """
        await self.over()
        if python is None:
            raise ValueError(f"seeds {seeds} are for a rolling restart, which needs the previous build")
        waiting = list(reversed(seeds))

        def begin() -> None:
            if waiting:
                self._begin(waiting.pop(), plain=True)

        await roll(self._stack, await python(), begin, random.Random(seeds[0]))
        while waiting:
            begin()

    def _begin(self, seed: int, *, plain: bool = False) -> None:
        task = asyncio.create_task(self._play(seed, plain=plain))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _play(self, seed: int, *, plain: bool) -> None:
        async with self._room:
            self._played.append(await self._player.play(seed, plain=plain))
        self._ended()

    def states(self) -> Counter[str]:
        """Return how often runs have come to which end."""
        return Counter(state for played in self._played for state in played.states)
