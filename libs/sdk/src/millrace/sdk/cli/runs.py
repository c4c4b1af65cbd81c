"""`millrace runs` and `millrace run`: what runs, and how it goes."""

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from millrace.contracts.rpc.control.v1.control_pb2 import GetRunResponse, Run
from millrace.runtime.errors import NotFound
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.documents import read_json
from millrace.sdk.cli.output import console, duration, moment, plain, print_json, say, state_text, table, took, whole
from millrace.sdk.client import Client
from millrace.sdk.watching import Watcher, run_table

app = typer.Typer()
run = typer.Typer(
    help="One run: show, watch, start, pause, resume, cancel, rerun it, set a result.",
    no_args_is_help=True,
)
app.add_typer(run, name="run")

LAST = "last"
#: Exit status of a watch: by how the run ended; 2 is for a wrong command line.
_STATUS = {"succeeded": 0, "refused": 3}

RunId = Annotated[str, typer.Argument(metavar="RUN", help=f"The run's id, or `{LAST}` for the newest.")]
Data = Annotated[str, typer.Option("--data", help="What the run starts with: JSON, or @FILE with JSON in it.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=500, help="How many to show.")]


@app.command()
def runs(
    workflow: Annotated[str, typer.Option("--workflow", help="Only runs of this one.")] = "",
    run_state: Annotated[str, typer.Option("--in", metavar="STATE", help="Only runs in this state.")] = "",
    limit: Limit = 20,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show the newest runs.

    Example: `millrace runs --workflow flights.month --in failed`
    """
    found = asked(state, namespace, lambda client: client.runs(workflow=workflow, state=run_state, limit=limit))
    if as_json:
        return print_json(found)
    shown = table(whole("run"), "workflow", "state", "began", "took", "event", "cause")
    for one in found:
        took_s = duration(took(one.started_at, one.ended_at))
        began = moment(one.started_at if one.HasField("started_at") else one.created_at)
        shown.add_row(one.run_id, one.workflow, state_text(one.state), began, took_s, one.event_id, one.cause)
    return console.print(shown if found else f"no run in namespace {namespace}")


@run.command()
def show(
    run_id: RunId = LAST,
    items: Annotated[
        str,
        typer.Option(
            "--items", metavar="STATE", help="Only items and iterations that are succeeded, failed, cancelled."
        ),
    ] = "",
    after: Annotated[str, typer.Option("--after", help="The page after one that said so.")] = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show a run with its tasks: states, attempts and why they failed, durations, outputs and errors.

    Of items that are over it shows 1,000, those that failed first, and says how to go on.

    Example: `millrace run show last`

    Example: `millrace run show last --items failed`
    """

    async def read(client: Client) -> GetRunResponse:
        return await client.run_page(await named(client, run_id), items=items, after=after)

    page = asked(state, namespace, read)
    found = page.run
    if as_json:
        return print_json({**plain(found), "next_after": page.next_after})
    console.print(f"namespace {namespace}   principal {found.principal}   trace {found.trace_id or '-'}")
    if found.rerun_of:
        console.print(f"does run {found.rerun_of} again")
    if found.state == "paused":
        console.print(f"paused since {moment(found.paused_at)} by {found.paused_by}: `millrace run resume`")
    if found.HasField("deadline_at") or found.HasField("missed_at"):
        late = found.HasField("missed_at")
        console.print(f"missed its deadline {moment(found.missed_at)}" if late else f"due {moment(found.deadline_at)}")
    if found.refresh:
        console.print("computes anew what could be taken from the cache")
    if found.schedule_json:
        told = json.loads(found.schedule_json)
        backfill = f" in backfill {told['backfill']}" if told["backfill"] else ""
        console.print(f"schedule {told['name']}   {told['kind']}{backfill} for {told['local']}")
    elif found.trigger:
        console.print(f"trigger {found.trigger}   event {found.event_id} of {found.event_source}")
    console.print(run_table(found, wide=True))
    if page.next_after:
        only = f" --items {items}" if items else ""
        console.print(f"more items: millrace run show {found.run_id}{only} --after '{page.next_after}'", soft_wrap=True)
    return None


@run.command()
def watch(
    run_id: RunId = LAST, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False
) -> None:
    """Follow a run until it has ended, and a restart of control too.

    Leaves with status 0 when it succeeded, 3 when it was refused, 1 otherwise. `--json` prints one line per change.

    Example: `millrace run watch last`
    """
    _follow(state, namespace, run_id, as_json=as_json)


@run.command()
def start(
    workflow: Annotated[str, typer.Argument(help="The workflow's name.")],
    data: Data = "null",
    request_id: Annotated[str, typer.Option("--request-id", help="Starts with the same one are one run.")] = "",
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Compute anew what could be taken from the cache.")
    ] = False,
    watched: Annotated[bool, typer.Option("--watch", help="Follow it until it has ended.")] = False,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Start a run of a workflow.

    Example: `millrace run start flights.reference --data @reference.json --watch`

    Example: `millrace run start flights.reference --refresh`
    """
    given = read_json(data)
    found = asked(
        state, namespace, lambda client: client.start_run(workflow, given, request_id=request_id, refresh=refresh)
    )
    if watched:
        _follow(state, namespace, found.run_id, as_json=as_json)
    if as_json:
        return print_json(found)
    return say("run [bold]{run}[/] of {name} is {state}", run=found.run_id, name=found.workflow, state=found.state)


async def named(client: Client, run_id: str) -> str:
    """Return a run's id, of the newest where that is asked for."""
    if run_id != LAST:
        return run_id
    found = await client.runs(limit=1)
    if not found:
        raise NotFound(f"no run in namespace {client.namespace} yet: publish an event, or `millrace run start`")
    return found[0].run_id


def _follow(state: Path, namespace: str, run_id: str, *, as_json: bool) -> NoReturn:
    async def follow(client: Client) -> Run:
        last = Run()
        with Watcher(quiet=as_json) as watcher:
            async for last in client.watch_run(await named(client, run_id)):
                if as_json:
                    print(json.dumps(plain(last)), flush=True)
                watcher.tell(last)
        return last

    raise typer.Exit(_STATUS.get(asked(state, namespace, follow).state, 1))
