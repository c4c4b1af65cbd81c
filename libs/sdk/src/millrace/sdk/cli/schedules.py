"""`millrace schedule`: what runs are started by time."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.documents import read_text
from millrace.sdk.cli.output import console, moment, print_json, say, state_text, table, whole
from millrace.sdk.client import Client

app = typer.Typer()
schedule = typer.Typer(
    help="Schedules: apply, list, show and preview them; pause, resume and delete; make up for the past.",
    no_args_is_help=True,
)
app.add_typer(schedule, name="schedule")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A schedule in force.")]


@schedule.command()
def apply(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML or JSON; `-` is stdin.")],
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Put a schedule in force; the same again changes nothing.

    Example: `millrace schedule apply nightly.yaml`
    """
    text = read_text(file)
    found = asked(state, namespace, lambda client: client.schedules.apply(text))
    if as_json:
        return print_json(found)
    done = "is in force already" if found.unchanged else "is in force"
    return say(
        "schedule [bold]{name}[/] {done}; {next}", name=found.schedule.name, done=done, next=_when(found.schedule)
    )


@schedule.command("list")
def list_(state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Show the schedules in force, and when each is due next.

    Example: `millrace schedule list`
    """
    found = asked(state, namespace, lambda client: client.schedules.list())
    if as_json:
        return print_json(found)
    shown = table("schedule", "workflow", "when", "next", "by")
    for one in found:
        shown.add_row(one.name, one.workflow, _rule(one), _when(one), one.principal)
    return console.print(shown if found else f"no schedule in namespace {namespace}")


@schedule.command()
def show(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Show a schedule: what it has started last, what not and why, and its backfills.

    Example: `millrace schedule show nightly`
    """
    found = asked(state, namespace, lambda client: client.schedules.get(name))
    if as_json:
        return print_json(found)
    return _show(found)


@schedule.command()
def pause(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Let a schedule start nothing until it is resumed.

    Example: `millrace schedule pause nightly`
    """
    _show_changed(asked(state, namespace, lambda client: client.schedules.pause(name)), as_json=as_json)


@schedule.command()
def resume(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Let a schedule go on; a strict sequence goes on behind a run that has failed, too.

    Example: `millrace schedule resume nightly`
    """
    _show_changed(asked(state, namespace, lambda client: client.schedules.resume(name)), as_json=as_json)


@schedule.command()
def delete(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Take a schedule out of force; its runs that have not begun are cancelled, the others go on.

    Example: `millrace schedule delete nightly`
    """
    found = asked(state, namespace, lambda client: client.schedules.delete(name))
    if as_json:
        return print_json(found)
    return say(
        "schedule [bold]{name}[/] is deleted; {runs} runs that waited and {backfills} backfills are cancelled",
        name=name,
        runs=found.cancelled_runs,
        backfills=found.cancelled_backfills,
    )


@schedule.command()
def preview(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A schedule in force, or a file with one.")],
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many moments.")] = 10,
    after: Annotated[str, typer.Option("--after", help="Where to begin, ISO 8601 with its offset; else now.")] = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show the next moments of a schedule in force or of a file, which is not applied.

    Example: `millrace schedule preview nightly.yaml --count 20`
    """
    document = read_text(what) if what == "-" or Path(what).is_file() else ""
    begin = moment_of(after, "after", None) if after else None
    found = asked(
        state,
        namespace,
        lambda client: client.schedules.preview("" if document else what, document=document, count=count, after=begin),
    )
    if as_json:
        return print_json(found)
    return _show_moments(found)


@schedule.command()
def backfill(
    name: Name,
    start: Annotated[str, typer.Option("--from", help="From this on: a day of the schedule's zone, or ISO 8601.")],
    end: Annotated[str, typer.Option("--to", help="Before this; likewise, and not later than now.")],
    backfill_id: Annotated[
        str, typer.Option("--id", help="With an id, moments that had a run have another, once for this id.")
    ] = "",
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=100, help="Runs under way together.")] = 1,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the last moment.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be started.")] = False,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Start runs for moments of the past that had none; the same again shows how far it is, or goes on.

    Example: `millrace schedule backfill nightly --from 2026-01-01 --to 2026-02-01 --at-once 4 --dry-run`
    """

    async def make_up(client: Client) -> pb.BackfillResponse:
        zone = None
        if not (_has_offset(start) and _has_offset(end)):
            found = (await client.schedules.get(name)).schedule
            zone = ZoneInfo(json.loads(found.document_json)["zone"])
        return await client.schedules.backfill(
            name,
            moment_of(start, "from", zone),
            moment_of(end, "to", zone),
            backfill_id=backfill_id,
            at_once=at_once,
            newest_first=newest_first,
            dry_run=dry_run,
        )

    found = asked(state, namespace, make_up)
    if as_json:
        return print_json(found)
    _show_backfill(found.backfill)
    return _show_moments(found.would_start) if dry_run else None


@schedule.command("cancel-backfill")
def cancel_backfill(
    name: Name,
    backfill_id: Annotated[str, typer.Argument(metavar="BACKFILL", help="As `millrace schedule show` names it.")],
    runs: Annotated[bool, typer.Option("--runs", help="Cancel its runs too that have not ended.")] = False,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Start no more of a backfill; to ask for it again goes on with it.

    Example: `millrace schedule cancel-backfill nightly january --runs`
    """
    found = asked(
        state, namespace, lambda client: client.schedules.cancel_backfill(name, backfill_id, cancel_runs=runs)
    )
    if as_json:
        return print_json(found)
    return _show_backfill(found)


def _rule(one: pb.Schedule) -> str:
    document = json.loads(one.document_json)
    if "cron" in document:
        return f"{document['cron']} {document['zone']}"
    if "interval" in document:
        return f"every {document['interval']['every_s']} s"
    return f"at {', '.join(document['calendar']['at'])} {document['zone']}"


def _when(one: pb.Schedule) -> str:
    if one.HasField("paused_at"):
        return f"paused by {one.paused_by}"
    return f"next {moment(one.next_at)}" if one.HasField("next_at") else "it has no more moments"


def _show(found: pb.GetScheduleResponse) -> None:
    one = found.schedule
    words = {"name": one.name, "workflow": one.workflow, "rule": _rule(one), "next": _when(one)}
    say("schedule [bold]{name}[/] of {workflow}, {rule}; {next}", **words)
    if one.blocked_by:
        console.print(f"run {one.blocked_by} has failed; `millrace schedule resume {one.name}` lets the next begin")
    fires = table("moment", "why", whole("run"), "started", "backfill")
    for fire in found.fires:
        fires.add_row(moment(fire.logical_at), fire.kind, fire.run_id, moment(fire.fired_at), fire.backfill_id)
    console.print(fires if found.fires else "it has started nothing yet")
    for passed in found.passed:
        console.print(f"nothing for {moment(passed.first_at)} to {moment(passed.last_at)}: {passed.reason}")
    for backfill in found.backfills:
        _show_backfill(backfill)


def _show_changed(one: pb.Schedule, *, as_json: bool) -> None:
    if as_json:
        return print_json(one)
    return say("schedule [bold]{name}[/]: {next}", name=one.name, next=_when(one))


def _show_moments(found: Sequence[pb.PlannedFire]) -> None:
    shown = table("moment", "in its zone", "started")
    for one in found:
        shown.add_row(moment(one.logical_at), one.local, moment(one.due_at))
    console.print(shown if found else "no moment")


def _show_backfill(one: pb.BackfillProgress) -> None:
    shown = table("backfill", "state", "of", "started", "had one", "ended", "at once")
    ended = ", ".join(f"{count} {how}" for how, count in sorted(one.ended.items()))
    counts = (str(one.total), str(one.started), str(one.skipped))
    shown.add_row(one.backfill_id, state_text(one.state), *counts, ended, str(one.at_once))
    console.print(shown)


def _has_offset(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def moment_of(text: str, option: str, zone: ZoneInfo | None) -> datetime:
    """Return the moment that an option says: a day or a time of day of a zone, or a time with its offset.

    Raises:
        InvalidInput: It is none, or has no offset where no zone is known.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--{option}: {text[:80]!r} is no day such as 2026-01-31, and no ISO 8601 time") from None
    if found.tzinfo is None and zone is None:
        raise InvalidInput(f"--{option}: {text} has no offset from UTC, such as in 2026-01-31T00:00:00+01:00")
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)
