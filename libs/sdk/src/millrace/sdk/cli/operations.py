"""`millrace run pause`, `resume`, `cancel`, `rerun`, `set-result` and `signal`: what people do with runs."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import typer
from google.protobuf.message import Message
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.documents import read_json
from millrace.sdk.cli.options import is_ago, moment_of, with_options
from millrace.sdk.cli.output import console, print_json, say, state_text, table, whole
from millrace.sdk.cli.runs import LAST, RunId, named, run
from millrace.sdk.client import Client
from millrace.sdk.operations import Version

FILTER = {
    "workflow": Annotated[str, typer.Option("--workflow", help="Runs of this one.")],
    "trigger": Annotated[str, typer.Option("--trigger", help="Runs that this one started.")],
    "in_state": Annotated[str, typer.Option("--in", metavar="STATE", help="Runs in this state; several with commas.")],
    "since": Annotated[str, typer.Option("--since", help="Created since: ISO 8601, or how long ago, such as 2h.")],
    "until": Annotated[str, typer.Option("--until", help="Created before: likewise.")],
}
SomeRun = Annotated[str, typer.Argument(metavar="RUN", help=f"The run's id, or `{LAST}`; else by filter.")]
Every = Annotated[bool, typer.Option("--all", help="All runs with which it can be done.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done with many, and change nothing.")]
RequestId = Annotated[
    str,
    typer.Option("--request-id", help="Again with the same one, it is done once; of many, it goes on where it ended."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for those who look later.")]


@dataclass(frozen=True)
class Which:
    """Which of many runs a command is about.

    Attributes:
        said: Whether any option says so.
        moves: Whether it means others when it is given again.
    """

    about: pb.RunFilter
    said: bool
    moves: bool


def which(*, workflow: str, trigger: str, in_state: str, since: str, until: str) -> Which:
    """Return what the options of a filter say.

    Raises:
        InvalidInput: A time is none.
    """
    about = pb.RunFilter(
        workflow=workflow,
        trigger=trigger,
        states=[one.strip() for one in in_state.split(",") if one.strip()],
        since=moment_of(since, "since"),
        until=moment_of(until, "until"),
    )
    return Which(about, about != pb.RunFilter(), is_ago(since) or is_ago(until))


filtered = with_options(FILTER, which)


@run.command()
@filtered
def pause(
    which: Which,
    run_id: SomeRun = "",
    reason: Reason = "",
    every: Every = False,
    dry_run: DryRun = False,
    request_id: RequestId = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Have nothing begin in a run until it is resumed; what has begun goes on.

    Example: `millrace run pause last --reason "the store moves"`

    Example: `millrace run pause --workflow flights.month --since 2h --dry-run`
    """
    many = pb.ChangeRunsRequest(reason=reason, pause=pb.PauseRuns())
    call = _Call(state, namespace, as_json, which, run_id, every, dry_run, request_id)
    call.do(lambda client, one: client.pause_run(one, reason, request_id=request_id), many)


