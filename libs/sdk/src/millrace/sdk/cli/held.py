"""`millrace held`: events that services could not handle, over all services."""

from typing import Annotated

import typer
from millrace.contracts.rpc.runtime.v1.runtime_pb2 import HeldServiceReplayResponse
from millrace.sdk.cli.connection import FOLDER, Folder, Json, asked, fail
from millrace.sdk.cli.output import console, moment, plain, print_json, printable, say, state_text, table, whole
from millrace.sdk.held import Place

app = typer.Typer()
held = typer.Typer(help="Events that a service could not handle: list, show, replay, drop them.", no_args_is_help=True)
app.add_typer(held, name="held")

EVERYBODY = ""
Namespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="Whose; not given: all, and what could not be read.", show_default=False),
]
At = Annotated[
    str, typer.Argument(metavar="PLACE", help="As `millrace held list` shows it, such as control:triggers:0:12.")
]


@held.command("list")
def list_held(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many to show.")] = 50,
    state: Folder = FOLDER,
    namespace: Namespace = EVERYBODY,
    as_json: Json = False,
) -> None:
    """Show what all services hold, newest first, each with the reason.

    Example: `millrace held list`
    """
    found = asked(state, namespace, lambda client: client.held.list(limit))
    if as_json:
        events = [{"place": str(one.place), "service": one.place.service, **plain(one.event)} for one in found.events]
        return print_json({"held": events, "unreachable": found.unreachable})
    shown = table(whole("place"), "state", "since", "type", "event", "attempts", "reason")
    for one in found.events:
        event = one.event
        told = (moment(event.held_at), event.type, event.event_id, str(event.attempts), printable(event.reason))
        shown.add_row(str(one.place), state_text(event.state), *told)
    console.print(shown if found.events else "nothing is held")
    if found.unreachable:
        say("[yellow]not asked, as they do not answer: {services}[/]", services=", ".join(found.unreachable))
    return None


@held.command()
def show(place: At, state: Folder = FOLDER, namespace: Namespace = EVERYBODY, as_json: Json = False) -> None:
    """Show a held event: its headers and the first 64 KiB of its value.

    Example: `millrace held show control:triggers:0:12`
    """
    at = Place.read(place)
    found = asked(state, namespace, lambda client: client.held.show(at))
    if as_json:
        return print_json(found)
    about = {"state": found.held.state, "attempts": found.held.attempts, "reason": printable(found.held.reason)}
    say("[bold]{at}[/]  {state} after {attempts} attempts: {reason}", at=at, **about)
    for name, value in sorted(found.headers.items()):
        console.print(printable(f"{name}: {value}"), style="dim")
    return console.print(printable(found.value.decode(errors="replace")))


@held.command()
def replay(
    place: At,
    accept_duplicate: Annotated[
        bool, typer.Option("--accept-duplicate", help="Also when it is too old for its duplicates to be known.")
    ] = False,
    state: Folder = FOLDER,
    namespace: Namespace = EVERYBODY,
    as_json: Json = False,
) -> None:
    """Handle a held event again, now.

    Example: `millrace held replay control:triggers:0:12`
    """
    at = Place.read(place)
    found = asked(state, namespace, lambda client: client.held.replay(at, accept_duplicate=accept_duplicate))
    return _replayed(at, found, as_json=as_json)


@held.command()
def drop(place: At, state: Folder = FOLDER, namespace: Namespace = EVERYBODY, as_json: Json = False) -> None:
    """Forget a held event for good.

    Example: `millrace held drop control:triggers:0:12`
    """
    at = Place.read(place)
    asked(state, namespace, lambda client: client.held.drop(at))
    return print_json({"place": str(at), "dropped": True}) if as_json else console.print(f"{at} is dropped")


def _replayed(at: Place, found: HeldServiceReplayResponse, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif found.handled:
        console.print(f"{at} is handled")
    if not found.handled:
        fail(f"{at} is held still: {found.reason}")
