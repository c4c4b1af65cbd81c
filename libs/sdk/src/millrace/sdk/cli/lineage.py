"""`millrace lineage`: who made what from what."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from millrace.contracts.rpc.lineage.v1.lineage_pb2 import ExplainResponse, GetGraphResponse, Hop, Node
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.output import console, moment, print_json, say
from millrace.sdk.client import Direction
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

app = typer.Typer()
lineage = typer.Typer(help="Who made what from what, down to the bytes of a file.", no_args_is_help=True)
app.add_typer(lineage, name="lineage")


@lineage.command()
def show(
    node: Annotated[str, typer.Argument(help="Such as data.version:3f… or run:<id>.")],
    direction: Annotated[Direction, typer.Option("--direction", help="Which way to look.")] = "both",
    depth: Annotated[int, typer.Option("--depth", min=0, help="How far; 0 is all the way.")] = 0,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show what a thing was made from, and what was made from it.

    Example: `millrace lineage show training.model:3f… --direction upstream`
    """
    found = asked(state, namespace, lambda client: client.graph(node, direction, depth=depth))
    if as_json:
        return print_json(found)
    if direction != "downstream":
        console.print(graph_tree(node, found, upstream=True))
    if direction != "upstream":
        console.print(graph_tree(node, found, upstream=False))
    return say("[yellow]cut: {reason}[/]", reason=found.reason) if found.truncated else None


@lineage.command()
def explain(
    prediction_id: Annotated[str, typer.Argument(metavar="PREDICTION", help="The prediction's id.")],
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show the way from a prediction back to the SHA-256 of each file that it rests on.

    Example: `millrace lineage explain pa4x…`
    """
    found = asked(state, namespace, lambda client: client.explain(prediction_id))
    if as_json:
        return print_json(found)
    console.print(explanation_tree(prediction_id, found))
    if found.complete:
        return say("[green]complete: every hop down to a file is known[/]")
    return say("[yellow]not complete:[/]\n{missing}", missing="\n".join(f"  {one}" for one in found.missing))


def explanation_tree(prediction_id: str, found: ExplainResponse) -> Tree:
    """Return the way back from a prediction, every hop with its name, its id and what made it."""
    hops = {hop.node.id: hop for hop in found.hops}
    answered = f"{moment(found.predicted_at)}{_answer(found)}"
    tree = Tree(Text.from_markup(f"[bold]prediction[/] {prediction_id}\n[dim]answered {answered}[/]"))
    starts = [hop.node.id for hop in found.hops if hop.depth == 0]
    _grow(tree, starts, {name: hop.made_from for name, hop in hops.items()}, lambda name: _hop(name, hops.get(name)))
    return tree


def graph_tree(node: str, found: GetGraphResponse, *, upstream: bool) -> Tree:
    """Return a graph as a tree that begins at one node."""
    nodes = {one.id: one for one in found.nodes}
    following: dict[str, list[str]] = {}
    for edge in found.edges:
        source, target = (edge.to_node, edge.from_node) if upstream else (edge.from_node, edge.to_node)
        following.setdefault(source, []).append(target)
    tree = Tree(Text("made from" if upstream else "went into", style="bold"))
    _grow(tree, [node], following, lambda name: _node(nodes.get(name) or Node(id=name)))
    return tree


def _grow(
    tree: Tree, starts: Sequence[str], following: Mapping[str, Sequence[str]], label: Callable[[str], str]
) -> None:
    """Add nodes and what follows each; a node that was shown before is only named again."""
    shown: set[str] = set()
    branches = [(tree, name) for name in reversed(starts)]
    while branches:
        parent, name = branches.pop()
        if name in shown:
            parent.add(Text.from_markup(f"{label(name).splitlines()[0]} [dim](see above)[/]"))
            continue
        shown.add(name)
        branch = parent.add(Text.from_markup(label(name)))
        branches += [(branch, more) for more in reversed(following.get(name, ()))]


def _hop(name: str, hop: Hop | None) -> str:
    if hop is None:
        return f"{escape(name)} [red](unknown)[/]"
    made = ""
    if hop.made_by_task:
        made = f"\n[dim]made by {escape(hop.made_by)} ({escape(hop.made_by_kind)}), run {escape(hop.made_by_run)}[/]"
    return _node(hop.node) + made


def _node(node: Node) -> str:
    kind, _, identifier = node.id.partition(":")
    named = f" [cyan]{escape(node.name)}[/]" if node.name and node.name != identifier else ""
    return f"[bold]{escape(node.kind or kind)}[/]{named} {escape(identifier)}"


def _answer(found: ExplainResponse) -> str:
    logged: Any = json.loads(found.prediction_json) if found.prediction_json else {}
    return f", score {logged['score']:.4f}" if isinstance(logged.get("score"), float) else ""