@run.command()
@filtered
def resume(
    which: Which,
    run_id: SomeRun = "",
    reason: Reason = "",
    every: Every = False,
    dry_run: DryRun = False,
    request_id: RequestId = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Have a paused run go on where it was.

    Example: `millrace run resume last`

    Example: `millrace run resume --workflow flights.month`
    """
    many = pb.ChangeRunsRequest(reason=reason, resume=pb.ResumeRuns())
    call = _Call(state, namespace, as_json, which, run_id, every, dry_run, request_id)
    call.do(lambda client, one: client.resume_run(one, reason, request_id=request_id), many)


@run.command()
@filtered
def cancel(
    which: Which,
    run_id: SomeRun = "",
    reason: Reason = "",
    grace: Annotated[
        float | None, typer.Option("--grace", metavar="SECONDS", help="How long its tasks are waited for: 30.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Wait for nobody, and put nothing in order.")] = False,
    every: Every = False,
    dry_run: DryRun = False,
    request_id: RequestId = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Ask a run to stop; its tasks are told, and waited for. Again with `--force`, it ends at once.

    Example: `millrace run cancel last --reason "wrong month" --grace 120`

    Example: `millrace run cancel last --force`

    Example: `millrace run cancel --trigger landed --in pending,running --dry-run`
    """
    many = pb.ChangeRunsRequest(reason=reason, cancel=pb.CancelRuns(grace_s=grace, force=force))
    call = _Call(state, namespace, as_json, which, run_id, every, dry_run, request_id)
    call.do(
        lambda client, one: client.cancel_run(one, reason, grace_s=grace, force=force, request_id=request_id),
        many,
    )


@run.command()
@filtered
def rerun(
    which: Which,
    run_id: SomeRun = "",
    from_task: Annotated[
        str, typer.Option("--from", metavar="TASK", help="Do this one again, and all that needs it.")
    ] = "",
    version: Annotated[Version, typer.Option("--version", help="The workflow that it had, or the one in force.")] = (
        "pinned"
    ),
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Compute anew what could be taken from the cache.")
    ] = False,
    every: Every = False,
    dry_run: DryRun = False,
    request_id: RequestId = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Do a run again that has ended, in a new run: what failed or was not reached, on the results of the rest.

    Example: `millrace run rerun last`

    Example: `millrace run rerun last --from tune --version latest`

    Example: `millrace run rerun --workflow flights.month --in failed --since 1d --dry-run`
    """
    many = pb.ChangeRunsRequest(rerun=pb.RerunRuns(from_task=from_task, version=version, refresh=refresh))
    call = _Call(state, namespace, as_json, which, run_id, every, dry_run, request_id)
    call.do(
        lambda client, one: client.rerun_run(
            one, from_task=from_task, version=version, refresh=refresh, request_id=request_id
        ),
        many,
    )


@run.command()
@filtered
def signal(
    which: Which,
    first: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or `last`; else by filter.")],
    second: Annotated[str, typer.Argument(metavar="SIGNAL", help="What its task waits for.")] = "",
    data: Annotated[str, typer.Option("--data", help="What comes with it: JSON, or @FILE with JSON in it.")] = "{}",
    every: Every = False,
    dry_run: DryRun = False,
    request_id: RequestId = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Send a run a signal, now or before a task waits for it.

    Example: `millrace run signal last labels_ready --data '{"uri": "file:///labels.csv"}'`

    Example: `millrace run signal labels_ready --workflow flights.month`
    """
    given = read_json(data)
    run_id, name = (first, second) if second else ("", first)
    many = pb.ChangeRunsRequest(signal=pb.SignalRuns(signal=name, data_json=json.dumps(given)))
    call = _Call(state, namespace, as_json, which, run_id, every, dry_run, request_id)
    call.do(lambda client, one: client.signal_run(one, name, given, request_id=request_id), many)


@run.command("set-result")
def set_result(
    run_id: RunId,
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's path in the run, as `run show` has it.")],
    how: Annotated[Literal["succeeded", "failed", "skipped"], typer.Argument(metavar="STATE", help="How it ends.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the task, with who set it.")],
    output: Annotated[str, typer.Option("--output", help="What it hands on: JSON, or @FILE with JSON in it.")] = "",
    request_id: Annotated[str, typer.Option("--request-id", help="Again with the same one, it is done once.")] = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Say how an open task ends, in place of its worker, whom it is taken from. Needs MANAGE.

    Example: `millrace run set-result last ingest succeeded --output '{"version_id": "3f"}' --reason "loaded by hand"`

    Example: `millrace run set-result last report skipped --reason "nobody needs it this month"`
    """
    given = read_json(output) if output else None
    _check_meant(run_id, request_id)

    async def ask(client: Client) -> pb.SetTaskResultResponse:
        which_run = await named(client, run_id)
        return await client.set_task_result(which_run, task, how, reason=reason, output=given, request_id=request_id)

    _show_one(asked(state, namespace, ask), as_json=as_json)


@dataclass(frozen=True)
class _Call:
    """A command on one run, or on those of a filter."""

    state: Folder
    namespace: str
    as_json: bool
    which: Which
    run_id: str
    every: bool
    dry_run: bool
    request_id: str

    def do(self, one: Callable[[Client, str], Awaitable[Message]], many: pb.ChangeRunsRequest) -> None:
        """Do it, and show what became of it.

        Raises:
            InvalidInput: It is not said with which runs, or twice.
        """
        said = [bool(self.run_id), self.which.said, self.every].count(True)
        if not said:
            raise InvalidInput("say which: a run, options such as --workflow or --in, or --all")
        if self.run_id and (said > 1 or self.dry_run):
            raise InvalidInput(f"{self.run_id} is one run: leave it out, or the options that are for many")
        if self.run_id:
            _check_meant(self.run_id, self.request_id)
            found = asked(self.state, self.namespace, lambda client: self._with_one(client, one))
            return _show_one(found, as_json=self.as_json)
        if self.request_id and self.which.moves:
            raise InvalidInput("--request-id: --since and --until are then times, so that they mean the same again")
        many.filter.CopyFrom(self.which.about)
        many.dry_run = self.dry_run
        return _show_many(asked(self.state, self.namespace, lambda c: self._with_many(c, many)), as_json=self.as_json)

    async def _with_one(self, client: Client, one: Callable[[Client, str], Awaitable[Message]]) -> Message:
        return await one(client, await named(client, self.run_id))

    async def _with_many(self, client: Client, many: pb.ChangeRunsRequest) -> list[pb.RunChange]:
        return [one async for one in client.change_runs(many, request_id=self.request_id)]


def _check_meant(run_id: str, request_id: str) -> None:
    """Return if the same run is meant when it is asked again.

    Raises:
        InvalidInput: The newest may be another one then.
    """
    if run_id == LAST and request_id:
        raise InvalidInput(f"--request-id: name the run by its id, as `{LAST}` may be another one when asked again")


def _show_one(told: Message, *, as_json: bool) -> None:
    if as_json:
        return print_json(told)
    found, changes = told.run, told.changes  # type: ignore[attr-defined] # every answer to an operation has both
    say("run [bold]{run}[/] is {state} {cause}", run=found.run_id, state=found.state, cause=found.cause)
    for line in changes:
        console.print(f"  {line}")
    return None


def _show_many(told: list[pb.RunChange], *, as_json: bool) -> None:
    if as_json:
        return print_json(told)
    shown = table(whole("run"), "workflow", "state", "outcome", "what")
    for one in told:
        new = [f"done again by {one.rerun_run_id}"] if one.rerun_run_id else []
        what = "; ".join([*new, *one.changes, *([one.reason] if one.reason else [])])
        shown.add_row(one.run_id, one.workflow, state_text(one.state), one.outcome.replace("_", " "), what)
    if told:
        console.print(shown)
    counted = Counter(one.outcome.replace("_", " ") for one in told)
    return console.print(", ".join(f"{count} {outcome}" for outcome, count in counted.items()) or "no such run")
