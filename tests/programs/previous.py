"""The build before control became a workflow engine, in an environment of its own; and a rolling restart with it."""

import asyncio
import os
import random
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM

from millrace.control.store.due import POST_CHAINS
from millrace.runtime.testing.process import service_of

from tests.faults.stack import REPOSITORY, Stack
from tests.programs.disturbed import BACK_S, Begin

#: The last commit whose control knew tasks, what they need, and nothing of bodies, waits, pools or queues of teams.
COMMIT = "92d8285"
MAKE_S = 1_800.0
#: One after another; those who do tasks between those who decide.
REPLACED = ("control", "data", "control-1", "data-1")


class CannotBuild(Exception):
    """The previous build cannot be made; it says why, and what would be right."""


@asynccontextmanager
async def previous_build(folder: Path) -> AsyncIterator["asyncio.Future[str]"]:
    """Make the previous build in a folder, beside what goes on, and remove it when the block ends.

    What is yielded comes to its Python once it is made, or raises CannotBuild.
    """
    making = asyncio.create_task(_make(folder))
    try:
        yield making
    finally:
        making.cancel()
        await asyncio.wait([making])
        await asyncio.to_thread(_git, "worktree", "remove", "--force", str(folder))


async def _make(folder: Path) -> str:
    adding = asyncio.create_task(asyncio.to_thread(_git, "worktree", "add", "--detach", str(folder), COMMIT))
    try:
        told = await asyncio.shield(adding)
    except asyncio.CancelledError:
        await adding  # git goes on: what is not whole yet could not be removed
        raise
    if told.returncode:
        hint = "in a shallow clone: git fetch --unshallow"
        raise CannotBuild(f"commit {COMMIT} cannot be checked out: {told.stderr.strip()}; {hint}")
    command = ("make", "-C", str(folder), "setup", f"PYTHON={sys.executable}")
    made = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT, start_new_session=True)
    try:
        async with asyncio.timeout(MAKE_S):
            said, _ = await made.communicate()
    except TimeoutError:
        raise CannotBuild(f"{' '.join(command)} takes longer than {MAKE_S:g} s") from None
    finally:
        if made.returncode is None:
            os.killpg(made.pid, SIGKILL)
    if made.returncode:
        raise CannotBuild(f"{' '.join(command)} failed:\n{said.decode(errors='replace')[-4_000:]}")
    return str(folder / ".venv/bin/python")


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


async def take_back_chains(stack: Stack) -> None:
    """Have orders say nothing of chains, as they do until the former version is gone, which would not know of them."""
    stack.postgres.execute("control", f"DELETE FROM schema_version WHERE migration = '{POST_CHAINS}'")
    for part in (name for name in REPLACED if name in stack.parts and service_of(name) == "control"):
        await stack.restart(part, SIGTERM, seconds=BACK_S)


async def roll(stack: Stack, python: str, begin: Begin, chosen: random.Random) -> None:
    """Replace every process by one of the previous build, and then by one of this, one after another.

    Args:
        stack: Of which.
        python: The previous build's.
        begin: Begins a program, before each.
        chosen: Says how each ends: in order, or by `kill -9`.
    """
    for build in (python, sys.executable):
        for part in (name for name in REPLACED if name in stack.parts):
            await begin()
            stack.build(part, build)
            await stack.restart(part, chosen.choice([SIGTERM, SIGKILL]), seconds=BACK_S)
    await stack.ready(seconds=BACK_S)
