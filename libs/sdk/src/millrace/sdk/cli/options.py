"""Options that several commands share, and what they mean."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.runtime.errors import InvalidInput

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGO = re.compile(r"(\d{1,9})([smhd])", re.ASCII)


def with_options(
    kinds: Mapping[str, Any], read: Callable[..., Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what gives a command some options; what they mean together comes as its first argument.

    Args:
        kinds: Their names and types; each is a text, empty when it is not given.
        read: Returns what they mean.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def told(**options: Any) -> None:  # noqa: ANN401 - whatever the command takes
            asked = {name: options.pop(name) for name in kinds}
            command(read(**asked), **options)

        own = list(inspect.signature(command).parameters.values())[1:]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=kind)
            for name, kind in kinds.items()
        ]
        first = [one for one in own if one.default is inspect.Parameter.empty]
        rest = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own if one not in first]
        told.__signature__ = inspect.Signature([*first, *added, *rest])  # type: ignore[attr-defined] # what typer reads
        told.__annotations__ = {}
        return told

    return decorate


def is_ago(text: str) -> bool:
    """Whether an option means a time that is another one when it is given again."""
    return _AGO.fullmatch(text) is not None


def moment_of(text: str, name: str) -> datetime | None:
    """Return the time that an option means; None where it is not given.

    Raises:
        InvalidInput: It means none.
    """
    if not text:
        return None
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(seconds=int(ago[1]) * UNITS_S[ago[2]])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--{name}: {text[:80]!r} is no ISO 8601 time, and no time ago such as 2h") from None
    return found if found.tzinfo else found.astimezone()
