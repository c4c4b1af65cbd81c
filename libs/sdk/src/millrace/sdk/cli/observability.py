"""`millrace audit` and `millrace cost`: who changed what, and what it took."""

from typing import Annotated

import typer
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.output import console, duration, moment, print_json, say, state_text, table
from rich.text import Text

app = typer.Typer()


@app.command()
def audit(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many to show.")] = 50,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show who changed what, over all services, newest first.

    Example: `millrace audit --limit 20`
    """
    found = asked(state, namespace, lambda client: client.audit(limit=limit))
    if as_json:
        return print_json(found)
    shown = table("time", "service", "principal", "method", "request", "trace")
    for one in found.entries:
        shown.add_row(moment(one.time), one.service, one.principal, one.method, one.request_id, one.trace_id)
    console.print(shown if found.entries else f"nothing was changed in namespace {namespace}")
    if found.unreachable:
        say("[yellow]not asked, as they do not answer: {services}[/]", services=", ".join(found.unreachable))
    return None


@app.command()
def cost(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")],
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show what a run took and cost, step by step.

    Example: `millrace cost 0195…`
    """
    found = asked(state, namespace, lambda client: client.cost(run_id))
    if as_json:
        return print_json(found)
    shown = table("task", "attempts", "took", "CPU", f"cost, {found.currency}")
    for step in found.steps:
        took, cpu = duration(step.duration_s), duration(step.cpu_s)
        shown.add_row(step.task, str(step.attempts), took, cpu, f"{step.cost:.6f}")
    total = (Text("run", style="bold"), state_text(found.state), duration(found.duration_s), duration(found.cpu_s))
    shown.add_row(*total, f"{found.cost:.6f}")
    return console.print(shown)
