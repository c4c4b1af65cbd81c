"""The main job on real data, from a trigger event to an explained prediction: `make demo`."""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from millrace.contracts.rpc.control.v1 import control_pb2 as control
from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as lineage
from millrace.runtime.errors import MillraceError, Unavailable
from millrace.sdk.client import ENDED, Client
from millrace.sdk.connection import connection, kafka_servers
from millrace.sdk.publish import CloudEvent, Publisher
from millrace.sdk.stack.embedded import Embedded
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.state import Ports
from rich.console import Console

from examples.flights import passengers, upstream
from examples.flights.board import Board
from examples.flights.report import Asked, Findings, report

HERE = Path(__file__).parent
SOURCE = "/flights/upstream"
TYPE = "flights.month.landed"
TOPIC = "triggers"
WORKFLOW = "flights.month"
MONTHS = (1, 2, 3, 4)
DAMAGED = 5
RUN_TIMEOUT_S = 600
FINAL_FLIGHTS = 400
POLL_S = 0.4
FORTY_PORTS = 40

#: Where nobody looks at a terminal, lines may be as long as the tables need.
console = Console(width=None if sys.stdout.isatty() else 150)


@dataclass
class Landed:
    """What the upstream system landed.

    Attributes:
        months: By number; the damaged month's own file stands beside it.
        damaged: The damaged month, as told.
    """

    planes: Path
    airports: Path
    months: dict[int, upstream.Month] = field(default_factory=dict)
    damaged: upstream.Month | None = None


def land(folder: Path, cache: Path) -> Landed:
    """Fetch the archive and cut what the demo lands, the damaged month too."""
    archive = upstream.fetch(cache)
    planes, airports = upstream.cut_reference(archive, folder)
    numbers = (*MONTHS, DAMAGED)
    months = dict(zip(numbers, upstream.cut(archive, folder, numbers), strict=True))
    whole = months[DAMAGED]
    damaged = upstream.damage(whole.flights, folder / f"damaged-{whole.flights.name}")
    return Landed(planes, airports, months, upstream.Month(whole.name, damaged, whole.weather))


async def declare(client: Client) -> None:
    """Put contracts, views, workflows and the trigger in force."""
    for file in sorted((HERE / "contracts").glob("*.yaml")):
        await client.apply_contract(file.read_text())
    await client.apply_views("\n---\n".join(file.read_text() for file in sorted((HERE / "views").glob("*.yaml"))))
    for file in sorted((HERE / "workflows").glob("*.yaml")):
        await client.apply_workflow(file.read_text())
    await client.apply_trigger((HERE / "trigger.yaml").read_text())


async def load_reference(client: Client, landed: Landed) -> None:
    """Ingest the tables that come once.

    Raises:
        CannotStart: The run did not succeed.
    """
    data = {"planes": upstream.landed_file(landed.planes), "airports": upstream.landed_file(landed.airports)}
    started = await client.start_run("flights.reference", data, request_id="flights.reference")
    async for run in client.watch_run(started.run_id):
        if run.state in ENDED and run.state != "succeeded":
            raise CannotStart(f"run {run.run_id} of flights.reference {run.state}: {run.cause}")


async def tell(publisher: Publisher, landed: Landed) -> list[str]:
    """Publish one event for each month, January's twice, and then the damaged month; return the events' ids."""
    ids = []
    for month in (*(landed.months[number] for number in MONTHS), landed.damaged):
        if month is None:
            continue
        event = month_event(month)
        for _ in range(2 if month is landed.months[MONTHS[0]] else 1):
            await publisher.send(TOPIC, event, key=SOURCE)
        ids.append(event.id)
    return ids


