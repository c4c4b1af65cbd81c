"""What a flow refers to while it is traced: values and conditions that a run will have."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from millrace.core.parse import CEL_RESERVED

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Condition:
    """A CEL expression made from Python operators: `==`, `<`, `&`, `|`, `~` on what a flow refers to."""

    def __init__(self, text: str, needs: frozenset[str] = frozenset()) -> None:
        self.text = text
        self.needs = needs

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(f"({self.text}) && ({other.text})", self.needs | other.needs)

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(f"({self.text}) || ({other.text})", self.needs | other.needs)

    def __invert__(self) -> "Condition":
        return Condition(f"!({self.text})", self.needs)

    def __bool__(self) -> bool:
        raise TypeError("a condition is known only when the workflow runs: write &, |, ~ for and, or, not")


@dataclass(frozen=True)
class Place:
    """Where a value will be: for inputs, for conditions, and after which steps."""

    pointer: tuple[str, ...]
    expression: str
    needs: frozenset[str] = frozenset()


class Ref:
    """A value that a run will have: part of its trigger, of an earlier output or of the run itself."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __getattr__(self, name: str) -> "Ref":
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: str | int) -> "Ref":
        at = self._place
        bare = isinstance(key, str) and _IDENTIFIER.fullmatch(key) and key not in CEL_RESERVED
        step = f".{key}" if bare else f"[{json.dumps(key)}]"
        return Ref(Place((*at.pointer, str(key)), at.expression + step, at.needs))

    def or_default(self, value: Any) -> "Default":  # noqa: ANN401 - a JSON value is any value
        """Return the same, with a value to take when the run has none there."""
        return Default(self, value)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]  # it builds a condition, as ORMs do
        return _compare(self, "==", other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]  # likewise
        return _compare(self, "!=", other)

    def __lt__(self, other: object) -> Condition:
        return _compare(self, "<", other)

    def __le__(self, other: object) -> Condition:
        return _compare(self, "<=", other)

    def __gt__(self, other: object) -> Condition:
        return _compare(self, ">", other)

    def __ge__(self, other: object) -> Condition:
        return _compare(self, ">=", other)

    __hash__ = None  # type: ignore[assignment]  # it has no equality of its own

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self._place.expression} is known only when the workflow runs: give it to a task or to `when=`"
        )

    def __iter__(self) -> Iterator["Ref"]:
        raise TypeError(f"{self._place.expression} is known only when the workflow runs: it cannot be looped over")


def place_of(ref: Ref) -> Place:
    """Return where a reference leads."""
    return ref._place  # noqa: SLF001 - a Ref has no public names of its own, so that any field can be referred to


def _compare(ref: Ref, operator: str, other: object) -> Condition:
    here = place_of(ref)
    if isinstance(other, Ref):
        there = place_of(other)
        return Condition(f"{here.expression} {operator} {there.expression}", here.needs | there.needs)
    return Condition(f"{here.expression} {operator} {json.dumps(other)}", here.needs)


class Default:
    """A reference with a value to take when there is nothing there."""

    def __init__(self, ref: Ref, value: Any) -> None:  # noqa: ANN401 - a JSON value is any value
        self.ref = ref
        self.value = value


class Node:
    """A task in a flow being traced.

    Attributes:
        output: What it hands on; `node["field"]` is short for `node.output.field`.
        status: What became of it: `succeeded`, `skipped` or `failed`; for conditions only.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        needs = frozenset({name})
        self.output = Ref(Place(("tasks", name, "output"), f"outputs.{name}", needs))
        self.status = Ref(Place((), f"status.{name}", needs))

    def __getitem__(self, key: str | int) -> Ref:
        return self.output[key]


def pointer_text(parts: Iterable[str]) -> str:
    """Return a JSON Pointer to what is reached by these names, one after another."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def plain(value: Any, needs: dict[str, None]) -> Any:  # noqa: ANN401 - JSON with references in it
    """Return JSON for `value`, adding to `needs` the steps that it refers to."""
    if isinstance(value, Node):
        value = value.output
    if isinstance(value, Default):
        return {**plain(value.ref, needs), "default": value.value}
    if isinstance(value, Ref):
        at = place_of(value)
        if not at.pointer:
            raise ValueError(f"{at.expression} is for conditions only; it cannot be an input")
        needs.update(dict.fromkeys(sorted(at.needs)))
        return {"$from": pointer_text(at.pointer)}
    if isinstance(value, dict):
        return {key: plain(item, needs) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, needs) for item in value]
    return value
