"""Random programs on the real stack under faults: `PROGRAMS=50 SEED=1 python -m tests.programs`.

It prints each program that comes to another end than the model says, and last `N passed, N failed`; it exits with 0
when none does.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.programs.crew import crew
from tests.programs.previous import CannotBuild, previous_build
from tests.programs.verification import ROLLING, ROUND, Verification, kind_of

REPLICAS = 2
_BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


async def verify(seeds: range, folder: Path, console: Console) -> Verification:
    """Play the programs of some seeds; return what became of them.

    Raises:
        AssertionError: The stack was not ready again after something was done to it.
        CannotBuild: The previous build cannot be made.
    """
    if (here := asyncio.current_task()) is not None:
        # A time limit ends it as Ctrl-C does: the processes go, and the worktree.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    async with AsyncExitStack() as kept:
        python = None
        if any(kind_of(seed) == ROLLING for seed in seeds):
            python = await kept.enter_async_context(previous_build(folder / "previous"))
        stack = await kept.enter_async_context(crew(folder / "stack", replicas=REPLICAS))
        bar = kept.enter_context(Progress(*_BAR, console=console))
        task = bar.add_task("programs", total=len(seeds))
        found = Verification(stack, lambda: bar.advance(task), bar.console.print)
        for first in range(0, len(seeds), ROUND):
            before = set(found.diverged)
            await found.round(seeds[first : first + ROUND], python)
            for name in found.diverged.keys() - before:
                bar.console.print(found.diverged[name], markup=False)
    return found


def main() -> int:
    """Play what is asked for; return the exit code."""
    count, first = os.environ.get("PROGRAMS", "50"), os.environ.get("SEED", "1")
    if not (count.isdecimal() and first.isdecimal() and int(count)):
        sys.stderr.write(f"PROGRAMS={count} SEED={first}: say how many, 1 or more, and the first seed, 0 or more\n")
        return 2
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="millrace-programs-"))
    try:
        found = asyncio.run(verify(range(int(first), int(first) + int(count)), folder, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print(f"interrupted; logs are in {folder}")
        return 130
    except (AssertionError, CannotBuild) as error:
        console.print(f"{error}\nlogs are in {folder}", markup=False)
        return 1
    ends = ", ".join(f"{n} {state}" for state, n in sorted(found.states().items()))
    console.print(f"runs: {ends}")
    if found.diverged:
        console.print(f"logs are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    failed = min(len(found.diverged), int(count))
    console.print(f"{int(count) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
