"""The table of the fault matrix: what was injected, whether it held, and how long the recovery took."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.faults.result import Result
from tests.faults.rows import ROWS


@dataclass(frozen=True)
class Line:
    """What one test of a row came to.

    Attributes:
        outcome: `passed`, `failed` or why it was not run.
        results: What was judged in it.
    """

    number: int
    test: str
    outcome: str
    results: Sequence[Result] = ()

    @property
    def ran(self) -> bool:
        """Whether it came to its end, good or bad."""
        return self.outcome in {"passed", "failed"}


def all_ran(lines: Sequence[Line], wanted: Sequence[int]) -> bool:
    """Whether every row wanted ran, with all of its tests."""
    return {line.number for line in lines} >= {*wanted} and all(line.ran for line in lines)


def show(lines: Sequence[Line], chosen: Sequence[int], took: str) -> None:
    """Print the table of the rows chosen, how long it took, and last how many passed and failed."""
    table = Table(title="The fault matrix")
    for name in ("row", "fault", "injected", "held", "recovered / bound", "lost", "doubled"):
        table.add_column(name, overflow="fold")
    for number in chosen:
        row = ROWS[number]
        own = [line for line in lines if line.number == number]
        if not own:
            table.add_row(str(number), row.name, "", f"later: {row.later}" if row.later else "not run", "", "", "")
        for line in own:
            for cells in _cells(line):
                table.add_row(str(number), row.name, *cells)
    Console(file=sys.stdout, width=160).print(table)
    passed, failed = (sum(line.outcome == outcome for line in lines) for outcome in ("passed", "failed"))
    print(took)
    print(f"{passed} passed, {failed} failed")


def _cells(line: Line) -> list[tuple[str, str, str, str, str]]:
    """Return a line's cells: one row for each fault that was judged in it, at least one."""
    if not line.ran:
        return [(line.test, f"not run: {line.outcome}", "", "", "")]
    found = [_cells_of(result) for result in line.results]
    held = all(result.held for result in line.results)
    if not found or (held and line.outcome == "failed"):
        found.append((line.test, "held" if line.outcome == "passed" else "NOT HELD", "", "", ""))
    return found


def _cells_of(result: Result) -> tuple[str, str, str, str, str]:
    bound = "" if result.bound_s is None else f"{result.bound_s:g} s"
    took = "" if result.recovered_s is None else f"{result.recovered_s:.1f} s"
    lost, doubled = _count(result, "lost", result.lost), _count(result, "doubled", result.doubled)
    return result.injected, result.shows if result.held else "NOT HELD", f"{took} / {bound}", lost, doubled


def _count(result: Result, kind: str, unexpected: int) -> str:
    if not result.judge_s:
        return "?"
    expected = result.expected.get(kind, 0)
    told = [str(unexpected)] if unexpected or not expected else []
    return " + ".join([*told, *([f"{expected} (expected)"] if expected else [])])
