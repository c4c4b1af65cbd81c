"""What commands are given: JSON, files, and what kind of thing a file declares."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from millrace.runtime.errors import InvalidInput

MAX_BYTES = 16 * 1024 * 1024

Kind = Literal["contract", "view", "workflow", "trigger", "schedule"]
#: In the order in which they are put in force: each may need those before it.
KINDS: Sequence[Kind] = ("contract", "view", "workflow", "trigger", "schedule")


def read_text(name: str) -> str:
    """Return what is in a file; `-` is standard input.

    Raises:
        InvalidInput: It cannot be read, is larger than 16 MiB, or is not UTF-8.
    """
    if name == "-":
        return sys.stdin.read(MAX_BYTES)
    file = Path(name)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{name} has more than {MAX_BYTES} bytes")
        return file.read_text()
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{name} is not UTF-8 text") from None


def read_json(given: str) -> Any:  # noqa: ANN401 - a JSON value
    """Return the JSON that is given: as text, or as `@FILE`.

    Raises:
        InvalidInput: It is not JSON.
    """
    text = read_text(given[1:]) if given.startswith("@") else given
    return _json(text, given if given.startswith("@") else "--data")


def read_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows in a file: CSV by its suffix, else a JSON array of objects or one object per line.

    Raises:
        InvalidInput: It holds no rows.
    """
    text = read_text(name)
    if name.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(text)))
    if text.lstrip().startswith("["):
        rows = _json(text, name)
    else:
        rows = [_json(line, f"{name}: {line[:40]}") for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise InvalidInput(f'{name}: each row is a JSON object, such as {{"origin": "EWR"}}')
    return list(rows)


def kind_of(text: str, name: str) -> Kind:
    """Return what a document declares, by what is in it.

    Args:
        text: YAML or JSON.
        name: The file, for the error.

    Raises:
        InvalidInput: It is not YAML, or nothing that can be applied.
    """
    import yaml  # noqa: PLC0415 - few commands read any

    try:
        first = next(iter(yaml.safe_load_all(text)), None)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    declared = set(first) if isinstance(first, Mapping) else set()
    if isinstance(first, Mapping) and first.get("kind") == "DataContract":
        return "contract"
    if "sql" in declared:
        return "view"
    if "tasks" in declared:
        return "workflow"
    if "workflow" in declared and declared & {"source", "join"}:
        return "trigger"
    if "workflow" in declared and declared & {"cron", "interval", "calendar"}:
        return "schedule"
    wanted = (
        "a workflow has `tasks`, a trigger `workflow` and `source` or `join`, a schedule `workflow` and `cron`, "
        "`interval` or `calendar`, a view `sql`, a contract `kind: DataContract`"
    )
    raise InvalidInput(f"{name} is nothing that can be applied: {wanted}")


def _json(text: str, what: str) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from None
