"""`millrace predict`: ask a model."""

from typing import Annotated

import typer
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.documents import read_json, read_rows
from millrace.sdk.cli.output import console, print_json, say, table, whole
from millrace.sdk.client import Client
from millrace.sdk.predictions import ROUTING_KEY, Prediction

app = typer.Typer()


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    row: Annotated[list[str] | None, typer.Option("--row", help="A row: a JSON object. Can be repeated.")] = None,
    rows: Annotated[str, typer.Option("--rows", help="File with rows: .csv, or JSON; `-` is stdin.")] = "",
    key: Annotated[list[str] | None, typer.Option("--key", help="Routing key, one per row.")] = None,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Ask a model for its score of some rows, by the Open Inference Protocol.

    Each row has the model's inputs by name; a column `routing_key` of a file names each row's routing key. What the
    model does not take is left out.

    Example: `millrace predict arrival_late --row '{"carrier": "UA", "dest": "IAH", "weather.visib": 10}' --key 1`
    """
    given = [read_json(one) for one in row or ()] + (read_rows(rows) if rows else [])
    if not given or not all(isinstance(one, dict) for one in given):
        raise InvalidInput('name rows to ask about, JSON objects: --row \'{"origin": "EWR"}\', or --rows FILE')
    keys = key or [str(one[ROUTING_KEY]) for one in given if ROUTING_KEY in one]

    async def ask(client: Client) -> list[Prediction]:
        known = await client.model(model)
        return await client.predict(model, [known.read_row(one) for one in given], keys)

    answers = asked(state, namespace, ask)
    if as_json:
        return print_json([vars(answer) | {"deployment_id": str(answer.deployment_id)} for answer in answers])
    shown = table("row", "score", "version", whole("prediction"))
    for number, answer in enumerate(answers):
        shown.add_row(str(number), f"{answer.score:.4f}", str(answer.version), answer.prediction_id)
    console.print(shown)
    return say("[dim]why? millrace lineage explain PREDICTION[/]")
