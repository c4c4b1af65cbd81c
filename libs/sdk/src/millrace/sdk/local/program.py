"""A flow as a program: `python flow.py`, with the fields that it reads as options."""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from millrace.core.ir import Workflow
from millrace.sdk.local.bodies import text_of
from millrace.sdk.local.message import as_message
from millrace.sdk.local.run import LocalRun
from millrace.sdk.rendering import plain

if TYPE_CHECKING:
    from millrace.sdk.flows import Flow

STATUS = {"succeeded": 0, "refused": 3}
"""Exit status by how a run ended, as of `millrace run watch`; 1 otherwise, 2 for a wrong command line."""
INTERRUPTED = 130
#: Fields of these names are given by `--data` only.
_OWN = frozenset({"data", "help", "json", "processes", "quiet", "workers"})
_POINTER = re.compile(r'"\$from": "/trigger/data/([^"]*)"')
_EXPRESSION = re.compile(r"\btrigger\.data((?:\.[A-Za-z_]\w*)+)(?![\w(])")
_FIELD = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def run_program(flow: "Flow", arguments: Sequence[str] | None, flows: Iterable["Flow"]) -> NoReturn:
    """Run a flow as a command line says, and leave."""
    fields = [name for name in fields_of(flow.workflow) if name not in _OWN]
    parser = _parser(flow.workflow, fields)
    given = parser.parse_args(arguments)
    try:
        data = _data(given, fields)
    except ValueError as error:
        parser.error(str(error))
    try:
        run = flow.run_local(
            data,
            flows=flows,
            skip_waits=given.skip_waits,
            workers=given.workers,
            processes=given.processes,
            quiet=given.quiet,
            check=False,
        )
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    _tell(run, as_json=given.as_json)
    sys.exit(STATUS.get(run.state, 1))


def fields_of(workflow: Workflow) -> list[str]:
    """Return the fields of `trigger.data` that a workflow refers to, such as `year` or `flights.uri`."""
    text = json.dumps(workflow.document())
    found = {pointer.replace("/", ".") for pointer in _POINTER.findall(text)}
    found |= {expression[1:] for expression in _EXPRESSION.findall(text)}
    return sorted(name for name in found if _FIELD.fullmatch(name))


def _parser(workflow: Workflow, fields: list[str]) -> argparse.ArgumentParser:
    program = Path(sys.argv[0]).name or "flow.py"
    some = " ".join(f"--{name} …" for name in fields[:2])
    parser = argparse.ArgumentParser(
        prog=f"python {program}",
        allow_abbrev=False,
        description=workflow.description or f"Run {workflow.name} in this process, without any server.",
        epilog=f"Example: python {program} {some} --skip-waits".replace("  ", " "),
    )
    group = parser.add_argument_group("what it starts with", "JSON, or text where it is no JSON")
    for name in fields:
        group.add_argument(f"--{name}", dest=f"data.{name}", metavar="VALUE", default=argparse.SUPPRESS)
    group.add_argument("--data", metavar="JSON", default="null", help="all of it: JSON, or @FILE with JSON in it")
    parser.add_argument("--skip-waits", action="store_true", help="waits take no time while nothing is worked on")
    parser.add_argument("--workers", type=_count, default=8, help="functions under way at once (default: %(default)s)")
    parser.add_argument("--processes", action="store_true", help="do functions in processes rather than threads")
    parser.add_argument("--quiet", action="store_true", help="show nothing while it goes")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the run as JSON when it has ended")
    return parser


def _data(given: argparse.Namespace, fields: list[str]) -> Any:  # noqa: ANN401 - a JSON value
    """Return what the run starts with.

    Raises:
        ValueError: It is no JSON, or an option is for a field of what is no object.
    """
    text: str = given.data
    try:
        data = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise ValueError(f"--data: {error}; write JSON, such as --data '{{\"year\": 2013}}', or @FILE") from None
    named = {name: getattr(given, f"data.{name}") for name in fields if hasattr(given, f"data.{name}")}
    for name, value in named.items():
        data = {} if data is None else data
        *path, last = name.split(".")
        place = data
        for part in path:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise ValueError(f"--{name}: what it is part of is no object in --data {text}")  # noqa: TRY004
        place[last] = _value(value)
    return data


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _value(text: str) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tell(run: LocalRun, *, as_json: bool) -> None:
    """Print the run or its output, and on stderr the error that it failed by."""
    if as_json:
        print(json.dumps(plain(as_message(run, whole=True)), indent=2))
    elif run.output is not None:
        print(json.dumps(run.output, indent=2))
    if run.error is not None and run.state != "succeeded":
        print(text_of(run.error), file=sys.stderr)
