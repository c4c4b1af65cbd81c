"""What happens, live: runs and their steps, and the passengers that a canary needs."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from millrace.contracts.rpc.control.v1 import control_pb2 as control
from millrace.sdk.client import Client
from millrace.sdk.publish import Publisher
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.flights import passengers
from examples.flights.report import output_of
from examples.flights.upstream import Month

CANARY_FLIGHTS = 1500
STYLES = {
    "succeeded": "green",
    "refused": "yellow",
    "failed": "red",
    "cancelled": "red",
    "dispatched": "cyan",
    "running": "cyan",
    "retry_wait": "magenta",
}
QUIET = frozenset({"blocked", "skipped"})


class Board:
    """A live table on a terminal; a line for each thing that changes elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._told: dict[tuple[str, str], str] = {}
        self._trips: dict[str, asyncio.Task[None]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_travelling()
        if self._live:
            self._live.stop()

    def show(self, runs: Iterable[control.Run]) -> None:
        """Show how the runs stand."""
        if self._live:
            self._live.update(_table(runs))
            return
        for run in runs:
            for task in run.tasks:
                if task.state not in QUIET:
                    self._tell(run.event_id, task.name, f"{task.state}{_attempts(task)}{_took(task)}")
            self._tell(run.event_id, "run", f"{run.state} {run.cause}".strip())

    async def travelling(
        self, run: control.Run, client: Client, months: Mapping[int, Month], airports: Path, publisher: Publisher
    ) -> None:
        """Have passengers of the next month ask, while a canary is on."""
        deployment_id = output_of(run, "deploy").get("deployment_id", "")
        judged = any(task.name.startswith("judge_") and task.state not in QUIET for task in run.tasks)
        if not deployment_id or not judged or deployment_id in self._trips:
            return
        number = int(run.event_id.split(" ")[0].split("-")[1])
        flights = await passengers.ask_about(
            client, months[number], months[number + 1], airports, CANARY_FLIGHTS, seed=number
        )
        self.stop_travelling()
        self._trips[deployment_id] = asyncio.create_task(passengers.travel(client, publisher, deployment_id, flights))

    def stop_travelling(self) -> None:
        """End the trips; a failed one raises here.

        Raises:
            MillraceError: What stopped it.
        """
        for trip in self._trips.values():
            if trip.done() and not trip.cancelled():
                trip.result()
            trip.cancel()

    def _tell(self, run: str, name: str, text: str) -> None:
        if self._told.get((run, name)) != text:
            self._told[run, name] = text
            elapsed_s = time.monotonic() - self._began
            self._console.print(f"{elapsed_s:6.1f} s  {run:16} {name:15} {text}", highlight=False, soft_wrap=True)


def _table(runs: Iterable[control.Run]) -> Table:
    table = Table("month", "run", "steps", box=None, header_style="bold", padding=(0, 1))
    for run in runs:
        steps = Text()
        for task in run.tasks:
            if task.state not in QUIET:
                steps.append(f"{task.name}{_attempts(task)}{_took(task)}  ", style=STYLES.get(task.state, ""))
        table.add_row(run.event_id.split(" ")[0], Text(run.state, style=STYLES.get(run.state, "dim")), steps)
    return table


def _attempts(task: control.Task) -> str:
    return f" (attempt {task.attempts})" if task.attempts > 1 else ""


def _took(task: control.Task) -> str:
    return f" {task.duration_s:.1f} s" if task.duration_s else ""
