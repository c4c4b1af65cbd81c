"""Many programs at once on one stack, what is done to it meanwhile, and what has come to another end than modelled."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from millrace.runtime.testing.process import service_of

from tests.faults.stack import Stack
from tests.programs.disturbed import FAULTS
from tests.programs.played import LOOKS_EVERY_S, Played, Player, counters_of
from tests.programs.previous import roll, take_back_chains
from tests.programs.program import TAKEN

AT_ONCE = 10
#: So many programs share one of each fault.
ROUND = 50
#: They are under way for so long before something is done.
BEGUN_S = 0.7
#: What was told as the last thing may still be on its way.
SETTLE_S = 20.0
ROLLING = "rolling restart with the previous build"
KINDS = (*FAULTS, ROLLING)
#: Rows of control that are there only while something is under way, and anybody's of what could not be handled.
PASSING, HELD = ("lease", "waiter", "mail"), "held"


def kind_of(seed: int) -> str:
    """Return what is done while the program of a seed runs, so that a seed alone plays it again."""
    return KINDS[seed % len(KINDS)]


class Verification:
    """Programs on a stack, and what became of them.

    Args:
        stack: Where.
        ended: Is called for each program that is over.
        told: Is told what is done, a line each.

    Attributes:
        diverged: Programs that came to another end, and what is left behind, as people read it.
    """

    def __init__(
        self, stack: Stack, ended: Callable[[], None] = lambda: None, told: Callable[[str], None] = lambda _: None
    ) -> None:
        self.diverged: dict[str, str] = {}
        self._stack = stack
        self._player = Player(stack)
        self._ended, self._told = ended, told
        self._room = asyncio.Semaphore(AT_ONCE)
        self._played: list[Played] = []
        self._begun: list[asyncio.Task[None]] = []

    async def round(self, seeds: Sequence[int], python: "asyncio.Future[str] | None" = None) -> None:
        """Play programs, each while what its seed says is done, and judge them.

        Args:
            seeds: Whose.
            python: The previous build's, where some are played during a rolling restart.

        Raises:
            AssertionError: The stack was not ready again in time.
        """
        groups = {kind: [seed for seed in seeds if kind_of(seed) == kind] for kind in KINDS}
        for kind, group in groups.items():
            began = time.monotonic()
            if group and kind == ROLLING:
                await self._roll(group, python)
            elif group:
                await self.disturbed(group, kind)
            if group:
                self._told(f"{kind}: {len(group)} programs begun, {time.monotonic() - began:.0f} s")
        await self.over()
        await self.judge()

    async def disturbed(self, seeds: Sequence[int], kind: str) -> None:
        """Begin programs, and do something to the stack."""

        async def begin() -> None:
            for seed in seeds:
                self._begin(seed)
            await asyncio.sleep(BEGUN_S)

        await FAULTS[kind](self._stack, random.Random(seeds[0]), begin)

    async def over(self) -> None:
        """Return when all that was begun is over; raise what a program raised, which is then played by nobody."""
        begun, self._begun = self._begun, []
        await asyncio.gather(*begun)

    async def judge(self) -> None:
        """Compare all that was played so far with the model, what was judged before too: things may come late."""
        counters = counters_of(await asyncio.to_thread(self._stack.effects.rows))
        for played in self._played:
            if told := played.divergence(counters.get(played.name, {})):
                self.diverged[played.name] = told
        ends = time.monotonic() + SETTLE_S
        while (left := await asyncio.to_thread(self._left)) and time.monotonic() < ends:
            await asyncio.sleep(LOOKS_EVERY_S)
        self.diverged |= left

    def states(self) -> Counter[str]:
        """Return how often runs have come to which end."""
        return Counter(state for played in self._played for state in played.states)

    async def _roll(self, seeds: Sequence[int], python: "asyncio.Future[str] | None") -> None:
        """Play programs that the previous build knows during a rolling restart to it and back.

        What is younger than that build is not under way meanwhile: it must not decide on what it does not know.
        """
        if python is None:
            raise ValueError(f"seeds {seeds} are for a rolling restart, which needs the previous build")
        waiting = list(reversed(seeds))

        async def begin() -> None:
            if waiting:
                self._begin(waiting.pop(), plain=True)
                await asyncio.sleep(BEGUN_S)

        await self.over()
        await take_back_chains(self._stack)
        await roll(self._stack, await python, begin, random.Random(seeds[0]))
        await self._stack.rolled_out()
        while waiting:
            await begin()

    def _left(self) -> dict[str, str]:
        """Return what is left behind: table -> its rows, as people read them."""
        readers = {service_of(name) for name in self._stack.deployment.services} | {f"worker_{TAKEN}"}
        tables = [*(("control", table) for table in PASSING), *((name, HELD) for name in sorted(readers))]
        found = {place: self._stack.postgres.execute(place[0], f"TABLE {place[1]}").strip() for place in tables}
        return {
            f"{database}.{table}": f"left in {table} of {database}:\n{rows[:5_000]}"
            for (database, table), rows in found.items()
            if rows
        }

    def _begin(self, seed: int, *, plain: bool = False) -> None:
        # Kept until somebody asks whether it is over: one that raised by then would count as passed.
        self._begun.append(asyncio.create_task(self._play(seed, plain=plain)))

    async def _play(self, seed: int, *, plain: bool) -> None:
        async with self._room:
            self._played.append(await self._player.play(seed, plain=plain))
        self._ended()
