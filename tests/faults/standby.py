"""A second PostgreSQL that follows the first, commit by commit, and can take its place."""

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from millrace.sdk.stack.postgres import Postgres, binary
from millrace.sdk.stack.program import Program

from tests.faults.part import by_its_user

_WAIT_S = 30.0
_POLL_S = 0.05


class Standby(Postgres):
    """A copy of a server that listens on TCP; roles keep their passwords.

    Args:
        primary: Whom it follows; it must run.
        folder: Where its data lives.
        port: Where it listens, at the primary's address.
    """

    def __init__(self, primary: Postgres, folder: Path, port: int) -> None:
        assert primary.tcp is not None
        super().__init__(folder, folder / "log", durable=primary.durable, tcp=(primary.tcp[0], port))
        self._primary = primary

    def program(self) -> Program:
        """Return how the server is run."""
        return by_its_user(super().program())

    def follow(self) -> None:
        """Copy the primary, start, and have it wait for this server at every commit from now on."""
        self.data.parent.mkdir(parents=True)
        shutil.copy2(self._primary.data.parent / "secret", self.data.parent / "secret")
        self.start()
        self._primary.execute("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._primary.execute("postgres", "SELECT pg_reload_conf()")
        _until(self._primary, "SELECT sync_state = 'sync' FROM pg_stat_replication")

    def take_over(self) -> None:
        """Become the primary."""
        self.execute("postgres", "SELECT pg_promote()")
        _until(self, "SELECT NOT pg_is_in_recovery()")

    def _initialise(self) -> None:
        assert self._primary.tcp is not None
        host, port = self._primary.tcp
        source = f"host={host} port={port} user=postgres"
        copy = ("-D", str(self.data), "-d", source, "-R", "-c", "fast", "-X", "stream")
        command = by_its_user(replace(super().program(), command=(str(binary("pg_basebackup")), *copy))).command
        secret = {"PGPASSWORD": self._primary.password("postgres")}
        subprocess.run(command, check=True, timeout=60, cwd="/", env=os.environ | secret)


def make_read_only(server: Postgres) -> None:
    """Have a server refuse writes, and return when those under way have ended."""
    server.execute("postgres", "ALTER SYSTEM SET default_transaction_read_only = on")
    server.execute("postgres", "SELECT pg_reload_conf()")
    _until(server, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_xid IS NOT NULL")


def address_of(database: str, *servers: Postgres) -> str:
    """Return the DSN of a service's database at whichever of some servers takes writes."""
    hosts = ",".join(f"{server.tcp[0]}:{server.tcp[1]}" for server in servers if server.tcp)
    password = servers[0].password(database)
    return f"postgresql://{database}:{password}@{hosts}/{database}?target_session_attrs=read-write"


def _until(server: Postgres, condition: str) -> None:
    deadline = time.monotonic() + _WAIT_S
    while server.execute("postgres", condition).strip() != "t":
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {_WAIT_S:g} s: {condition}")
        time.sleep(_POLL_S)
