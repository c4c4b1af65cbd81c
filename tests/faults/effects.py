"""A small outside service: one row per task, kept; a call repeated under the same key is counted apart.

A row adds an amount to its event, so that events are counters, and whoever puts one is told what that came to.

`python -m tests.faults.effects HOST PORT FILE` runs it.
"""

import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.error import URLError
from urllib.request import Request, urlopen

from millrace.sdk.stack.program import Program

_TABLE = """
CREATE TABLE IF NOT EXISTS effect (
    receipt INTEGER PRIMARY KEY, task_id TEXT UNIQUE NOT NULL, event TEXT NOT NULL, step TEXT NOT NULL,
    calls INTEGER NOT NULL DEFAULT 1, amount INTEGER NOT NULL DEFAULT 1
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS effect_event ON effect (event, receipt, amount)"
_PUT = """
INSERT INTO effect (task_id, event, step, amount) VALUES (?, ?, ?, ?)
ON CONFLICT (task_id) DO UPDATE SET calls = calls + 1 RETURNING receipt, event
"""
# What the event had come to with that row, so that a repeated call is told the same.
_VALUE = "SELECT sum(amount) FROM effect WHERE event = ? AND receipt <= ?"
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Effect:
    """What one task did to the outside.

    Attributes:
        receipt: The row's number.
        event: What the run was started for.
        step: Which of its steps.
        calls: How often it was asked for; more than 1 where a call was repeated.
        amount: What it added to the event.
    """

    receipt: int
    task_id: str
    event: str
    step: str
    calls: int
    amount: int = 1


class EffectService:
    """The outside service as others see it.

    Args:
        folder: Where it keeps its rows.
        port: Where it answers.
        host: At which address.
    """

    def __init__(self, folder: Path, port: int, host: str = "127.0.0.1") -> None:
        self.url = f"http://{host}:{port}"
        self._folder = folder
        self._place = (host, str(port))

    def program(self) -> Program:
        """Return how it is run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = (sys.executable, "-m", "tests.faults.effects", *self._place, str(self._folder / "rows"))
        return Program("effects", command, self._folder / "log")

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urlopen(f"{self.url}/ready", timeout=_TIMEOUT_S):
                return True
        except (URLError, OSError):
            return False

    def rows(self, after: int = 0) -> list[Effect]:
        """Return what was done, from the row after this one."""
        with urlopen(f"{self.url}/effects?{after}", timeout=_TIMEOUT_S) as answer:
            return [Effect(*row) for row in json.loads(answer.read())]


def put(url: str, task_id: str, event: str, step: str) -> int:
    """Have the outside service do something for a task, once; return the row's number.

    Raises:
        OSError: It does not answer.
    """
    return _put(url, task_id, event, step, 1)["receipt"]


def add(url: str, task_id: str, counter: str, step: str, amount: int) -> int:
    """Have the outside service add to a counter for a task, once; return what the counter came to by that.

    Raises:
        OSError: It does not answer.
    """
    return _put(url, task_id, counter, step, amount)["value"]


def _put(url: str, task_id: str, event: str, step: str, amount: int) -> dict[str, int]:
    content = json.dumps({"event": event, "step": step, "amount": amount}).encode()
    with urlopen(Request(f"{url}/effects/{task_id}", content, method="PUT"), timeout=_TIMEOUT_S) as answer:
        told: dict[str, int] = json.loads(answer.read())
    return told


class _Rows:
    """The rows, in a file."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(_TABLE)
        self._database.execute(_INDEX)
        self._lock = Lock()

    def put(self, task_id: str, event: str, step: str, amount: int) -> dict[str, int]:
        with self._lock:
            with closing(self._database.execute(_PUT, (task_id, event, step, amount))) as found:
                receipt, counter = found.fetchall()[0]
            with closing(self._database.execute(_VALUE, (counter, receipt))) as found:
                return {"receipt": receipt, "value": found.fetchall()[0][0]}

    def after(self, receipt: int) -> list[tuple[object, ...]]:
        select = "SELECT receipt, task_id, event, step, calls, amount FROM effect WHERE receipt > ? ORDER BY receipt"
        with self._lock, closing(self._database.execute(select, (receipt,))) as found:
            return found.fetchall()


def serve(host: str, port: int, file: Path) -> None:
    """Answer until ended."""
    rows = _Rows(file)

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say(rows.after(int(self.path.partition("?")[2] or 0)) if "effects" in self.path else [])

        def do_PUT(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._say(rows.put(self.path.rpartition("/")[2], asked["event"], asked["step"], asked["amount"]))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _say(self, answer: object) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    ThreadingHTTPServer((host, port), Answer).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
