"""`millrace approvals`, `millrace run approve` and `reject`: what people decide."""

import json
from typing import Annotated

import typer
from millrace.contracts.rpc.control.v1.control_pb2 import Run
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.documents import read_json
from millrace.sdk.cli.output import console, moment, print_json, say, table, whole
from millrace.sdk.cli.runs import RunId, named, run
from millrace.sdk.client import Client

app = typer.Typer()

Task = Annotated[
    str, typer.Argument(metavar="TASK", help="The task's path in the run, as `millrace approvals` shows it.")
]
Comment = Annotated[str, typer.Option("--comment", help="Why, for those who look later.")]


@app.command()
def approvals(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show.")] = 50,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show what waits to be decided by people, the oldest first.

    Example: `millrace approvals`
    """
    found = asked(state, namespace, lambda client: client.approvals(limit))
    if as_json:
        return print_json(found)
    shown = table(whole("run"), "task", "what", "waits since", "until", "approved", "form", "for")
    for one in found:
        who = ", ".join([*one.assignees, *([f"who may {one.role}"] if one.role else [])])
        until = moment(one.expires_at) if one.HasField("expires_at") else ""
        approved = f"{len(one.approved_by)} of {one.need}"
        form = ", ".join(json.loads(one.form_json))
        shown.add_row(one.run_id, one.task, one.title, moment(one.since), until, approved, form, who)
    return console.print(shown if found else f"nothing in namespace {namespace} waits to be decided")


@run.command()
def approve(
    run_id: RunId,
    task: Task,
    form: Annotated[str, typer.Option("--form", help="What the task asks for: JSON, or @FILE with JSON in it.")] = "{}",
    comment: Comment = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Approve what a run waits for.

    Example: `millrace run approve last ok --form '{"budget": 3}'`
    """
    filled = read_json(form)

    async def decide(client: Client) -> Run:
        found = await named(client, run_id)
        return await client.decide_task(found, task, approve=True, comment=comment, form=filled)

    _show(asked(state, namespace, decide), as_json=as_json)


@run.command()
def reject(
    run_id: RunId,
    task: Task,
    comment: Comment = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Reject what a run waits for.

    Example: `millrace run reject last ok --comment "too risky before the weekend"`
    """

    async def decide(client: Client) -> Run:
        return await client.decide_task(await named(client, run_id), task, approve=False, comment=comment)

    _show(asked(state, namespace, decide), as_json=as_json)


def _show(found: Run, *, as_json: bool) -> None:
    if as_json:
        return print_json(found)
    return say("run [bold]{run}[/] is {state} {cause}", run=found.run_id, state=found.state, cause=found.cause)
