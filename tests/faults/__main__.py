"""The fault matrix: `python -m tests.faults`, or `ROWS=1,6,11 python -m tests.faults` for some of its rows.

It prints a table, how long that took of what it may, and last `N passed, N failed`. It exits with 0 only when nothing
failed and every row asked for ran; where none is asked for, every one that is built.
"""

import os
import sys
import time

os.environ["MILLRACE_FAULTS_FULL"] = "1"  # read when the rows are

import pytest

from tests.faults.result import Result
from tests.faults.rows import MEASURED, RESULT, ROWS, WHOLE_S
from tests.faults.table import Line, all_ran, show

#: Why a test has no outcome of its own.
NOT_REACHED = "the session ended first"


class Matrix:
    """Chooses the tests of some rows and takes down what they come to."""

    def __init__(self, chosen: list[int]) -> None:
        self.lines: list[Line] = []
        self._chosen = chosen
        self._row: dict[str, int] = {}
        self._left: dict[str, int] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is no row, or none of those chosen; what shares a stack comes first."""
        for item in items:
            if mark := item.get_closest_marker("row"):
                self._row[item.nodeid] = mark.args[0]
        left = [item for item in items if self._row.get(item.nodeid) not in self._chosen]
        config.hook.pytest_deselected(items=left)
        items[:] = sorted((item for item in items if item not in left), key=_stands_alone)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what is to run."""
        self._left = {item.nodeid: self._row[item.nodeid] for item in session.items if item.nodeid in self._row}

    def pytest_sessionfinish(self) -> None:
        """Take down what was not reached: the session was interrupted, or a file could not be read."""
        self.lines += [Line(number, _name(nodeid), NOT_REACHED) for nodeid, number in self._left.items()]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down a test's outcome: that of its call, or of what went wrong around it."""
        if report.when != "call" and report.passed:
            return
        self._left.pop(report.nodeid, None)
        why = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else report.outcome
        results = [Result(**value) for name, value in report.user_properties if name == RESULT]
        test = _name(report.nodeid)
        self.lines.append(Line(self._row[report.nodeid], test, why, results))
        print(f"\nrow {self._row[report.nodeid]}: {test}: {why} ({report.duration:.0f} s)", flush=True)
        for one in results:
            print(f"  {one.injected}: load {one.load_s:.0f} s, recovery {one.recovered_s} s, judge {one.judge_s:.1f} s")
        for told in (value for name, value in report.user_properties if name == MEASURED):
            print(f"  {told}")


def _name(nodeid: str) -> str:
    return nodeid.rpartition("::")[2]


def _stands_alone(item: pytest.Item) -> bool:
    return "stack" not in getattr(item, "fixturenames", ())


def main() -> int:
    """Run the rows asked for, show the table, and return the exit code."""
    asked = os.environ.get("ROWS", "")
    try:
        chosen = [int(number) for number in asked.split(",")] if asked else list(ROWS)
        unknown = [number for number in chosen if number not in ROWS]
    except ValueError:
        unknown = [asked]
    if unknown:
        sys.stderr.write(f"ROWS names what is no row: {unknown}; rows are numbers such as 1,6,11\n")
        return 2
    began = time.monotonic()
    matrix = Matrix(chosen)
    code = pytest.main(["-q", "tests/faults", *sys.argv[1:]], plugins=[matrix])
    took = f"{time.monotonic() - began:.0f} s"
    show(matrix.lines, chosen, took if asked else f"{took} of {WHOLE_S:.0f}")
    done = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    failed = any(line.outcome == "failed" for line in matrix.lines)
    wanted = chosen if asked else [number for number in chosen if not ROWS[number].later]
    return 0 if code in done and not failed and all_ran(matrix.lines, wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
