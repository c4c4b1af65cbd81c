"""What each client of a load asked for and what came of it, as the client saw it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from aiokafka.errors import KafkaError
from millrace.runtime.errors import Conflict, Denied, InvalidInput, MillraceError, NotFound, Overloaded

Outcome = Literal["invoke", "ok", "fail", "unknown"]
#: Refused: it was not done.
REFUSED = (Conflict, Denied, InvalidInput, NotFound, Overloaded)
#: It may have been done or not.
OPEN = (MillraceError, KafkaError, OSError, TimeoutError)


@dataclass(frozen=True)
class Entry:
    """One line of a client's log.

    Attributes:
        op: What was asked for, such as `trigger`.
        key: Under which name: the same key again is the same request again.
        outcome: `invoke` before; then `ok`, `fail` (it was not done) or `unknown`.
        at: Unix time, seconds.
        value: What the answer said, or what went wrong.
    """

    client: str
    op: str
    key: str
    outcome: Outcome
    at: float
    value: object = None


class Op:
    """One request under way."""

    def __init__(self) -> None:
        self.outcome: Outcome = "unknown"
        self.value: object = None

    def ok(self, value: object = None) -> None:
        """It was done."""
        self.outcome, self.value = "ok", value

    def fail(self, value: object = None) -> None:
        """It was not done."""
        self.outcome, self.value = "fail", value


class History:
    """The logs of all clients of one load, in the order of time."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, client: str, op: str, key: str, outcome: Outcome, value: object = None) -> None:
        """Append a line."""
        self.entries.append(Entry(client, op, key, outcome, time.time(), value))

    @contextmanager
    def op(self, name: str, key: str, client: str = "") -> Iterator[Op]:
        """Log a request: `invoke`, and how it ended when the block does.

        An error by which the outcome stays open is logged as `unknown`, a refusal as `fail`; both end here. What else
        is raised goes on.
        """
        made = Op()
        self.add(client or name, name, key, "invoke")
        try:
            yield made
        except REFUSED as error:
            made.fail(_said(error))
        except OPEN as error:
            made.value = _said(error)
        finally:
            self.add(client or name, name, key, made.outcome, made.value)

    def of(self, op: str, outcome: Outcome = "ok") -> list[Entry]:
        """Return the lines of one operation with one outcome."""
        return [entry for entry in self.entries if entry.op == op and entry.outcome == outcome]

    def keep(self, file: Path) -> None:
        """Write it to a file, one line of JSON each."""
        file.write_text("".join(f"{json.dumps(asdict(entry), default=str)}\n" for entry in self.entries))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
