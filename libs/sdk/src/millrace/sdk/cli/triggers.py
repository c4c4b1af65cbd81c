"""`millrace trigger`: which are in force and how they stand; pause, resume, unblock and delete them."""

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from millrace.contracts.rpc.control.v1.control_pb2 import Trigger
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.output import console, moment, print_json, printable, say, table

app = typer.Typer()
trigger = typer.Typer(
    help="Triggers: list and show them; pause, resume, unblock and delete them.", no_args_is_help=True
)
app.add_typer(trigger, name="trigger")

WAITING = ("waiting runs", "queued events", "waiting events")

Name = Annotated[str, typer.Argument(metavar="TRIGGER", help="The trigger's name.")]


@trigger.command(name="list")
def list_(state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """List the triggers in force, and how they stand: what waits in them, and when they last took an event or failed.

    Example: `millrace trigger list`

    Example: `millrace trigger list --json | jq '.[] | select(.last_match_at == null) | .name'`
    """
    found = asked(state, namespace, lambda client: client.triggers())
    if as_json:
        return print_json(found)
    shown = table("trigger", "workflow", "strategy", "stands", "last match", "last error", *WAITING)
    for one in found:
        counts = (one.waiting_runs, one.queued_events, one.waiting_events)
        strategy = json.loads(one.document_json)["strategy"] if one.workflow else ""
        times = (moment(one.last_match_at) or "never", moment(one.last_error_at))
        shown.add_row(
            one.name, one.workflow or "(for tasks)", strategy, "; ".join(_stands(one)), *times, *map(str, counts)
        )
    return console.print(shown if found else f"no trigger in namespace {namespace}: `millrace apply trigger FILE`")


@trigger.command()
def show(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Show a trigger: its document, who applied it, when it last took an event, what went wrong, what waits in it.

    Example: `millrace trigger show month-landed`
    """
    found = asked(state, namespace, lambda client: client.trigger(name))
    if as_json:
        return print_json(found)
    console.print(json.dumps(json.loads(found.document_json), indent=2))
    console.print(f"applied by {found.principal}, {moment(found.applied_at)}")
    console.print("; ".join(_stands(found)))
    console.print(f"last took an event: {moment(found.last_match_at) or 'never'}")
    if found.last_error:
        say("last error: {at}: {error}", at=moment(found.last_error_at), error=printable(found.last_error))
        console.print("of an event, `millrace explain event ID` says more")
    counts = f"{found.waiting_runs} runs wait for their turn, {found.queued_events} events came while it was paused"
    return console.print(f"{counts}, {found.waiting_events} wait for others, or for tasks")


@trigger.command()
def pause(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Let a trigger start nothing; what comes meanwhile is queued or dropped, as its `on_paused` says.

    Example: `millrace trigger pause month-landed`
    """
    _say(asked(state, namespace, lambda client: client.pause_trigger(name)), as_json=as_json)


@trigger.command()
def resume(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Let a paused trigger go on, first with what came meanwhile, in order.

    Example: `millrace trigger resume month-landed`
    """
    _say(asked(state, namespace, lambda client: client.resume_trigger(name)), as_json=as_json)


@trigger.command()
def unblock(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Let the runs of a strict sequence go on behind one that has failed.

    Example: `millrace trigger unblock month-landed`
    """
    _say(asked(state, namespace, lambda client: client.unblock_trigger(name)), as_json=as_json)


@trigger.command()
def delete(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Take a trigger out of force; its runs that have not begun are cancelled, its events that wait are dropped.

    Example: `millrace trigger delete month-landed`
    """
    found = asked(state, namespace, lambda client: client.delete_trigger(name))
    if as_json:
        return print_json(found)
    return say(
        "trigger [bold]{name}[/] is deleted; {runs} runs that waited are cancelled, {events} events dropped",
        name=name,
        runs=found.cancelled_runs,
        events=found.dropped_events,
    )


def _say(found: Trigger, *, as_json: bool) -> None:
    if as_json:
        return print_json(found)
    return say("trigger [bold]{name}[/]: {stands}", name=found.name, stands="; ".join(_stands(found)))


def _stands(one: Trigger) -> Iterator[str]:
    """Yield what keeps a trigger from starting runs; that nothing does."""
    if one.paused_by:
        yield f"paused by {one.paused_by}, {moment(one.paused_at)}"
    if one.blocked_by:
        yield f"blocked by run {one.blocked_by}, which has failed"
    if not one.paused_by and not one.blocked_by:
        yield "in force"
