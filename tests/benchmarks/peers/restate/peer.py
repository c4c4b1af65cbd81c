"""Restate: one server from npm, a service in Python under Hypercorn, a client of its ingress."""

import json
from pathlib import Path
from urllib.request import Request, urlopen

from millrace.sdk.stack.ports import LOOPBACK, free_ports

from tests.benchmarks.peers.environment import Environment, NotRun
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.running import Loop, Running, listening

PROGRAM = "tests.benchmarks.peers.restate.program"
HYPERCORN = """\
bind = "{host}:{service}"
worker_class = "uvloop"
h2_max_concurrent_streams = 2147483647
keep_alive_max_requests = 2147483647
keep_alive_timeout = 2147483647
"""


def start(environment: Environment, running: Running) -> Loop:
    """Start the server and the service, make them known to each other, and start the client."""
    binaries = sorted(environment.folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server"))
    if not binaries:
        raise NotRun("its npm package has no server for this machine")
    ingress, admin, node, service = free_ports(4)
    settings = {
        "RESTATE_BASE_DIR": str(running.folder / "restate"),
        "RESTATE_INGRESS__BIND_ADDRESS": f"{LOOPBACK}:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"{LOOPBACK}:{admin}",
        "RESTATE_BIND_ADDRESS": f"{LOOPBACK}:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://{LOOPBACK}:{node}",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    running.start("server", [str(binaries[0])], lambda: healthy(admin), settings)
    config = running.folder / "hypercorn.toml"
    config.write_text(HYPERCORN.format(host=LOOPBACK, service=service))
    command = [environment.python, "-m", "hypercorn", "--config", str(config), f"{PROGRAM}:app"]
    running.start("service", command, listening(service))
    post(f"http://{LOOPBACK}:{admin}/deployments", {"uri": f"http://{LOOPBACK}:{service}"})
    return running.loop([environment.python, "-m", PROGRAM, f"http://{LOOPBACK}:{ingress}/bench/five"])


def healthy(admin: int) -> bool:
    """Whether the server says that it is well."""
    try:
        with urlopen(f"http://{LOOPBACK}:{admin}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def post(url: str, value: object) -> None:
    """Send a value as JSON.

    Raises:
        NotRun: It was refused.
    """
    request = Request(url, json.dumps(value).encode(), {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=60):
            pass
    except OSError as refused:
        raise NotRun(f"{url} refused {value}: {refused}") from None


RESTATE = Peer(
    name="restate",
    pins=Path(__file__).parent,
    package="@restatedev/restate-server",
    bar=1,
    setup="one node, a service in Python under Hypercorn as its makers advise, runs called through the ingress",
    flushes="its own log, by fsync",
    start=start,
)
