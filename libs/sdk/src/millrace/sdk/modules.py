"""Modules of users, imported by what they are called."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from millrace.runtime.errors import InvalidInput, NotFound


def modules_of(package: str) -> Iterator[ModuleType]:
    """Yield the module of a name, and those within it.

    Raises:
        NotFound: There is none.
    """
    try:
        outer = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{package}.".startswith(f"{error.name}."):
            raise NotFound(f"there is no module {error.name}: run this where Python finds it") from None
        raise
    yield outer
    for one in pkgutil.walk_packages(getattr(outer, "__path__", ()), f"{package}."):
        if not one.name.endswith(".__main__"):  # which would run it
            yield importlib.import_module(one.name)


def module_in(file: Path) -> ModuleType:
    """Return the module in a file, which finds its neighbours as a program does.

    Raises:
        InvalidInput: Its name is none of a module, or another's.
    """
    if not file.stem.isidentifier():
        raise InvalidInput(f"{file} is no module: its name has other characters than letters, digits and _")
    if (known := sys.modules.get(file.stem)) is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() != file.resolve():
            raise InvalidInput(f"{file} has the name of another module, {file.stem}: give it one of its own")
        return known
    if str(file.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(file.parent.resolve()))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{file} is no module of Python")
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]  # half of it is no module
        raise
    return module
