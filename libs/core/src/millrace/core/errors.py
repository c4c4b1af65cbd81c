"""What is wrong with a document that a user wrote: a workflow, a source or a trigger."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_UNKNOWN_FIELD = "extra_forbidden"
_POINTER = "Pointer"
#: What would be right, by the finding's type.
_WANTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "an object"),
    "string_type": "a text",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidDocument(ValueError):
    """The document cannot be used as it stands; `problems` names each field and what would be right."""

    def __init__(self, what: str, problems: list[Problem]) -> None:
        self.what = what
        self.problems = problems
        super().__init__(f"{what} is not valid: " + "; ".join(str(problem) for problem in problems))


def problems_of(error: ValidationError, known: str) -> list[Problem]:
    """Return pydantic's findings in our words, what a field must be in one; `known` says which fields exist."""
    findings = error.errors(include_url=False, include_context=False, include_input=False)
    # What may be a pointer, too, has a finding for either form, and the form's name at the end of its place.
    either = {finding["loc"][: finding["loc"].index(_POINTER)] for finding in findings if _POINTER in finding["loc"]}
    findings = [one for place in either for one in _meant(place, findings)] + [
        one for one in findings if not any(one["loc"][: len(place)] == place for place in either)
    ]
    found: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        place = finding["loc"]
        wanted = "`{$from: …}`" if place[-1:] == (_POINTER,) else _WANTED.get(finding["type"])
        place = place[:-1] if place[:-1] in either else tuple(part for part in place if part != _POINTER)
        field = ".".join(map(str, place))
        if wanted is not None:
            found.setdefault((field, "must be "), []).append(wanted)
        elif finding["type"] == _UNKNOWN_FIELD:
            found[field, f"unknown field; known are {known}"] = []
        else:
            found[field, finding["msg"].removeprefix("Value error, ")] = []
    return [Problem(field, said + " or ".join(wanted)) for (field, said), wanted in found.items()]


def _meant(place: tuple[int | str, ...], findings: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return the findings of what may be a pointer that are about the form that was meant."""
    here = [one for one in findings if one["loc"][: len(place)] == place]
    pointer = [one for one in here if _POINTER in one["loc"]]
    value = [one for one in here if _POINTER not in one["loc"]]
    if any(one["loc"][-1] != _POINTER for one in pointer):
        return pointer  # an object: something is wrong within it
    return value if any(one["type"] not in _WANTED for one in value) else [*value, *pointer]
