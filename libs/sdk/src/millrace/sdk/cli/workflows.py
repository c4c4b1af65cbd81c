"""`millrace workflow`: what is in force, as a document or a picture, and what another version would change."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.documents import read_text
from millrace.sdk.cli.output import console, moment, print_json, table

if TYPE_CHECKING:
    from millrace.core.ir import Workflow

app = typer.Typer()
workflow = typer.Typer(help="Workflows: list, show and draw them; what another version changes.", no_args_is_help=True)
app.add_typer(workflow, name="workflow")

What = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A workflow in force, or a file with one.")]


@workflow.command("list")
def list_(state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Show the workflows in force.

    Example: `millrace workflow list`
    """
    found = asked(state, namespace, lambda client: client.workflows())
    if as_json:
        return print_json(found)
    shown = table("workflow", "hash", "applied", "by")
    for one in found:
        shown.add_row(one.name, one.hash[:12], moment(one.applied_at), one.principal)
    return console.print(shown if found else f"no workflow in namespace {namespace}")


@workflow.command()
def show(what: What, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Print a workflow as YAML, or with --json as its canonical JSON.

    Example: `millrace workflow show flights.month`
    """
    from millrace.core.yaml import dump_workflow  # noqa: PLC0415 - as below

    found = _workflow(what, state, namespace)
    print(json.dumps(found.document()) if as_json else dump_workflow(found), end="\n" if as_json else "")


@workflow.command()
def graph(
    what: What,
    form: Annotated[Literal["mermaid", "dot"], typer.Option("--as", help="For pages, or for Graphviz.")] = "mermaid",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Draw a workflow: its tasks, what each needs, and the bodies within them.

    Example: `millrace workflow graph flights.month --as dot | dot -Tsvg > month.svg`
    """
    from millrace.core.graph import dot, mermaid  # noqa: PLC0415 - as below

    found = _workflow(what, state, namespace)
    text = mermaid(found) if form == "mermaid" else dot(found)
    if as_json:
        return print_json({"workflow": found.name, "hash": found.sha256, form: text})
    return print(text, end="")


@workflow.command()
def diff(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The other version; `-` is stdin.")],
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show what a file would change about the workflow in force; nothing is applied.

    Example: `millrace workflow diff month.yaml`
    """
    from millrace.core.difference import differences  # noqa: PLC0415 - as below

    after = _read(file)
    before = asked(state, namespace, lambda client: client.workflow(after.name))
    found = [*differences(_parsed(before.document_json), after)]
    if as_json:
        return print_json(found)
    return console.print("\n".join(found) or "nothing differs", highlight=False)


def _workflow(what: str, state: Path, namespace: str) -> "Workflow":
    if what == "-" or Path(what).is_file():
        return _read(what)
    found = asked(state, namespace, lambda client: client.workflow(what))
    return _parsed(found.document_json)


def _parsed(document_json: str) -> "Workflow":
    from millrace.core.parse import parse_workflow  # noqa: PLC0415 - as below

    return parse_workflow(json.loads(document_json))


def _read(file: str) -> "Workflow":
    # What reads workflows takes as long to import as all else of a command together.
    from millrace.core.errors import InvalidDocument  # noqa: PLC0415
    from millrace.core.yaml import load_workflow  # noqa: PLC0415

    try:
        return load_workflow(read_text(file))
    except InvalidDocument as error:
        raise InvalidInput(str(error)) from error
