"""The real stack as programs need it: control twice, the data service, and two teams' workers."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from millrace.runtime.client import FixedToken
from millrace.runtime.testing import until
from millrace.sdk.client import Client
from millrace.sdk.connection import Connection
from millrace.sdk.stack.ports import free_ports
from millrace.sdk.stack.program import Program

from tests.faults.stack import Stack, running
from tests.programs.program import LEASED, TAKEN
from tests.programs.written import POOL

NAMESPACE = "programs"
SLOTS = 3
#: On a machine that has other things to do, too.
LIVE_S = READY_S = 180.0
MODULE = "tests.programs.work"
_SHARED = ("KAFKA_SERVERS", "ARTIFACTS_URL", "AUTH_JWKS", "AUTH_GRANTS", "ENDPOINTS", "TOKEN_FILE")


@asynccontextmanager
async def crew(folder: Path, services: Sequence[str] = ("control", "data"), replicas: int = 1) -> AsyncIterator[Stack]:
    """Run a stack with the queues, the pool and the workers of programs until the block ends.

    Args:
        folder: All that it keeps.
        services: Which of them; programs that are not plain need control only.
        replicas: How many processes of each.
    """
    async with running(folder, services=services, replicas=replicas, ready_s=READY_S) as stack:
        async with Client(_connection(stack), namespace=NAMESPACE) as client:
            await client.pools.apply(POOL, SLOTS)
            await client.apply_queue(TAKEN)
            await client.apply_queue(LEASED, "grpc")

            async def live() -> bool:
                return all(queue.live for queue in await client.queues())

            assert await until(live, seconds=LIVE_S), "the queues are not live"
        await asyncio.gather(_take(stack), _lease(stack))
        yield stack


def _connection(stack: Stack) -> Connection:
    return Connection({"control": _control(stack)}, FixedToken(stack.authority.token("dev")))


def _control(stack: Stack) -> str:
    return ",".join(one.target for name, one in stack.deployment.services.items() if name.startswith("control"))


async def _take(stack: Stack) -> None:
    """Have a worker that takes tasks from Kafka."""
    shared = stack.deployment.settings["control"]
    dsn = await asyncio.to_thread(stack.postgres.ensure_owned_database, f"worker_{TAKEN}")
    grpc_port, http_port = free_ports(2)
    ports = {"WORKER_GRPC_PORT": str(grpc_port), "WORKER_HTTP_PORT": str(http_port)}
    told = {f"WORKER_{name}": shared[name] for name in _SHARED} | ports
    told |= {"WORKER_POSTGRES_DSN": dsn, "MILLRACE_ENDPOINTS": shared["ENDPOINTS"]}
    await stack.add(_worker(stack, TAKEN, told), lambda: _answers(f"http://127.0.0.1:{http_port}/readyz"))


async def _lease(stack: Stack) -> None:
    """Have a worker that leases tasks from control; whether it can is seen by what it does."""
    told = {"WORKER_ARTIFACTS_URL": stack.deployment.settings["control"]["ARTIFACTS_URL"]}
    await stack.add(_worker(stack, LEASED, told, "--grpc", _control(stack)), lambda: True)


def _worker(stack: Stack, queue: str, told: Mapping[str, str], *options: str) -> Program:
    command = (str(Path(sys.executable).parent / "millrace"), "worker", "--queue", queue, "-n", NAMESPACE, *options)
    own = {"EFFECTS_URL": stack.effects.url, "MILLRACE_TOKEN": stack.authority.token("dev", seconds=86_400)}
    return Program(queue, (*command, MODULE), stack.folder / f"{queue}.log", environment={**told, **own})


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
