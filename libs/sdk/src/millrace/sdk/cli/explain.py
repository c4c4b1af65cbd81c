"""`millrace explain`: why an event did or did not start a run, and why a run stands where it does."""

from typing import Annotated

import typer
from millrace.contracts.rpc.control.v1.control_pb2 import ExplainEventResponse, ExplainRunResponse
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.output import console, moment, print_json, state_text, table, whole
from millrace.sdk.cli.runs import LAST, RunId, named
from millrace.sdk.client import Client

app = typer.Typer()
explain = typer.Typer(help="Why an event did or did not start a run; why a run is where it is.", no_args_is_help=True)
app.add_typer(explain, name="explain")


@explain.command()
def event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    source: Annotated[str, typer.Option("--source", help="Its source, where several have an event of this id.")] = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Say what each trigger made of an event: the run it led to, what it waits for, or why it started none.

    Example: `millrace explain event 2013-01 --source /nyc/airports`
    """
    found = asked(state, namespace, lambda client: client.explain_event(source, event_id))
    if as_json:
        return print_json(found)
    return _show_event(found, event_id)


@explain.command()
def run(run_id: RunId = LAST, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Say what started a run, with its events, and why it stands where it does.

    Example: `millrace explain run last`
    """

    async def ask(client: Client) -> ExplainRunResponse:
        return await client.explain_run(await named(client, run_id))

    found = asked(state, namespace, ask)
    if as_json:
        return print_json(found)
    console.print(f"run {found.run.run_id} of {found.run.workflow} is {found.run.state}")
    for reason in found.reasons:
        console.print(f"- {reason}")
    shown = table("event", "source", "type", "time", "as")
    for one in found.events:
        shown.add_row(one.event_id, one.source, one.type, one.time, one.slot)
    return console.print(shown) if found.events else None


def _show_event(found: ExplainEventResponse, event_id: str) -> None:
    if not found.received:
        return console.print(f"no event {event_id} has come: look at its topic, and at `millrace held list`")
    shown = table("trigger", "disposition", whole("run"), "key", "as", "reason")
    for match in found.matches:
        about = (match.key, match.slot, match.reason)
        shown.add_row(match.trigger, state_text(match.disposition), match.run_id, *about)
    console.print(f"came {found.deliveries} times, first {moment(found.received_at)}, from {found.source}")
    return console.print(shown if found.matches else "no trigger listens to its topic")
