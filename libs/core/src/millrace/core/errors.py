"""What is wrong with a document that a user wrote: a workflow, a source or a trigger."""

from dataclasses import dataclass

from pydantic import ValidationError

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
