"""Second processes of services that come and go."""

import asyncio
import itertools
import time
from collections.abc import Sequence

from millrace.runtime.testing.process import ServiceProcess
from millrace.sdk.stack.ports import free_ports

from tests.faults.stack import MODULES, REPOSITORY, Stack

_ordinals = itertools.count(10)


def another(stack: Stack, service: str) -> ServiceProcess:
    """Return one more process of a service, which its group has never seen; it is not started yet."""
    own, ordinal = stack.deployment.services[service], next(_ordinals)
    grpc_port, http_port = free_ports(2)
    told = {"GRPC_PORT": grpc_port, "HTTP_PORT": http_port, "INSTANCE": ordinal}
    environment = {
        **own.environment,
        **stack.parts[service].environment,
        **{f"{service.upper()}_{name}": str(value) for name, value in told.items()},
        "PYTHONPATH": str(REPOSITORY),
    }
    log = stack.folder / f"{service}-{ordinal}.log"
    return ServiceProcess(
        service, environment, (grpc_port, http_port), log, module=MODULES.get(service, "millrace.runtime")
    )


async def come_and_go(stack: Stack, services: Sequence[str], seconds: float, stay_s: float) -> int:
    """Have replicas of services join in turn and die after a moment, for so long; return how many there were."""
    end = time.monotonic() + seconds
    count = 0
    for service in itertools.cycle(services):
        if time.monotonic() >= end:
            return count
        joined = another(stack, service)
        try:
            await joined.start()
            count += 1
            await asyncio.sleep(stay_s)
        finally:
            joined.kill()
    return count
