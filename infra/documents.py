"""Writes what is said of events from the code that says it: JSON Schemas, docs/events.md and docs/asyncapi/.

Run by `make docs`; `make check` runs it with `--check`, which fails when what is committed is stale. Beside the tests,
this is the only code that imports every service.
"""

import argparse
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI
from millrace.contracts import SERVICES
from millrace.contracts.catalogue import FOREIGN
from millrace.contracts.event import TYPE_PREFIX, Event, all_events, topic_fields
from millrace.contracts.held import KeyChange
from millrace.contracts.openlineage import LineageReported
from millrace.contracts.tasks import TaskOrder
from millrace.core import ir, parts
from millrace.core.ir import Workflow
from millrace.core.schedules import Schedule
from millrace.core.schedules import document as schedules
from millrace.core.triggers import Trigger, sources
from millrace.core.triggers import ir as triggers
from millrace.runtime.subscriptions import Subscription, TaskKind, on_batch
from millrace.runtime.transaction import Transaction
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = "libs/contracts/schemas"
WORKFLOW_SCHEMA = "libs/core/schemas/workflow.json"
SCHEDULE_SCHEMA = "libs/core/schemas/schedule.json"
TRIGGER_SCHEMA = "libs/core/schemas/trigger.json"
#: Pydantic's definition of any JSON value; the others are classes of ours.
JSON = "JsonValue"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Said:
    """One kind of event on one topic.

    Attributes:
        publisher: The only service that writes it.
        listeners: The services that react to it, with the names of their functions.
    """

    event: type[Event]
    topic: str
    publisher: str
    listeners: tuple[str, ...] = ()


def events() -> list[type[Event]]:
    """Return the event classes of `millrace.contracts`, by name."""
    return [cls for cls in all_events().values() if cls.__module__.startswith("millrace.contracts.")]


def short_name(event: type[Event]) -> str:
    """Return `training.VersionRegistered`: the name of its schema and its samples."""
    return event.type_name().removeprefix(TYPE_PREFIX)


def schema(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event's value, with each field's description beside it."""
    made = event.model_json_schema()
    _describe(made, event)
    return {"$schema": DIALECT, "$id": event.type_name()} | made | {"x-topic": event.topic, "x-key": event.key_field}


def workflow_schema() -> dict[str, Any]:
    """Return the JSON Schema of a workflow's document, with each field's description beside it."""
    made = _document_schema(Workflow, ir, parts)
    return {"$schema": DIALECT, "$id": f"millrace.workflow.{ir.SCHEMA_VERSION}"} | made


def trigger_schema() -> dict[str, Any]:
    """Return the JSON Schema of a trigger's document, with each field's description beside it."""
    return {"$schema": DIALECT, "$id": "millrace.trigger.1"} | _document_schema(Trigger, triggers, sources)


def _document_schema(document: type[BaseModel], *modules: ModuleType) -> dict[str, Any]:
    made = document.model_json_schema()
    _describe(made, document)
    for name, part in made["$defs"].items():
        if name != JSON:
            _describe(part, next(getattr(module, name) for module in modules if hasattr(module, name)))
    return made


def schedule_schema() -> dict[str, Any]:
    """Return the JSON Schema of a schedule's document, with each field's description beside it."""
    return {"$schema": DIALECT, "$id": "millrace.schedule.1"} | _document_schema(Schedule, schedules)


def _describe(made: dict[str, Any], cls: type[BaseModel]) -> None:
    """Put what a class's docstring says of itself and of its fields into its schema."""
    made["description"] = _summary(cls)
    for one in reversed(cls.__mro__):
        text = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2]
        for name, said in ATTRIBUTE.findall(text):
            if name in made.get("properties", {}):
                made["properties"][name]["description"] = " ".join(said.split())


def said() -> list[Said]:
    """Return every event of every topic, with its publisher and its listeners."""
    rows = {name: subscriptions(name) for name in SERVICES}
    return [
        Said(event, topic, publisher, tuple(_listeners(rows, event, topic)))
        for event in events()
        for topic, publisher in _places(event)
    ]


