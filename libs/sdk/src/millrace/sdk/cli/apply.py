"""`millrace apply`: declarations put in force."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, get_args

import typer
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.declared import declared, is_python
from millrace.sdk.cli.documents import KINDS, Kind, kind_of, read_text
from millrace.sdk.cli.output import console, print_json, table
from millrace.sdk.client import Client

app = typer.Typer()

What = Annotated[
    list[str],
    typer.Argument(
        metavar="[workflow|trigger|schedule|contract|view] FILE|MODULE...",
        help="YAML or JSON, `-` is stdin; or Python with flows: a file, or a module or package by its name.",
    ),
]


@dataclass(frozen=True)
class Applied:
    """A declaration that is in force.

    Attributes:
        hash: SHA-256 of its canonical form; a trigger or a schedule has none.
        unchanged: Whether it was in force already; None where that is not told.
        differences: What differs from the version before, a line each; told of workflows.
        warnings: What would fail if its turn came now, such as a subflow that is not there yet; likewise.
    """

    kind: Kind
    name: str
    hash: str = ""
    unchanged: bool | None = None
    differences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@app.command()
def apply(what: What, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Put workflows, triggers, schedules, contracts and feature views in force; the same again changes nothing.

    What a file declares is seen from what is in it, or said first. Of Python, the flows that a module has are applied,
    with their triggers and schedules. Contracts are applied first, then views, workflows, triggers and schedules.

    Example: `millrace apply contracts/*.yaml views/*.yaml workflow.yaml trigger.yaml`

    Example: `millrace apply workflow monthly.yaml`

    Example: `millrace apply acme.flows`
    """
    documents = _documents(what)

    async def put_in_force(client: Client) -> list[Applied]:
        found = [(text, done) for kind, text in documents for done in await _apply(client, kind, text)]
        # What was not there yet may have come with the same command.
        return [
            replace(done, warnings=(*(await client.apply_workflow(text)).warnings,)) if done.warnings else done
            for text, done in found
        ]

    applied = asked(state, namespace, put_in_force)
    if as_json:
        return print_json([vars(one) for one in applied])
    shown = table("kind", "name", "", "hash", "differs")
    for one in applied:
        done = "unchanged" if one.unchanged else "applied"
        shown.add_row(one.kind, one.name, done, one.hash[:12], "\n".join(one.differences))
    console.print(shown)
    for one in applied:
        for warning in one.warnings:
            console.print(f"warning: workflow {one.name}: {warning}", highlight=False, soft_wrap=True)
    return None


def _documents(what: Sequence[str]) -> list[tuple[Kind, str]]:
    """Return what is to be applied, in its order."""
    said = next((kind for kind in get_args(Kind) if what[0] == kind), None)
    files = what[1:] if said else what
    if not files:
        raise InvalidInput(f"which {said}? name its file: millrace apply {said} FILE")
    found: list[tuple[Kind, str]] = []
    for name in files:
        if is_python(name):
            found += [(kind, text) for kind, text in declared(name) if said in {None, kind}]
        else:
            text = read_text(name)
            found.append((said or kind_of(text, name), text))
    if not found:
        raise InvalidInput(f"no {said} in {', '.join(files)}: Python declares workflows, triggers and schedules")
    return sorted(found, key=lambda one: KINDS.index(one[0]))


async def _apply(client: Client, kind: Kind, text: str) -> list[Applied]:
    match kind:
        case "contract":
            contract = await client.apply_contract(text)
            return [Applied(kind, contract.contract, contract.contract_hash, contract.unchanged)]
        case "view":
            return [Applied(kind, view.view, view.view_hash) for view in await client.apply_views(text)]
        case "workflow":
            workflow = await client.apply_workflow(text)
            told = (*workflow.differences,), (*workflow.warnings,)
            return [Applied(kind, workflow.name, workflow.hash, workflow.unchanged, *told)]
        case "trigger":
            trigger = await client.apply_trigger(text)
            return [Applied(kind, trigger.name, unchanged=trigger.unchanged)]
        case "schedule":
            made = await client.schedules.apply(text)
            return [Applied(kind, made.schedule.name, unchanged=made.unchanged)]
