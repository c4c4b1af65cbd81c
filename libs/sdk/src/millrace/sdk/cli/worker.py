"""`millrace worker`: a team's own functions, done for control; and the queues that they take tasks from."""

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from millrace.runtime.errors import InvalidInput, Unavailable
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.output import console, moment, print_json, say, table
from millrace.sdk.client import Client
from millrace.sdk.connection import Connection, connection_to, kafka_servers
from millrace.sdk.stack.state import DEVELOPER

if TYPE_CHECKING:
    from millrace.sdk.worker import WorkerSettings

app = typer.Typer()

LIVE_WITHIN_S = 30.0
LOOKS_EVERY_S = 0.2


@app.command()
def worker(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="Where the functions are, such as acme.tasks.")],
    queue: Annotated[str, typer.Option("--queue", "-q", help="Whose tasks: the part of their kinds before the dot.")],
    at_once: Annotated[
        int,
        typer.Option(
            "--at-once", min=1, max=64, envvar="WORKER_CONCURRENT_TASKS", help="Functions that compute at once."
        ),
    ] = 2,
    instance: Annotated[
        int | None,
        typer.Option(
            "--instance",
            min=0,
            envvar="WORKER_INSTANCE",
            help="Its ordinal among the queue's workers; else the first that none on this machine has.",
        ),
    ] = None,
    grpc: Annotated[
        str, typer.Option("--grpc", metavar="HOST:PORT", help="Lease tasks from control there; no Kafka, no database.")
    ] = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Do the tasks of a queue with the `@task` functions of a package, until it is stopped.

    The queue is made where it is not there. Outside the embedded stack, `WORKER_POSTGRES_DSN` and the other settings of
    a service, beginning with `WORKER_`, say where its own database and the rest are. With `--grpc` it needs none of
    them: only control's address, and MILLRACE_TOKEN outside the embedded stack. What it logs is JSON.

    Example: `millrace worker --queue acme acme.tasks`

    Example: `millrace worker --queue acme --grpc control.example:50051 acme.tasks`
    """
    # Whoever only asks does not wait for what does the work: it is most of a service.
    import uvloop  # noqa: PLC0415
    from millrace.sdk.worker import kinds_of, lease, ordinal, serve  # noqa: PLC0415

    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    kinds = kinds_of(package, queue)
    origin = grpc or os.environ.get("WORKER_POSTGRES_DSN") or state.resolve()
    with ordinal(queue, f"{namespace} {origin}", instance) as own:
        if grpc:
            place = connection_to("control", grpc, state)
            found = asyncio.run(_leased(place, queue, namespace))
            work = partial(lease, queue, kinds, place, namespace, at_once=at_once, instance=own)
        else:
            work = partial(serve, queue, kinds, _settings(queue, state, at_once, own))
            found = asked(state, namespace, lambda client: _live(client, queue))
        if as_json:
            print_json(found)
        else:
            say("queue [bold]{queue}[/]: {kinds}", queue=queue, kinds=", ".join(kind.kind for kind in kinds))
        sys.stdout.flush()
        uvloop.run(work())


@app.command()
def queues(state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Show the queues of teams.

    Example: `millrace queues`
    """
    found = asked(state, namespace, lambda client: client.queues())
    if as_json:
        return print_json(found)
    shown = table("queue", "transport", "live", "since", "by")
    for one in found:
        shown.add_row(one.name, one.transport, "yes" if one.live else "no", moment(one.applied_at), one.principal)
    return console.print(shown if found else f"no queue in namespace {namespace}: `millrace worker` makes one")


async def _leased(place: Connection, queue: str, namespace: str) -> object:
    """Return the queue, whose tasks are leased."""
    async with Client(place, namespace=namespace) as client:
        return await client.apply_queue(queue, "grpc")


async def _live(client: Client, queue: str) -> object:
    """Return the queue once it is live."""
    found = await client.apply_queue(queue)
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + LIVE_WITHIN_S
    while not found.live:
        if loop.time() > ends_at:
            raise Unavailable(f"queue {queue} is not live within {LIVE_WITHIN_S:g} s: look at the log of control")
        await asyncio.sleep(LOOKS_EVERY_S)
        found = next(one for one in await client.queues() if one.name == queue)
    return found


def _settings(queue: str, folder: Path, at_once: int, instance: int) -> "WorkerSettings":
    """Return the settings from the environment, or those that fit the stack of a folder.

    Raises:
        InvalidInput: The environment's are not right; it names them.
        Unavailable: There is no stack in the folder.
    """
    from millrace.runtime.command import faults  # noqa: PLC0415 - likewise
    from millrace.sdk.stack.embedded import Embedded  # noqa: PLC0415
    from millrace.sdk.worker import WorkerSettings  # noqa: PLC0415
    from pydantic import ValidationError  # noqa: PLC0415

    own: dict[str, Any] = {"concurrent_tasks": at_once, "instance": instance}
    try:
        if "WORKER_POSTGRES_DSN" in os.environ:
            return WorkerSettings(**own)
        servers, stack = kafka_servers(folder), Embedded(folder)
        return WorkerSettings(
            postgres_dsn=stack.postgres.ensure_owned_database(f"worker_{queue}"),
            kafka_servers=servers,
            artifacts_url=stack.state.artifacts.as_uri(),
            auth_jwks=stack.state.jwks,
            auth_grants=stack.state.grants,
            token_file=stack.state.token(DEVELOPER),
            endpoints=stack.state.endpoints(),
            **own,
        )
    except ValidationError as error:
        raise InvalidInput(f"settings of the worker come from WORKER_…: {faults(error)}") from None
