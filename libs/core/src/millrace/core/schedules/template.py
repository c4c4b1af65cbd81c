"""What a run starts with, made from the moment it is for."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from string import Template
from typing import Any
from zoneinfo import ZoneInfo

from millrace.core.parts import MAX_INPUT_DEPTH
from millrace.core.plan import fill_in
from millrace.core.pointer import parse_pointer
from pydantic import JsonValue

TEXT, FROM = "$text", "$from"
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: What a run can be told of its moment.
FIELDS = (
    *("name", "kind", "zone", "backfill", "logical_at", "local", "previous_at"),
    *("date", "year", "month", "day", "hour", "minute", "weekday"),
)


def moment(
    name: str, zone: ZoneInfo, logical_at: datetime, previous_at: datetime | None, kind: str, backfill: str = ""
) -> dict[str, Any]:
    """Return what a run is told of the moment that it is for.

    Args:
        name: The schedule's.
        zone: Where its days and times of day are.
        logical_at: The moment, UTC.
        previous_at: The schedule's moment before that, UTC; None where there is none.
        kind: `scheduled`, `catch_up` or `backfill`.
        backfill: Which; empty for none.
    """
    local = logical_at.astimezone(zone)
    return {
        "name": name,
        "kind": kind,
        "zone": zone.key,
        "backfill": backfill,
        "logical_at": logical_at.isoformat(),
        "local": local.isoformat(),
        "previous_at": previous_at.isoformat() if previous_at is not None else None,
        "date": f"{local:%Y-%m-%d}",
        **{part: f"{getattr(local, part):0{4 if part == 'year' else 2}d}" for part in ("year", "month", "day")},
        **{part: f"{getattr(local, part):02d}" for part in ("hour", "minute")},
        "weekday": WEEKDAYS[local.weekday()],
    }


def check_template(data: JsonValue) -> None:
    """Do nothing where data can be made for every moment.

    Raises:
        ValueError: It cannot; the message says where and why.
    """
    for place, complaint in _complaints(data, "data", 0):
        raise ValueError(f"{place}: {complaint}")


def fill(data: JsonValue, told: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON value
    """Return data for one moment, whose `{$from: /schedule/…}` and `{$text: …}` are what they stand for."""
    return _texts(fill_in(data, {"schedule": told}), told)


def _complaints(data: JsonValue, place: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > MAX_INPUT_DEPTH:
        yield place, f"nested deeper than {MAX_INPUT_DEPTH} levels"
    elif isinstance(data, dict) and FROM in data:
        yield from ((f"{place}.{FROM}", said) for said in _wrong_pointer(data))
    elif isinstance(data, dict) and TEXT in data:
        yield from ((f"{place}.{TEXT}", said) for said in _wrong_text(data))
    elif isinstance(data, dict):
        for name, value in data.items():
            yield from _complaints(value, f"{place}.{name}", depth + 1)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _complaints(value, f"{place}.{index}", depth + 1)


def _wrong_pointer(data: Mapping[str, JsonValue]) -> Iterator[str]:
    known = " or ".join(f"/schedule/{name}" for name in FIELDS)
    pointer = data[FROM]
    tokens = parse_pointer(pointer) if isinstance(pointer, str) else ()
    if set(data) != {FROM} or tokens[:1] != ("schedule",) or len(tokens) > 2 or not set(tokens[1:]) <= {*FIELDS}:  # noqa: PLR2004 - /schedule/<field>
        yield f"it leads nowhere; alone in its object, it is /schedule, {known}"


def _wrong_text(data: Mapping[str, JsonValue]) -> Iterator[str]:
    text = data[TEXT]
    if set(data) != {TEXT} or not isinstance(text, str):
        yield "it is a text, alone in its object"
    elif not Template(text).is_valid():
        yield f"{text!r} has a $ that begins no name; a $ itself is $$"
    elif unknown := sorted(set(Template(text).get_identifiers()) - {*FIELDS}):
        yield f"there is no ${unknown[0]}; there is {', '.join(f'${name}' for name in FIELDS)}"


def _texts(data: JsonValue, told: Mapping[str, Any]) -> JsonValue:
    if isinstance(data, dict):
        text = data.get(TEXT)
        if isinstance(text, str):
            return Template(text).substitute({name: "" if value is None else value for name, value in told.items()})
        return {name: _texts(value, told) for name, value in data.items()}
    return [_texts(value, told) for value in data] if isinstance(data, list) else data
