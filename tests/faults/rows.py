"""The rows of the fault matrix: what they are called, how fast one must recover, and which come later."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

#: Set by the runner: all rows with their full load; else only the short set, with little.
FULL = bool(os.environ.get("MILLRACE_FAULTS_FULL"))
#: How long all rows together may take on two cores, seconds: the whole matrix, and the short set in `make test`.
WHOLE_S, SHORT_S = 3600.0, 180.0
#: Under which name a test's report carries a line of the table.
RESULT = "fault"
#: Under which name it carries what else was measured, for people.
MEASURED = "measured"
VERSIONS = "one version has been released so far"


@dataclass(frozen=True)
class Row:
    """One row of the matrix.

    Attributes:
        bound_s: Longest time from the end of the fault until everything is as before, seconds; None where the row
            states its own.
        later: Why it is not built yet.
    """

    number: int
    name: str
    bound_s: float | None = None
    later: str = ""


_ALL = (
    Row(0, "undisturbed, alone and beside a second process", 5),
    Row(1, "kill -9 at every failpoint, each in one of the 7 services", 15),
    Row(2, "kill -9 between commit and ack, and between send and mark-sent", 15),
    Row(3, "crash loop of one service", 30),
    Row(4, "SIGSTOP a lease holder / leader, then SIGCONT", 20),
    Row(5, "rolling restart of all services under load"),
    Row(6, "broker restart clean / kill -9 / all brokers", 30),
    Row(7, "broker frozen 90 s", 30),
    Row(8, "leader move, partition reassign, controller kill", 20, "what moves a partition by order is not driven yet"),
    Row(9, "rebalance storm, slow handler", 20),
    Row(10, "handler longer than max poll interval", 60),
    Row(11, "PostgreSQL restart fast / immediate; backend terminate", 15),
    Row(12, "failover: promote standby, old primary read-only", 30),
    Row(13, "PostgreSQL frozen / lock held 60 s / connections exhausted", 20),
    Row(14, "partition of data from broker, PostgreSQL, callers; one-way, flapping", 30),
    Row(15, "half-open TCP, reset mid-response, 500 ms, 1 Mbit", 20),
    Row(16, "duplicate delivery; offsets rewound to 0", 30),
    Row(17, "reorder within and across keys"),
    Row(18, "slow consumer, backlog of 100,000"),
    Row(19, "disk full: broker, PostgreSQL, artifacts, logs", 30),
    Row(20, "slow/failing disk", 20, "a disk that is slow needs a device of its own"),
    Row(21, "clock jump +1 h, -1 h, drift", 10),
    Row(22, "poison: bytes of every wrong kind", 1),
    Row(23, "handler bug for one key"),
    Row(24, "flood of held events, then replay of 100,000"),
    Row(25, "10x burst 60 s", 120),
    Row(26, "schema-incompatible producer", 1, VERSIONS),
    Row(27, "mixed versions N-1/N/N+1 of each service", None, VERSIONS),
    Row(28, "expired/rotated cert, revoked token, JWKS down", 0, "keys come from a file so far"),
    Row(29, "huge payload: RPC, event, bomb, DAG, JSON", 5),
    Row(30, "malformed protobuf, truncated frames, rapid reset, slow-loris", 5),
    Row(31, "memory pressure / OOM kill of a worker", 15),
    Row(32, "event loop blocked 30 s, CPU starved to 10%", 30),
    Row(33, "fd and task leak over 2 h soak with rows 1-32", None, "`make soak` runs without faults"),
    Row(34, "external provider 429/500/timeout-after-effect", 30, "no task calls a paid provider yet"),
    Row(35, "cancel racing completion"),
    Row(36, "topic deleted, retention passed under a lagging group", 60),
    Row(37, "restore from backup", None, "there is no backup and no reconciler yet"),
    Row(38, "total power cut, restart in random order", 60),
)
ROWS = {row.number: row for row in _ALL}


def row(number: int, *, short: bool = False) -> Callable[[Any], Any]:
    """Mark a test as a row of the matrix.

    Args:
        number: Which.
        short: Whether `make test` runs it too.
    """
    return pytest.mark.row(number, short=short)


def needs_root(reason: str = "needs root") -> None:
    """Leave a row out that cannot run here; it is shown as "not run: …", never as passed."""
    pytest.skip(reason)
