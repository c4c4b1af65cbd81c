"""`millrace explain`: why an event did or did not start a run, and why a run stands where it does."""

from typing import Annotated

import typer
from millrace.contracts.rpc.control.v1.control_pb2 import ExplainRunResponse
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.output import console, print_json, table
from millrace.sdk.cli.runs import LAST, RunId, named, show_event
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
    return show_event(found, event_id)


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
