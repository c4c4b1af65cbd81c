"""`millrace held`: events that services could not handle, over all services."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from millrace.contracts.rpc.runtime.v1.runtime_pb2 import HeldServiceShowResponse
from millrace.sdk.cli.connection import FOLDER, Folder, Json, asked, fail
from millrace.sdk.cli.output import console, moment, plain, print_json, printable, say, state_text, table, whole
from millrace.sdk.cli.which import filtered, named, one_or_many, parked_keys, place_of, place_or_id, rate
from millrace.sdk.client import Client
from millrace.sdk.held import HeldList, Which
from millrace.sdk.held_command import Command, Outcome
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer()
held = typer.Typer(
    help="Events that a service could not handle: list, show, replay, drop them; unpark keys.", no_args_is_help=True
)
app.add_typer(held, name="held")

EVERYBODY = ""
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Whose; not given: all, and what could not be read.", show_default=False),
]
What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="A place as `millrace held list` shows it, or an event's id; else by filter.",
        callback=place_or_id,
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many to show.")]
Every = Annotated[bool, typer.Option("--all", help="All of them, where nothing says which.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many.")]
Rate = Annotated[str, typer.Option("--rate", help="Most events a second; the services have a bound of their own.")]
Duplicates = Annotated[
    bool, typer.Option("--accept-duplicate", help="Also what is too old for its duplicates to be known.")
]


@held.command("list")
@filtered
def list_held(
    which: Which,
    what: What = "",
    limit: Limit = 50,
    state: Folder = FOLDER,
    namespace: Namespace = EVERYBODY,
    as_json: Json = False,
) -> None:
    """Show what all services hold, newest first, each with the reason.

    Example: `millrace held list --service control --since 2h`
    """
    wanted = named(which, what)
    found = asked(state, namespace, lambda client: client.held.list(limit, wanted))
    if as_json:
        events = [{"place": str(one.place), "service": one.place.service, **plain(one.event)} for one in found.events]
        return print_json({"held": events, "unreachable": found.unreachable})
    return _show(found)


@held.command()
def show(what: What, state: Folder = FOLDER, namespace: Namespace = EVERYBODY, as_json: Json = False) -> None:
    """Show a held event: its headers and what was kept of its value.

    Example: `millrace held show control:triggers:0:12`
    """

    async def ask(client: Client) -> HeldServiceShowResponse:
        return await client.held.show(await place_of(client, what))

    found = asked(state, namespace, ask)
    if as_json:
        return print_json(found)
    about = {"state": found.held.state, "attempts": found.held.attempts, "reason": printable(found.held.reason)}
    at = f"{found.held.topic}:{found.held.partition}:{found.held.offset}"
    say("[bold]{at}[/]  {state} after {attempts} attempts: {reason}", at=at, **about)
    for name, value in sorted(found.headers.items()):
        console.print(printable(f"{name}: {value}"), style="dim")
    return console.print(printable(found.value.decode(errors="replace")))


@held.command()
@filtered
def keys(
    which: Which,
    what: What = "",
    state: Folder = FOLDER,
    namespace: Namespace = EVERYBODY,
    as_json: Json = False,
) -> None:
    """Show the parked keys, each with the number of events that wait and why the first one failed.

    A filter, a place or an event's id shows the keys behind which at least one such event waits.

    Example: `millrace held keys --topic data.tasks`
    """
    found = asked(state, namespace, lambda client: parked_keys(client, which, what, every=not what))
    if as_json:
        return print_json([{"service": one.service, **plain(one.key)} for one in found])
    shown = table("service", "topic", whole("key"), "since", "waiting", "reason")
    for one in found:
        key = printable(one.key.key.decode(errors="backslashreplace"))
        told = (moment(one.key.parked_at), str(one.key.events), printable(one.key.reason))
        shown.add_row(one.service, one.key.topic, key, *told)
    return console.print(shown if found else "no key is parked")


@held.command()
@filtered
def replay(
    which: Which,
    what: What = "",
    every: Every = False,
    dry_run: DryRun = False,
    per_s: Rate = "500/s",
    accept_duplicate: Duplicates = False,
    state: Folder = FOLDER,
    namespace: Namespace = EVERYBODY,
    as_json: Json = False,
) -> None:
    """Handle dead events again, now, under their own ids; stopped halfway, the same command goes on with what is left.

    Example: `millrace held replay --service lineage --reason "too old" --accept-duplicate --rate 500/s`
    """

    async def ask(client: Client) -> Outcome:
        wanted = await one_or_many(client, which, what, every=every)
        total = sum([await client.held.to_replay(one) for one in wanted])
        if dry_run:
            return Outcome(done=total)
        with _progress("replaying", total, rate(per_s), quiet=as_json) as command:
            for one in wanted:
                await client.held.replay(one, accept_duplicate=accept_duplicate, command=command)
            return command.outcome

    _told(asked(state, namespace, ask), "handled", what, dry_run=dry_run, as_json=as_json)


@held.command()
@filtered
def drop(
    which: Which,
    what: What = "",
    every: Every = False,
    dry_run: DryRun = False,
    per_s: Rate = "5000/s",
    state: Folder = FOLDER,
    namespace: Namespace = EVERYBODY,
    as_json: Json = False,
) -> None:
    """Forget held events for good; a key that no event waits for any more flows again.

    Example: `millrace held drop control:triggers:0:12`
    """

    async def ask(client: Client) -> Outcome:
        wanted = await one_or_many(client, which, what, every=every)
        total = sum([await client.held.to_drop(one) for one in wanted])
        if dry_run:
            return Outcome(done=total)
        with _progress("dropping", total, rate(per_s), quiet=as_json) as command:
            for one in wanted:
                await client.held.drop(one, command)
            return command.outcome

    _told(asked(state, namespace, ask), "dropped", what, dry_run=dry_run, as_json=as_json)


@held.command()
@filtered
def unpark(
    which: Which,
    what: What = "",
    every: Every = False,
    dry_run: DryRun = False,
    per_s: Rate = "500/s",
    state: Folder = FOLDER,
    namespace: Namespace = EVERYBODY,
    as_json: Json = False,
) -> None:
    """Handle the events of parked keys, in order, until the keys flow again or an event fails.

    A filter, a place or an event's id chooses the keys behind which at least one such event waits. A key is always
    drained whole and in order: its other events are handled too.

    Example: `millrace held unpark --service control --key 0192a1de-0000-7000-8000-000000000001`
    """

    async def ask(client: Client) -> Outcome:
        found = await parked_keys(client, which, what, every=every)
        total = sum(one.key.events for one in found)
        if dry_run:
            return Outcome(done=total)
        with _progress("unparking", total, rate(per_s), quiet=as_json) as command:
            for one in found:
                await client.held.unpark(one, command)
            return command.outcome

    _told(asked(state, namespace, ask), "handled", "", dry_run=dry_run, as_json=as_json)


def _show(found: HeldList) -> None:
    shown = table(whole("place"), "state", "since", "type", "event", "attempts", "reason")
    for one in found.events:
        event = one.event
        told = (moment(event.held_at), event.type, event.event_id, str(event.attempts), printable(event.reason))
        shown.add_row(str(one.place), state_text(event.state), *told)
    console.print(shown if found.events else "nothing is held")
    if found.unreachable:
        say("[yellow]not asked, as they do not answer: {services}[/]", services=", ".join(found.unreachable))


@contextmanager
def _progress(doing: str, total: int, per_s: float, *, quiet: bool) -> Iterator[Command]:
    """Show how far a command has come, to whom watches it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not sys.stdout.isatty(), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield Command(rate=per_s, told=lambda so_far: bar.update(task, completed=so_far.done + so_far.failed))


def _told(outcome: Outcome, done: str, what: str, *, dry_run: bool, as_json: bool) -> None:
    if dry_run:
        return print_json({"matched": outcome.done}) if as_json else console.print(f"{outcome.done} would be {done}")
    if as_json:
        print_json({done: outcome.done, "failed": outcome.failed, "reason": outcome.reason})
    elif outcome.done or not outcome.failed:
        console.print(f"{outcome.done} {done}")
    if outcome.failed:
        still = f"{what} is held still" if what else f"{outcome.failed} are held still, the first as follows"
        fail(f"{still}: {printable(outcome.reason)}")
    return None
