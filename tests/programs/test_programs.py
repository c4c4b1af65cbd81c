"""Three programs on the real stack, while control dies once; `make verify PROGRAMS=50` plays more, under more."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.crew import crew
from tests.programs.verification import Verification

SEEDS = (9, 18, 27)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a unix socket's address has 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="millrace-programs-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def test_programs_come_to_what_the_model_says_though_control_is_killed(folder: Path) -> None:
    async with crew(folder, services=("control",)) as stack:
        found = Verification(stack)
        await found.disturbed(SEEDS, "kill -9 of control")
        await found.over()
        await found.judge()

        assert stack.parts["control"].starts == 2
    assert found.diverged == {}, "\n".join(found.diverged.values())
