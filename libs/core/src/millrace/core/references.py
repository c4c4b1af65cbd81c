"""Values that are kept as artifacts: a reference stands where the value would, `{"$artifact": <SHA-256>, "$bytes": n}`.

Only those who do work read what is behind one. Decisions hand references on, and refuse to look into them.
"""

from typing import Any

REFERENCE = "$artifact"
HOW = "hand on what is needed of it in a field of its own"
"""What helps where a decision would have to look into one."""


def is_reference(value: Any) -> bool:  # noqa: ANN401 - a JSON value
    """Return whether a value is a reference to one that is kept as an artifact."""
    return isinstance(value, dict) and REFERENCE in value


def has_references(value: Any) -> bool:  # noqa: ANN401 - a JSON value
    """Return whether a reference stands anywhere in a value."""
    if isinstance(value, dict):
        return REFERENCE in value or any(has_references(item) for item in value.values())
    return isinstance(value, list) and any(has_references(item) for item in value)


def told(place: str, reference: dict[str, Any]) -> str:
    """Return in words that a value is not to be looked into, and what helps."""
    size = reference.get("$bytes", "?")
    return f"the value at {place} has {size} bytes and is kept as an artifact: {HOW}"
