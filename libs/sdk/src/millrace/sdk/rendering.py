"""How what is shown looks: tables, states in their colours, times and durations."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

#: Where nobody looks, nothing is cut or folded.
_WIDE = 400
_MINUTE_S, _HOUR_S = 60, 3600

STYLES = {
    "succeeded": "green",
    "started": "green",
    "running": "yellow",
    "dispatched": "yellow",
    "ending": "yellow",
    "paused": "magenta",
    "retry_wait": "magenta",
    "queued": "cyan",
    "refused": "magenta",
    "failed": "red",
    "dead": "red",
    "cancelled": "red",
}
"""How a state looks; one that is not here is dim."""

#: What services tell is printed as it is; only `say` knows markup.
console = Console(
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE, highlight=False, markup=False, emoji=False
)


def table(*columns: str | Column) -> Table:
    """Return an empty table with these heads."""
    heads = (Column(column, overflow="fold") if isinstance(column, str) else column for column in columns)
    return Table(*heads, box=None, header_style="bold", pad_edge=False)


def whole(head: str) -> Column:
    """Return a column whose texts stay in one piece, such as an id to copy."""
    return Column(head, no_wrap=True, overflow="fold")


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=STYLES.get(state, "dim"))


def moment(time: Timestamp) -> str:
    """Return a time as people here read it; nothing for none."""
    if not time.seconds:
        return ""
    return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    """Return a duration such as `1.5 s` or `3 m 20 s`; nothing for none."""
    if seconds <= 0:
        return ""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S:.0f} m {seconds % _MINUTE_S:02.0f} s"
    return f"{seconds // _HOUR_S:.0f} h {seconds % _HOUR_S // _MINUTE_S:02.0f} m"


def took(start: Timestamp, end: Timestamp) -> float:
    """Return the seconds from one time to another, or to now where there is none; 0 where it has not begun."""
    if not start.seconds:
        return 0.0
    until = end.ToDatetime(UTC) if end.seconds else datetime.now(UTC)
    return max(0.0, (until - start.ToDatetime(UTC)).total_seconds())


def plain(found: object) -> Any:  # noqa: ANN401 - a JSON value
    """Return messages, and what holds some, as a JSON value; a field `x_json` becomes `x`."""
    match found:
        case Timestamp():
            return found.ToDatetime(UTC).isoformat() if found.seconds or found.nanos else None
        case Message():
            return dict(_field(found, name) for name in found.DESCRIPTOR.fields_by_name)
        case bytes():
            return found.decode(errors="replace")
        case Mapping():
            return {str(key): plain(value) for key, value in found.items()}
        case Sequence() if not isinstance(found, str):
            return [plain(value) for value in found]
    return found


def _field(message: Message, name: str) -> tuple[str, Any]:
    value = getattr(message, name)
    if name.endswith("_json"):
        read = [_read(text) for text in value] if not isinstance(value, str) else _read(value)
        return name.removesuffix("_json"), read
    return name, plain(value)


def _read(text: str) -> Any:  # noqa: ANN401 - a JSON value
    return json.loads(text) if text else None
