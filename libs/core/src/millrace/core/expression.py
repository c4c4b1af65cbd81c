"""Conditions in CEL, bounded so that evaluating one cannot hold up the service."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import cel

MAX_EXPRESSION_CHARS = 1_000
MAX_COMPREHENSIONS = 1  # two nested ones over a 64 KiB value are minutes of work
_COMPREHENSION = re.compile(r"\.(all|exists|exists_one)\(\s*([A-Za-z_]\w*)\s*,")
_BUILDING = re.compile(r"\.(map|filter|reduce)\(")
_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
# A text is taken whole, so that nothing is found within it.
_MEMBER = re.compile(
    rf"{_STRING.pattern}|(?<![\w.])(outputs|status|trigger|item|index|last|error)\s*"
    r"(?:\.\s*([A-Za-z_]\w*)(?!\w|\s*\()|\[\s*(?:'(\w+)'|\"(\w+)\")\s*\])"
)
_OUTPUTS = re.compile(r"\boutputs\b")
#: What a compiled program raises for its data: missing keys, wrong types, overflow, division by zero.
_EVALUATION_ERRORS = (LookupError, TypeError, RuntimeError, ValueError, ArithmeticError)


class InvalidExpression(ValueError):
    """The text is not a condition that may be used here."""


class ExpressionFailed(ValueError):
    """The condition is well formed, but has no truth value for this data."""


class LooksIntoArtifact(ExpressionFailed):
    """The condition reads a value that is kept as an artifact, which decisions do not read."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled CEL expression whose value must be true or false.

    Attributes:
        variables: The variables it reads.
        members: What it reads of its variables by a literal name, such as (`outputs`, `ingest`) or (`trigger`, `data`).
        outputs: All outputs that it reads, or None when it works out a name.
    """

    text: str
    variables: frozenset[str]
    members: frozenset[tuple[str, str]]
    outputs: frozenset[str] | None
    program: "cel.Program"

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Return whether it is true of `variables`.

        Raises:
            ExpressionFailed: It has no truth value: a missing key, a type mismatch, or not a boolean.
        """
        try:
            value = self.program.execute(dict(variables))
        except _EVALUATION_ERRORS as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else str(error).split("\n", 1)[0]
            raise ExpressionFailed(f"{self.text!r} cannot be evaluated: {reason}") from error
        if not isinstance(value, bool):
            raise ExpressionFailed(f"{self.text!r} is {type(value).__name__}, not true or false")
        return value


@lru_cache(maxsize=4096)
def compile_condition(text: str, allowed: frozenset[str]) -> Condition:
    """Return the compiled condition; `allowed` are the variables that it may read.

    Raises:
        InvalidExpression: It is too long, does not parse, reads another variable or could take too long.
    """
    if len(text) > MAX_EXPRESSION_CHARS:
        raise InvalidExpression(f"{len(text)} characters; at most {MAX_EXPRESSION_CHARS} are allowed")
    bare = _STRING.sub("''", text)
    if _BUILDING.search(bare):
        raise InvalidExpression("map, filter and reduce are not allowed; use all, exists or exists_one")
    bound = {name for _, name in _COMPREHENSION.findall(bare)}
    if len(_COMPREHENSION.findall(bare)) > MAX_COMPREHENSIONS:
        raise InvalidExpression("at most one all, exists or exists_one is allowed in an expression")
    import cel  # noqa: PLC0415 - it brings a command line of its own, which takes longer than all else of ours

    try:
        program = cel.compile(text)
    except ValueError as error:
        raise InvalidExpression(_first_complaint(error)) from error
    variables = frozenset(program.variables()) - bound
    if unknown := variables - allowed:
        known = ", ".join(sorted(allowed))
        raise InvalidExpression(f"unknown variable {', '.join(sorted(unknown))}; known are {known}")
    members = frozenset(
        (match[1], match[2] or match[3] or match[4]) for match in _MEMBER.finditer(text) if match[1] in variables
    )
    return Condition(text, variables, members, _outputs(bare, text), program)


def _outputs(bare: str, text: str) -> frozenset[str] | None:
    named = [match[2] or match[3] or match[4] for match in _MEMBER.finditer(text) if match[1] == "outputs"]
    return frozenset(named) if len(_OUTPUTS.findall(bare)) == len(named) else None


def _first_complaint(error: ValueError) -> str:
    lines = [line for line in str(error).split("\n") if "ERROR:" in line]
    return "does not parse: " + (lines[-1].split("ERROR:", 1)[1].strip() if lines else str(error).split("\n", 1)[0])
