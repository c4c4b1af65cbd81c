"""`millrace publish`: tell what happened."""

from datetime import datetime
from typing import Annotated, Any

import typer
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli.connection import FOLDER, Folder, Json
from millrace.sdk.cli.documents import read_json
from millrace.sdk.cli.output import print_json, say
from millrace.sdk.connection import SERVERS, kafka_servers

app = typer.Typer()


@app.command()
def publish(
    topic: Annotated[str, typer.Argument(help="Such as `triggers`.")],
    type: Annotated[str, typer.Argument(help="What kind of thing happened, such as flights.month.landed.")],  # noqa: A002
    source: Annotated[str, typer.Argument(help="Where: a URI reference such as /nyc/airports.")],
    data: Annotated[str, typer.Option("--data", help="What to say of it: JSON, or @FILE with JSON in it.")] = "null",
    id: Annotated[str, typer.Option("--id", help="With the source its name; a new one when not given.")] = "",  # noqa: A002
    subject: Annotated[str, typer.Option("--subject", help="The thing it happened to, such as 2013-01.")] = "",
    time: Annotated[str, typer.Option("--time", help="When, ISO 8601 with a zone; now when not given.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Whose, where the topic does not tell.")] = "",
    key: Annotated[str, typer.Option("--key", help="Events with the same one stay in order; else the source.")] = "",
    structured: Annotated[bool, typer.Option("--structured", help="All in one JSON object, not in headers.")] = False,
    times: Annotated[int, typer.Option("--times", min=1, max=100, help="Publish it so often, under one id.")] = 1,
    servers: Annotated[
        str, typer.Option("--servers", envvar=SERVERS, help="Kafka brokers, host:port; else the stack's.")
    ] = "",
    state: Folder = FOLDER,
    as_json: Json = False,
) -> None:
    """Publish a CloudEvent to Kafka, and return when every replica has it.

    The same source and id again are a repetition: they start nothing a second time.

    Example: `millrace publish triggers flights.month.landed /nyc/airports --id 2013-01 --data @month.json`
    """
    from millrace.sdk.publish import publish_blocking  # noqa: PLC0415 - no other command needs a Kafka client

    options: dict[str, Any] = {"subject": subject, "namespace": namespace, "key": key or None}
    options |= {"id": id} if id else {}
    options |= {"time": _time(time)} if time else {}
    options |= {"mode": "structured" if structured else "binary", "servers": servers or kafka_servers(state)}
    content = read_json(data)
    for _ in range(times):
        event = publish_blocking(topic, type, source, content, **options)
        options["id"], options["time"] = event.id, event.time
    if as_json:
        return print_json({"topic": topic, **event.attributes(), "data": event.data})
    return say("published [bold]{id}[/] of {source} to {topic}", id=event.id, source=event.source, topic=topic)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--time {text!r} is no ISO 8601 time, such as 2013-02-01T05:00:00Z") from None