def subscriptions(service: str) -> list[Subscription]:
    """Return a service's SUBSCRIPTIONS; where it has TASKS, the runtime listens to their orders for it."""
    rows = list(_table(service, "handlers", "SUBSCRIPTIONS"))
    if tasks(service):
        rows.append(on_batch(TaskOrder, take_orders, start="earliest", topics=[f"control.tasks.{service}"]))
    return rows


def tasks(service: str) -> list[TaskKind]:
    """Return a service's TASKS."""
    return list(_table(service, "work", "TASKS"))


async def take_orders(orders: Sequence[TaskOrder], tx: Transaction) -> None:
    """Stand for the runtime's function of this name."""


def _table(service: str, module: str, name: str) -> Iterable[Any]:
    where = f"millrace.{service}.{module}"
    return getattr(importlib.import_module(where), name) if importlib.util.find_spec(where) else ()


def _places(event: type[Event]) -> list[tuple[str, str]]:
    """Return (topic, publisher) of an event: what all services say, each says on its own topic."""
    fields = topic_fields(event.topic)
    if not fields:
        return [(event.topic, event.publisher())]
    names = {name: event.topic.format(**dict.fromkeys(fields, name)) for name in SERVICES}
    if issubclass(event, KeyChange):
        return [(topic, name) for name, topic in names.items()]
    if issubclass(event, TaskOrder):
        return [(topic, "control") for name, topic in names.items() if tasks(name)]
    return [
        (topic, name) for name, topic in names.items() if tasks(name) or (event, name) == (LineageReported, "control")
    ]


def _listeners(rows: Mapping[str, list[Subscription]], event: type[Event], topic: str) -> Iterable[str]:
    for service, table in rows.items():
        for row in table:
            if topic in row.topics and issubclass(event, row.event):
                yield f"{service}.{row.function.__name__}"


