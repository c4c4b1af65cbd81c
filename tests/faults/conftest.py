"""One stack that rows share, and which of them run: the short set, or what `make faults` asks for."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.judge import Judged
from tests.faults.reads import quiet
from tests.faults.result import Result
from tests.faults.rows import FULL, RESULT, SHORT_S
from tests.faults.stack import Stack, running

#: How long the load runs before a fault, after the recovery, and at least in all; in the short set about 10 s.
_LOAD_S = (8.0, 8.0, 30.0) if FULL else (2.0, 2.0, 10.0)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(number, short): a row of the fault matrix")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if FULL:
        return  # the runner has chosen
    left = [item for item in items if (row := item.get_closest_marker("row")) and not row.kwargs.get("short")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = [report for reports in terminalreporter.stats.values() for report in reports]
    rows = [report for report in told if isinstance(report, pytest.TestReport) and "row" in report.keywords]
    if rows:
        names = {report.nodeid for report in rows}
        limit = "" if FULL else f" of {SHORT_S:.0f}"
        took = f"{sum(row.duration for row in rows):.0f} s{limit}"
        terminalreporter.write_line(f"{len(names)} tests of fault rows: {took}")
        for row in rows:
            for name, value in row.user_properties if row.when == "call" else ():
                if name == RESULT:
                    took = f"{row.duration:.0f} s: load {value['load_s']:.0f}, judge {value['judge_s']:.0f}"
                    terminalreporter.write_line(f"  row {value['row']}: {took}")


def leave(folder: Path, *, failed: bool) -> None:
    """Remove a stack's folder; after a failure all but its logs and what its clients saw."""
    if failed:
        print(f"logs and histories are in {folder}")
    for path in [*folder.glob("postgres"), *folder.glob("kafka*"), folder / "landing"] if failed else [folder]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for a stack of its own; another session of pytest closes those that pytest makes to PostgreSQL."""
    made, failures = Path(tempfile.mkdtemp(prefix="millrace-faults-")), request.session.testsfailed
    yield made
    leave(made, failed=request.session.testsfailed > failures)


folder = pytest.fixture(name="folder")(_folder)
module_folder = pytest.fixture(scope="module", name="module_folder")(_folder)


class Shared:
    """The plain stack that rows share, until one of them breaks it for good.

    Args:
        session: Counts the failures.
    """

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._failures = 0
        self._running: AbstractAsyncContextManager[Stack] | None = None
        self._stack: Stack | None = None
        self._folder = Path()

    async def get(self) -> Stack:
        """Return it; a new one where there is none."""
        if self._stack is None:
            self._folder = Path(tempfile.mkdtemp(prefix="millrace-faults-"))
            self._failures = self._session.testsfailed
            self._running = running(self._folder)
            self._stack = await self._running.__aenter__()
        return self._stack

    async def mend(self) -> None:
        """Have it run as usual; one that cannot is given up."""
        try:
            if self._stack is not None:
                await self._stack.mend()
                await quiet(self._stack)
        except AssertionError as error:
            print(f"the shared stack is given up: {error}")
            await self.end()

    async def end(self) -> None:
        """End it."""
        if self._running is not None:
            await self._running.__aexit__(None, None, None)
            leave(self._folder, failed=self._session.testsfailed > self._failures)
        self._running, self._stack = None, None


@pytest.fixture(scope="session")
async def shared(request: pytest.FixtureRequest) -> AsyncIterator[Shared]:
    """The plain stack, which starts when a row first asks for it."""
    made = Shared(request.session)
    yield made
    await made.end()


@pytest.fixture
async def stack(shared: Shared, request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    """The plain stack, shared by all rows that break nothing for good, and as usual after each."""
    yield await shared.get()
    coming = request.session.items[request.session.items.index(request.node) + 1 :]
    if any("stack" in getattr(item, "fixturenames", ()) for item in coming):
        await shared.mend()
    else:
        await shared.end()


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Judged:
    """Judges a fault under load; each result is a line of the table."""

    def keep(result: Result) -> None:
        request.node.user_properties.append((RESULT, asdict(result)))

    return Judged(*_LOAD_S, keep)
