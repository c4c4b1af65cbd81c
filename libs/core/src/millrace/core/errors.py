"""What is wrong with a document that a user wrote: a workflow, a source or a trigger."""

from dataclasses import dataclass

from pydantic import ValidationError

_UNKNOWN_FIELD = "extra_forbidden"


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
    """Return pydantic's findings in our words; `known` says which fields exist."""
    found = []
    for finding in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in finding["loc"])
        unknown = finding["type"] == _UNKNOWN_FIELD
        found.append(Problem(field, f"unknown field; known are {known}" if unknown else finding["msg"]))
    return found
