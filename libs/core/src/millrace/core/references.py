"""Values that are kept as artifacts: a reference stands where the value would, `{"$artifact": <SHA-256>, "$bytes": n}`.

Only those who do work read what is behind one. Decisions hand references on, and refuse to look into them. One to a
list says how many `$items` that has, so that a `foreach` goes over it unread: each item is a reference into the list,
`{"$artifact": {"of": <SHA-256>, "at": <JSON pointer>}}`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

REFERENCE, ITEMS = "$artifact", "$items"
_STEP = r"\s*\.\s*([A-Za-z_]\w*)(?!\w|\s*\()|\[\s*(?:'([^'\\]*)'|\"([^\"\\]*)\"|(\d{1,9}))\s*\]"
_TOKEN = re.compile(_STEP)
_READ = re.compile(rf"(?<![\w.])(outputs|trigger|item|last|error)((?:{_STEP})*)")
HOW = "hand on what is needed of it in a field of its own"
"""What helps where a decision would have to look into one."""


def is_reference(value: Any) -> bool:  # noqa: ANN401 - a JSON value
    """Return whether a value is a reference to one that is kept as an artifact."""
    return isinstance(value, dict) and REFERENCE in value


def is_within_artifact(value: Any) -> bool:  # noqa: ANN401 - a JSON value
    """Return whether a value is a reference to a part of what is kept, such as an item of a list."""
    return is_reference(value) and isinstance(value[REFERENCE], dict)


def within(reference: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """Return a reference to what is at some tokens of a pointer in what a reference leads to."""
    kept = reference[REFERENCE]
    of, at = (kept["of"], kept["at"]) if isinstance(kept, Mapping) else (kept, "")
    further = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
    return {REFERENCE: {"of": of, "at": at + further}}


class ItemsElsewhere(Sequence[Any]):
    """The items of a list that is kept as an artifact: a reference to each."""

    def __init__(self, reference: Mapping[str, Any]) -> None:
        self._reference = reference

    def __len__(self) -> int:
        return int(self._reference[ITEMS])

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - an index; what a Sequence returns
        return within(self._reference, [str(index)])


def has_references(value: Any) -> bool:  # noqa: ANN401 - a JSON value
    """Return whether a reference stands anywhere in a value."""
    if isinstance(value, dict):
        return REFERENCE in value or any(has_references(item) for item in value.values())
    return isinstance(value, list) and any(has_references(item) for item in value)


def looked_into(text: str, variables: Mapping[str, Any]) -> str:
    """Return which reference a condition reads, or might, in words; nothing where it reads none.

    A condition is judged by its text: what follows a variable by literal names and places is what it reads, and where
    something else follows, it might read all that is there.
    """
    for match in _READ.finditer(text):
        place, value = match[1], variables.get(match[1])
        for token in _TOKEN.finditer(match[2]):
            if is_reference(value):
                break
            place, value = place + token[0].strip(), _at(value, token)
        if has_references(value):
            return told(place, value)
    return ""


def _at(value: Any, token: re.Match[str]) -> Any:  # noqa: ANN401 - a JSON value
    """Return what is at a name or an index in a value; None where nothing is."""
    if token[4]:
        return next(iter(value[int(token[4]) :]), None) if isinstance(value, list) else None
    return value.get(token[1] or token[2] or token[3]) if isinstance(value, dict) else None


def told(place: str, reference: Any) -> str:  # noqa: ANN401 - a JSON value
    """Return in words that a value is not to be looked into, and what helps."""
    if not is_reference(reference):
        return f"something in the value at {place} is kept as an artifact: {HOW}"
    size = f"has {reference['$bytes']} bytes and is kept as" if "$bytes" in reference else "is in"
    return f"the value at {place} {size} an artifact: {HOW}"
