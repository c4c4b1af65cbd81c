"""One stack that rows share, and which of them run: the short set, or what `make faults` asks for."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.judge import Judged, Result
from tests.faults.rows import FULL, RESULT
from tests.faults.stack import Stack, running

#: In the short set the load runs for about 10 s around a fault.
_BEFORE_S, _AFTER_S = (15.0, 15.0) if FULL else (4.0, 3.0)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(number, short): a row of the fault matrix")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if FULL:
        return  # the runner has chosen
    left = [item for item in items if (row := item.get_closest_marker("row")) and not row.kwargs.get("short")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a stack of a test's own; another session of pytest closes those that pytest makes to PostgreSQL."""
    made = Path(tempfile.mkdtemp(prefix="millrace-faults-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """The plain stack, shared by all rows that break nothing for good."""
    made = Path(tempfile.mkdtemp(prefix="millrace-faults-"))
    async with running(made) as running_stack:
        yield running_stack
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Judged:
    """Judges a fault under load; each result is a line of the table."""

    def keep(result: Result) -> None:
        request.node.user_properties.append((RESULT, asdict(result)))

    return Judged(_BEFORE_S, _AFTER_S, keep)
