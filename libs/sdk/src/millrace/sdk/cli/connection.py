"""How a command reaches the services, and how their errors are told."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from millrace.runtime.errors import MillraceError, Unavailable
from millrace.sdk.client import NAMESPACE, Client
from millrace.sdk.connection import connection
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.state import DEFAULT_FOLDER

Folder = Annotated[
    Path, typer.Option("--state", envvar="MILLRACE_STATE", help="Folder that keeps the stack.", show_default=True)
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", envvar="MILLRACE_NAMESPACE", help="Whose things to work on.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

FOLDER = DEFAULT_FOLDER

__all__ = ["FOLDER", "NAMESPACE", "Folder", "Json", "Namespace", "asked", "fail", "one_line_errors"]

T = TypeVar("T")


def asked(folder: Path, namespace: str, ask: Callable[[Client], Awaitable[T]]) -> T:
    """Return what `ask` gives of the services of the stack of a folder."""

    async def answer() -> T:
        async with Client(connection(folder), namespace=namespace) as client:
            return await ask(client)

    return asyncio.run(answer())


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Tell an expected error in one clear line and leave with status 1."""
    try:
        yield
    except (CannotStart, MillraceError) as error:
        fail(_told(error))


def fail(message: str) -> None:
    """Say what is wrong and leave with status 1."""
    print(f"millrace: {message}", file=sys.stderr)
    sys.exit(1)


def _told(error: CannotStart | MillraceError) -> str:
    """Return the error's words, or what to do when the service did not answer."""
    if isinstance(error, Unavailable) and str(error).endswith("does not answer"):
        return f"{error}: look with `millrace status`, start it with `millrace up`"
    if isinstance(error, Unavailable) and str(error).endswith("in time"):
        return f"{error}: look with `millrace status`"
    return str(error)
