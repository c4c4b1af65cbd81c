"""JSON that every service can read, and PostgreSQL keep."""

import json
import re
from typing import Any

from pydantic_core import from_json

MOST_LEVELS = 100
"""Of lists and objects within one another: events are read down to 200, and carry values some levels down."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def portable(value: Any) -> bytes:  # noqa: ANN401 - checked here
    """Return a JSON value as UTF-8.

    Raises:
        ValueError: It is no JSON, or cannot be carried: an endless number, half a character, a NUL character, or lists
            and objects more than 100 levels down. The text says which.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a character, which cannot be stored") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    check_portable(text)
    return text


def check_portable(text: bytes) -> None:
    """Do nothing where one JSON value, as UTF-8, can be carried.

    Raises:
        ValueError: It is no JSON, holds a NUL character, or goes more than 100 levels down.
    """
    if _NUL.search(text):
        raise ValueError("it holds a NUL character, which cannot be stored")
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError as error:
        if "recursion" not in str(error):
            raise ValueError(f"it is no JSON: {error}") from None
    try:
        from_json(b"[" * MOST_LEVELS + text + b"]" * MOST_LEVELS)  # by what reads the events
    except ValueError:
        raise ValueError(f"it has lists and objects more than {MOST_LEVELS} levels down: make it flatter") from None
