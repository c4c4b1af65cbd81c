"""Which held events a command is about: options that several commands share."""

import re
from dataclasses import replace
from typing import Annotated, Any

import typer
from millrace.contracts import SERVICES
from millrace.runtime.errors import InvalidInput, NotFound
from millrace.sdk.cli.options import moment_of, with_options
from millrace.sdk.client import Client
from millrace.sdk.held import ParkedKey, Place, Which

_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(?:/s)?", re.ASCII)

FILTERS: dict[str, Any] = {
    "service": Annotated[str, typer.Option("--service", help=f"Who holds them: {', '.join(SERVICES)}; else all.")],
    "topic": Annotated[str, typer.Option("--topic", help="Of this topic.")],
    "key": Annotated[str, typer.Option("--key", help="Of this key.")],
    "type_": Annotated[str, typer.Option("--type", help="Of this type, such as millrace.data.VersionPublished.")],
    "reason": Annotated[str, typer.Option("--reason", help="With this in the reason.")],
    "in_state": Annotated[str, typer.Option("--in", metavar="STATE", help="In this state: dead or parked.")],
    "since": Annotated[str, typer.Option("--since", help="Held since: ISO 8601, or how long ago, such as 2h.")],
    "until": Annotated[str, typer.Option("--until", help="Held before: likewise.")],
}


def which(
    *, service: str, topic: str, key: str, type_: str, reason: str, in_state: str, since: str, until: str
) -> Which:
    """Return what the options of a filter say.

    Raises:
        InvalidInput: There is no such service or state, or a time is none.
    """
    if service and service not in SERVICES:
        raise InvalidInput(f"--service: one of {', '.join(SERVICES)}")
    if in_state not in ("", "dead", "parked"):
        raise InvalidInput("--in: dead or parked")
    return Which(
        service=service,
        topic=topic,
        key=key,
        type=type_,
        reason=reason,
        state=in_state,
        since=moment_of(since, "since"),
        until=moment_of(until, "until"),
    )


filtered = with_options(FILTERS, which)
"""Gives a command the options of a filter; what they say comes as its first argument."""


async def one_or_many(client: Client, asked: Which, what: str, *, every: bool = False) -> list[Which]:
    """Return what is meant by a place, an event's id, or else a filter.

    Raises:
        InvalidInput: Nothing is said, and not that all are meant; or more than a place is.
        NotFound: No such event is held.
    """
    if what and every:
        raise InvalidInput(f"{what} or --all: leave out one of them")
    if what:
        return [Which(place=place) for place in await _places(client, asked, what)]
    if asked == Which() and not every:
        raise InvalidInput("say which: a place, an event's id, options such as --topic, or --all")
    return [asked]


async def parked_keys(client: Client, asked: Which, what: str, *, every: bool = False) -> list[ParkedKey]:
    """Return the parked keys behind which an event waits that a place, an event's id, or else a filter names.

    Raises:
        InvalidInput: Nothing is said, and not that all are meant; or more than a place is.
        NotFound: No such event is held, or none that is parked.
    """
    # All that hold up a key are parked: to say so says nothing of which.
    state = "" if asked.state == "parked" else asked.state
    wanted = await one_or_many(client, replace(asked, state=state), what, every=every)
    found = [key for one in wanted for key in await client.held.keys(one)]
    if what and not found:
        raise NotFound(f"no event {what} is parked: `millrace held list {what}` shows it; a dead one is replayed")
    return list({(one.service, one.key.topic, one.key.key): one for one in found}.values())


def named(asked: Which, what: str) -> Which:
    """Return a filter that lets through only what a place or an event's id names, if any.

    Raises:
        InvalidInput: There is more than a place.
    """
    if not what:
        return asked
    return replace(asked, place=Place.read(what)) if ":" in what else replace(asked, event_id=what)


async def place_of(client: Client, what: str) -> Place:
    """Return where the event is held that a place or an event's id names.

    Raises:
        NotFound: No such event is held.
    """
    return (await _places(client, Which(), what))[0]


async def _places(client: Client, asked: Which, what: str) -> list[Place]:
    one = named(asked, what)
    if one.place:
        return [one.place]
    found = await client.held.list(100, one)
    if not found.events:
        told = f"no event {what} is held{'' if asked == Which() else ' that the options let through'}"
        silent = ", ".join(found.unreachable)
        raise NotFound(f"{told}; not asked, as they do not answer: {silent}" if silent else told)
    return [event.place for event in found.events]


def place_or_id(text: str) -> str:
    """Return what names an event, once it is known that it can.

    Raises:
        InvalidInput: It looks like a place and is none.
    """
    if ":" in text:
        Place.read(text)
    return text


def rate(text: str) -> float:
    """Return how many a second a text such as `500/s` means.

    Raises:
        InvalidInput: It means none.
    """
    found = _RATE.fullmatch(text)
    if not found or not float(found[1]):
        raise InvalidInput("--rate: events a second, such as 500/s")
    return float(found[1])