def month_event(month: upstream.Month) -> CloudEvent:
    """Return what upstream says when a month has landed: on the first of the next one, in the morning."""
    year, number = map(int, month.name.split("-"))
    landed_at = datetime(year + number // 12, number % 12 + 1, 1, 6, tzinfo=UTC)
    return CloudEvent(
        id=f"{month.name} landed", type=TYPE, source=SOURCE, subject=month.name, time=landed_at, data=month.trigger()
    )


async def follow(
    client: Client, landed: Landed, publisher: Publisher, board: Board, expected: int
) -> dict[str, control.Run]:
    """Show the runs until as many as expected have ended; meanwhile passengers travel. Return the runs by month.

    Raises:
        TimeoutError: They did not end in time.
    """
    runs: dict[str, control.Run] = {}
    async with asyncio.timeout(RUN_TIMEOUT_S):
        while sum(run.state in ENDED for run in runs.values()) < expected:
            with suppress(Unavailable):  # a part that is being restarted is asked again
                for listed in reversed(await client.runs(workflow=WORKFLOW)):
                    if runs.get(listed.event_id, listed).state in ENDED and listed.event_id in runs:
                        continue
                    runs[listed.event_id] = await client.run(listed.run_id)
                    board.show(runs.values())
                    await board.travelling(runs[listed.event_id], client, landed.months, landed.airports, publisher)
            await asyncio.sleep(POLL_S)
    board.stop_travelling()
    return runs


@asynccontextmanager
async def opened(state: Path) -> AsyncIterator[tuple[Client, Publisher]]:
    """Connect as a user would."""
    async with Client(connection(state)) as client, Publisher(kafka_servers(state)) as publisher:
        yield client, publisher


async def run_job(state: Path, landed: Landed, began: float) -> Findings:
    """Do the whole job and return what was found."""
    async with opened(state) as (client, publisher):
        console.print("[bold]Declaring[/] contracts, views, workflows and the trigger …")
        await declare(client)
        await load_reference(client, landed)
        console.print("[bold]Upstream publishes[/] January (twice), February, March, April, and a damaged May …")
        ids = await tell(publisher, landed)
        with Board(console) as board:
            runs = await follow(client, landed, publisher, board, len(ids))
        last, following = landed.months[MONTHS[-1]], landed.months[DAMAGED]
        flights = await passengers.ask_about(client, last, following, landed.airports, FINAL_FLIGHTS, seed=0)
        answers = await passengers.predict(client, flights)
        asked = [Asked(flight, answer) for flight, answer in zip(flights, answers, strict=True)]
        explained = await explained_whole(client, asked[0].answer.prediction_id)
        return await Findings.gather(client, connection(state), runs, asked, explained, base_rate(landed), began)


async def explained_whole(client: Client, prediction_id: str) -> lineage.ExplainResponse:
    """Return the way from a prediction to its files, once lineage has all of it."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = await client.explain(prediction_id)
                if found.complete and found.prediction_json:
                    return found
            except MillraceError:
                pass
            await asyncio.sleep(POLL_S)


def base_rate(landed: Landed) -> float:
    """Return the share of late arrivals in the months that landed: what one would guess knowing nothing else."""
    table = passengers.read_flights(*(landed.months[number] for number in MONTHS))
    delays = [delay for delay in table["arr_delay"].to_pylist() if delay is not None]
    late = sum(1 for delay in delays if delay >= passengers.LATE_MIN)
    return late / len(delays)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo on a stack of its own; return 0 only when all is as expected."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--state", type=Path, default=Path(".millrace-demo"), help="folder for the demo's data and logs"
    )
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "millrace", help="keeps the archive")
    parser.add_argument("--keep", action="store_true", help="leave the stack running at the end")
    asked = parser.parse_args(arguments)
    state, began = asked.state.resolve(), time.monotonic()
    landing = state.parent / f"{state.name}-landing"
    stack = Embedded(state, roots=[landing])
    try:
        stack.down()
        for folder in (state, landing):
            shutil.rmtree(folder, ignore_errors=True)
        with ThreadPoolExecutor(1) as fetching:
            cut = fetching.submit(land, landing, asked.cache)
            console.print("[bold]Starting[/] PostgreSQL, Kafka and the seven services; fetching the flights …")
            stack.up(_tell_start, Ports(min(free_ports(1)[0], 32_000 - FORTY_PORTS)))
            landed = cut.result()
        findings = asyncio.run(run_job(state, landed, began))
        ok = report(findings, console, state)
    except (CannotStart, upstream.FetchError, MillraceError, TimeoutError) as error:
        console.print(f"[red bold]The demo cannot go on:[/] {error or type(error).__name__}", soft_wrap=True)
        console.print(f"Logs are in {state / 'logs'}", soft_wrap=True)
        ok = False
    finally:
        if not asked.keep:
            stack.down()
    return 0 if ok else 1


def _tell_start(name: str, phase: str, note: str) -> None:
    if phase in ("ready", "stopped") or note:
        console.print(f"  {name} {phase} {note}", style="dim", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
