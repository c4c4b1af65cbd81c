"""Three programs on the real stack, while control dies once; `make verify PROGRAMS=50` plays more, under more."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from tests.programs.crew import crew
from tests.programs.played import Played
from tests.programs.previous import _git, previous_build
from tests.programs.verification import Verification

SEEDS = (9, 18, 27)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a unix socket's address has 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="millrace-programs-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def test_a_program_that_nobody_could_play_has_not_passed(folder: Path) -> None:
    class Missing(Exception):
        pass

    class Player:
        async def play(self, seed: int, **_: bool) -> Played:
            raise Missing(seed)

    async with grpc.aio.insecure_channel(f"unix:{folder}/nobody") as channel:
        found = Verification(SimpleNamespace(channel=lambda _: channel))  # type: ignore[arg-type] # nothing else is asked of it
        found._player = Player()  # type: ignore[assignment] # as above
        found._begin(1)
        for _ in range(10):  # until nobody but the verification itself can know of it
            await asyncio.sleep(0)

        with pytest.raises(Missing):
            await found.over()


async def test_a_previous_build_that_is_given_up_while_it_is_checked_out_leaves_no_worktree(folder: Path) -> None:
    async with previous_build(folder / "previous") as making:
        while not (folder / "previous").exists() and not making.done():  # from here on git is about it
            await asyncio.sleep(0)

    assert str(folder) not in _git("worktree", "list").stdout
    assert not (folder / "previous").exists()


async def test_programs_come_to_what_the_model_says_though_control_is_killed(folder: Path) -> None:
    async with crew(folder, services=("control",)) as stack:
        found = Verification(stack)
        await found.disturbed(SEEDS, "kill -9 of control")
        await found.over()
        await found.judge()

        assert stack.parts["control"].starts == 2
    assert found.diverged == {}, "\n".join(found.diverged.values())
