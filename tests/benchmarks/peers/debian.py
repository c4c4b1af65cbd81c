"""Debian's PostgreSQL with the settings of ours, for peers that need extensions which ours lacks."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from millrace.sdk.stack.ports import LOOPBACK

from tests.benchmarks.peers.environment import NotRun, run
from tests.benchmarks.peers.running import Running

TOOL_S = 120.0
SETTINGS = (
    f"listen_addresses={LOOPBACK}",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=128MB",
    "max_wal_size=1GB",
    "jit=off",
)


def start_debian(running: Running, port: int, names: Iterable[str]) -> None:
    """Start a server for the user `postgres` on a port of the loopback address, with databases of these names.

    Raises:
        NotRun: It is not installed.
        CannotStart: It did not start.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise NotRun("it needs Debian's PostgreSQL: apt-get install postgresql")
    programs, data = found[-1].parent, running.folder / "postgres"
    data.mkdir(mode=0o700)
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(data, user, user)
    command = [str(found[-1]), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    run([*command, "--no-instructions"], TOOL_S, user=user)
    options = [option for setting in (*SETTINGS, f"port={port}") for option in ("-c", setting)]
    place = ("-h", LOOPBACK, "-p", str(port), "-U", "postgres")
    asked = [str(programs / "pg_isready"), "--quiet", *place]
    command = [str(programs / "postgres"), "-D", str(data), *options]
    running.start("database", command, lambda: subprocess.run(asked, check=False).returncode == 0, user=user)
    for name in names:
        run([str(programs / "createdb"), *place, name], TOOL_S)
