"""What modules of Python declare: flows, with their triggers and schedules."""

import json
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from millrace.runtime.errors import InvalidInput, MillraceError
from millrace.sdk.cli.documents import Kind

if TYPE_CHECKING:
    from millrace.sdk.flows import Flow

_INSTALLED = {sysconfig.get_path(what) for what in ("stdlib", "platstdlib", "purelib", "platlib")}
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_python(name: str) -> bool:
    """Return whether what is to be applied is Python: a file of it, or the name of a module."""
    if name.endswith(".py"):
        return True
    document = name == "-" or Path(name).is_file() or Path(name).suffix in {".yaml", ".yml", ".json"}
    return not document and _NAME.fullmatch(name) is not None


def declared(name: str) -> Iterator[tuple[Kind, str]]:
    """Yield what the flows of a file, a module or a package say, as JSON.

    Raises:
        NotFound: There is no such module.
        InvalidInput: It cannot be imported, has no flow, one that is not valid, or two of one name.
    """
    from millrace.core.errors import InvalidDocument  # noqa: PLC0415 - few commands import any flow

    try:
        modules = _imported(name)
    except InvalidDocument as error:
        raise InvalidInput(str(error)) from error
    except MillraceError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{name} cannot be imported: {type(error).__name__}: {error}{_line_of(error)}") from error
    for flow in _flows(modules, name):
        yield "workflow", json.dumps(flow.workflow.document())
        yield from (("trigger", json.dumps(trigger.document())) for trigger in flow.triggers)
        yield from (("schedule", json.dumps(schedule.document())) for schedule in flow.schedules)


def _imported(name: str) -> list[ModuleType]:
    from millrace.sdk.modules import module_in, modules_of  # noqa: PLC0415 - as above

    if not name.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
        return [*modules_of(name)]
    if not Path(name).is_file():
        raise InvalidInput(f"{name} cannot be read: No such file or directory")
    return [module_in(Path(name))]


def _flows(modules: Iterable[ModuleType], name: str) -> Iterable["Flow"]:
    """Return the flows that modules have, each once, whatever it is called in them."""
    from millrace.sdk.flows import Flow  # noqa: PLC0415 - as above

    found: dict[str, Flow] = {}
    for module in modules:
        for one in vars(module).values():
            if isinstance(one, Flow) and found.setdefault(one.workflow.name, one) is not one:
                raise InvalidInput(f"{name} has two flows {one.workflow.name}: keep one")
    if not found:
        raise InvalidInput(f"{name} has no flow: write @flow(...) above a function")
    return found.values()


def _line_of(error: BaseException) -> str:
    """Return the last line of the author's own code that was being run; nothing where there is none."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        ours = frame.f_globals.get("__name__", "").startswith("millrace.")
        if file.is_absolute() and not ours and not any(file.is_relative_to(folder) for folder in _INSTALLED):
            place = f" ({file}, line {line})"
    return place
