"""JSON Pointer (RFC 6901): a path to one value in a JSON document."""

import re
from typing import Any

from millrace.core.references import is_reference, is_within_artifact, told, within

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class PointerMissing(LookupError):
    """The pointer is well formed, but the document has no value there."""


class KeptElsewhere(PointerMissing):
    """The pointer leads into a value that is kept as an artifact, which decisions do not read."""


def parse_pointer(text: str) -> tuple[str, ...]:
    """Return the pointer's reference tokens, unescaped.

    Raises:
        ValueError: The text is not a JSON pointer.

    Source: RFC 6901, section 4.
    """
    if text == "":
        return ()
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not a JSON pointer: it must be empty or start with '/'")
    if "~" in text.replace("~0", "").replace("~1", ""):
        raise ValueError(f"{text!r} is not a JSON pointer: '~' must be written '~0' and '/' in a name '~1'")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))


def resolve(document: Any, tokens: tuple[str, ...]) -> Any:  # noqa: ANN401 - a JSON value is any value
    """Return the value at `tokens`; in an item of a list that is kept as an artifact, a reference to it.

    Raises:
        PointerMissing: There is none; `KeptElsewhere`: it is in an artifact.
    """
    value = document
    for depth, token in enumerate(tokens):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            if is_within_artifact(value):
                return within(value, tokens[depth:])
            here = "/" + "/".join(tokens[:depth])
            if is_reference(value):
                raise KeptElsewhere(f"/{'/'.join(tokens)}: {told(here, value)}")
            raise PointerMissing(f"/{'/'.join(tokens)}: there is no {token!r} in the value at {here}")
    return value
