"""What a soak found, as tables and as one line of numbers."""

from rich.console import Console
from rich.table import Table

from tests.benchmarks.slopes import Tolerance, percentile, trend
from tests.benchmarks.soak_probe import Probe

TOLERANCES = {
    "memory, MB": Tolerance(0.03, 4.0),
    "file descriptors": Tolerance(0.05, 4.0),
    "asyncio tasks": Tolerance(0.10, 5.0),
    # They go up and down by what one round of housekeeping takes. A table that nothing is removed from rises by more
    # than 0.6 of its median in 3 minutes, and by more than all of it in 10.
    "rows": Tolerance(0.5, 25.0),
    # What is removed leaves room that is used again once a vacuum has been there. A table that is never cleaned rises
    # by more than its median.
    "size of tables, kB": Tolerance(0.5, 4096.0),
}
#: Of processes, and of tables.
OF_PROCESSES = ("memory, MB", "file descriptors", "asyncio tasks")
OF_TABLES = ("rows", "size of tables, kB")
#: The permanent record of the work: it grows with it, and is deleted by no age, or (`stream`) by whole days.
RECORD = frozenset(
    {"version", "check_result", "part", "training_set", "node", "fact", "edge", "stream", "shift", "schema_version"}
    | {"declaration", "contract", "study", "trial", "metric", "model_version", "evaluation", "verdict"}
    | {"alias", "alias_move"}
)
RECORDED = frozenset({"lineage.run"})
#: What has a bound of its own, and is filled up to it: the broker's heap, and the files that PostgreSQL keeps open.
BOUNDED = {
    ("memory, MB", "kafka"): "bounded by its heap",
    ("file descriptors", "a backend of postgres"): "bounded by max_files_per_process",
}
#: Who answers at each door, and so whose housekeeping could be felt there; who predicts asks for features.
DOORS = {"trigger": (), "start": ("control",), "read": ("control",), "predict": ("inference", "feature")}
DISTURBED = Tolerance(0.5, 0.02)
"""How much longer the slowest answers may take in seconds in which housekeeping works: half as long again, and 20 ms.

The p99 of some hundred answers is that of a handful: where nothing was felt it was 48 ms and otherwise 35. That is well
within the bound, and a batch that keeps callers waiting for a tenth of a second is not.
"""
#: What goes in every soak; the other kinds are of what its load never does, or go by whole days.
REMOVED = (
    "inbox",
    "held",
    "request",
    "job",
    "artifact",
    "event",
    "run_archived",
    "run",
    "generation",
    "prediction_lookup",
)
P50, P99 = 0.50, 0.99


def told(probe: Probe, console: Console, *, since: float, rate: float, runs: dict[str, int]) -> dict[str, object]:
    """Print what was found since the warm-up; return it as numbers, `held` when every bound was."""
    flat = [_trends(probe, console, what, since) for what in OF_PROCESSES]
    flat += [_tables(probe, console, what, since, runs["ended"]) for what in OF_TABLES]
    doors, undisturbed = _doors(probe, console, since)
    errors = probe.errors()
    for error in errors[:10]:
        console.print(f"[red]{error}[/]")
    left = [what for what in REMOVED if not probe.gone(what)]
    complete = runs["asked"] == runs["began"] == runs["ended"] == runs["succeeded"]
    return {
        "rate": round(rate, 2),
        "runs": runs,
        "errors": len(errors),
        "held_events": probe.held,
        "removed": {what: probe.gone(what) for what in sorted({kind for _, kind in probe.removed})},
        "never_removed": left,
        "doors": doors,
        "not_flat": sorted(name for names in flat for name in names),
        "undisturbed": undisturbed,
        "held": not any(flat) and not errors and not probe.held and not left and complete and undisturbed,
    }


def _trends(probe: Probe, console: Console, what: str, since: float) -> list[str]:
    """Print how something went in every process; return those in which it is not flat."""
    table, rising = Table(what, "level", "rise", "", title=None), []
    for (kind, whose), points in sorted(probe.measured.items()):
        if kind == what:
            found = trend([point for point in points if point[0] >= since], TOLERANCES[what])
            bounded = BOUNDED.get((what, whose), "")
            said = f"[dim]{bounded}[/]" if bounded else _said(found.flat, record=False)
            table.add_row(whose, f"{found.level:.1f}", f"{found.rise:+.2f}", said)
            rising += [] if found.flat or bounded else [f"{what} of {whose}"]
    console.print(table)
    return rising


def _tables(probe: Probe, console: Console, what: str, since: float, runs: int) -> list[str]:
    """Print how something of every table went; return those in which it is not flat, though it should be."""
    table, rising = Table(what, "level", "rise", "per run", ""), []
    for (kind, whose), points in sorted(probe.measured.items()):
        if kind != what:
            continue
        found = trend([point for point in points if point[0] >= since], TOLERANCES[what])
        record = whose.partition(".")[2] in RECORD or whose in RECORDED
        per_run = f"{points[-1][1] / runs:.2f}" if record and runs else ""
        table.add_row(whose, f"{found.level:.0f}", f"{found.rise:+.1f}", per_run, _said(found.flat, record=record))
        rising += [] if found.flat or record else [f"{what} of {whose}"]
    console.print(table)
    return rising


def _doors(probe: Probe, console: Console, since: float) -> tuple[dict[str, dict[str, float]], bool]:
    table = Table("door", "answers", "p50, ms", "p99, ms", "p99 while house is kept", "p99 otherwise")
    found: dict[str, dict[str, float]] = {}
    undisturbed = True
    for door, services in DOORS.items():
        answers = probe.latencies(door, since)
        seconds = set().union(*(probe.kept_house[service] for service in services))
        during = [took for at, took in answers if {int(at), int(at + took)} & seconds]
        otherwise = [took for at, took in answers if not {int(at), int(at + took)} & seconds]
        took = [each for _, each in answers]
        found[door] = {
            "answers": len(took),
            "p50_ms": _ms(took, P50),
            "p99_ms": _ms(took, P99),
            "p99_during_ms": _ms(during, P99),
            "p99_otherwise_ms": _ms(otherwise, P99),
        }
        table.add_row(door, *(f"{value:g}" for value in found[door].values()))
        usual = percentile(otherwise, P99)
        if services:
            # Where no house was kept nothing is shown.
            bound = usual * (1 + DISTURBED.share) + DISTURBED.slack
            undisturbed &= bool(during) and percentile(during, P99) <= bound
    console.print(table)
    return found, undisturbed


def _ms(seconds: list[float], share: float) -> float:
    return round(percentile(seconds, share) * 1000, 1)


def _said(flat: bool, *, record: bool) -> str:
    return "[green]flat[/]" if flat else "[dim]grows with the work[/]" if record else "[red]rises[/]"