def _summary(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def events_page(rows: list[Said]) -> str:
    """Return docs/events.md."""
    own = {name: [row for row in rows if row.publisher == row.event.publisher() == name] for name in SERVICES}
    shared = [row for row in rows if row.event.publisher() not in SERVICES]
    kinds = [kind for service in SERVICES for kind in tasks(service)]
    return "\n".join(
        [
            "# Events, topics and tasks",
            "",
            "Made from the code by `make docs`; `make check` fails when it is stale. A listener is a service and the",
            f"function that reacts. The schema of each event is in [`{SCHEMAS}`](../{SCHEMAS}),",
            "the AsyncAPI document of each service in [`asyncapi`](asyncapi).",
            "",
            *(line for name in SERVICES for line in _part(f"What {name} tells", own[name])),
            *_part("What control and the services say of work, of lineage, and of keys that they have parked", shared),
            *("## Topics that others write", "", "| topic | listeners |", "|---|---|"),
            *(f"| `{topic.name}` | {_foreign_listeners(topic.name)} |" for topic in FOREIGN),
            *("", "Control listens to the topics of the sources that are applied to it, whichever they are.", ""),
            *("## Tasks", "", "Ordered by control on the topic of their team, and reported on the team's own.", ""),
            *(
                "| kind | input | what the work gives | what is committed |",
                "|---|---|---|---|",
                *map(_task_row, kinds),
                "",
            ),
        ]
    )


def _part(title: str, rows: list[Said]) -> list[str]:
    if not rows:
        return [f"## {title}", "", "Nothing.", ""]
    head = ["| event | says | topic | key | listeners |", "|---|---|---|---|---|"]
    by_event = {
        event: [row for row in rows if row.event is event] for event in dict.fromkeys(row.event for row in rows)
    }
    return [f"## {title}", "", *head, *(_row(event, own) for event, own in by_event.items()), ""]


def _row(event: type[Event], rows: list[Said]) -> str:
    link = f"[`{event.__name__}`](../{SCHEMAS}/{short_name(event)}.json)"
    topics = ", ".join(f"`{row.topic}`" for row in rows)
    listeners = ", ".join(dict.fromkeys(f"`{who}`" for row in rows for who in row.listeners)) or "nobody yet"
    return f"| {link} | {_summary(event)} | {topics} | `{event.key_field}` | {listeners} |"


def _task_row(kind: TaskKind) -> str:
    work, finish = (_summary(getattr(function, "func", function)) for function in (kind.work, kind.finish))
    result = work.removeprefix("Return ")
    return f"| `{kind.kind}` | `{kind.input.__name__}` | {result[:1].upper()}{result[1:]} | {finish} |"


def _foreign_listeners(topic: str) -> str:
    found = [f"{name} (`{setting}`)" for name in SERVICES for setting in _topic_settings(name, topic)]
    return ", ".join(found) or "control, where a source names it"


def _topic_settings(service: str, topic: str) -> list[str]:
    where = f"millrace.{service}.settings"
    if not importlib.util.find_spec(where):
        return []
    fields = importlib.import_module(where).Settings.model_fields
    return [
        f"{service}_{name}".upper()
        for name, field in fields.items()
        if name.endswith("_topics") and topic in field.default
    ]


def asyncapi(service: str, rows: list[Said]) -> dict[str, Any]:
    """Return a service's AsyncAPI 3 document, made by FastStream from a broker that is never started."""
    broker = KafkaBroker()
    for row in rows:
        title = f"{row.topic}:{row.event.__name__}"
        if row.publisher == service:
            broker.publisher(row.topic, schema=row.event, title=title, description=_summary(row.event))
        for listener in row.listeners:
            if listener.startswith(f"{service}."):
                function = listener.partition(".")[2]
                broker.subscriber(row.topic, title=title, description=f"`{function}` takes it.")(_taking(row.event))
    package = importlib.import_module(f"millrace.{service}")
    made = AsyncAPI(
        broker, title=f"millrace.{service}", version=package_version(service), description=_summary(package)
    )
    # The cause of an event is in the CloudEvents header; FastStream would have it in one of its own.
    text = made.to_specification().to_json().replace("#/correlation_id", "#/ce_causationid")
    return dict(json.loads(text))


def _taking(event: type[Event]) -> Callable[[Event], Coroutine[Any, Any, None]]:
    async def take(taken: Event) -> None:
        """Take one event."""

    take.__annotations__["taken"] = event
    return take


def package_version(service: str) -> str:
    """Return the version in a service's pyproject.toml."""
    found = re.search(r'^version = "(.+)"$', (ROOT / f"services/{service}/pyproject.toml").read_text(), re.MULTILINE)
    return found[1] if found else ""


def documents() -> dict[Path, str]:
    """Return the text of every document, by its path."""
    rows = said()
    made: dict[str, str] = {f"{SCHEMAS}/{short_name(event)}.json": _json(schema(event)) for event in events()}
    made |= {f"docs/asyncapi/{service}.json": _json(asyncapi(service, rows)) for service in SERVICES}
    made["docs/events.md"] = events_page(rows)
    made[WORKFLOW_SCHEMA] = _json(workflow_schema())
    made[SCHEDULE_SCHEMA] = _json(schedule_schema())
    made[TRIGGER_SCHEMA] = _json(trigger_schema())
    return {ROOT / path: text for path, text in made.items()}


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the documents, or compare with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a committed document is stale")
    check = parser.parse_args().check
    fresh = documents()
    gone = {path for folder in (SCHEMAS, "docs/asyncapi") for path in (ROOT / folder).glob("*.json")} - set(fresh)
    stale = sorted(gone | {path for path, text in fresh.items() if not path.exists() or path.read_text() != text})
    if check and stale:
        sys.exit(f"stale, run `make docs`: {', '.join(str(path.relative_to(ROOT)) for path in stale)}")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path in fresh:
            path.write_text(fresh[path])
        else:
            path.unlink()


if __name__ == "__main__":
    main()
