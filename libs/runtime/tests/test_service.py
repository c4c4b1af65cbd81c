"""A whole service as a process: readiness, draining, coming back, and the trace it hands on."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as pb
from millrace.contracts.rpc.lineage.v1 import lineage_pb2_grpc as rpc
from millrace.runtime.errors import MillraceError
from millrace.runtime.testing import publish, until
from millrace.runtime.testing.process import Deployment, ServiceProcess, deployed
from runtime_effects import version

SERVING = health_pb2.HealthCheckResponse.SERVING


def page(process: ServiceProcess, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"{process.http}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


async def health_of(process: ServiceProcess) -> int:
    async with grpc.aio.insecure_channel(process.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        return int(answer.status)


async def knows(deployment: Deployment, dataset: str) -> bool:
    """Return whether lineage has heard of a version of a dataset."""
    stub = rpc.LineageServiceStub(deployment.channel("lineage"))
    try:
        await stub.GetGraph(
            pb.GetGraphRequest(
                namespace="demo", node=f"data.version:{dataset}-p", direction=pb.Direction.DIRECTION_BOTH
            )
        )
    except MillraceError:
        return False
    return True


async def test_two_deployments_of_one_service_never_share_a_broker(postgres: Any, broker: Any, tmp_path: Path) -> None:
    async with deployed(("lineage",), postgres, broker.servers, tmp_path):
        with pytest.raises(AssertionError, match="another deployment runs lineage"):
            async with deployed(("control", "lineage"), postgres, broker.servers, tmp_path):
                pass


async def test_health_tells_the_truth_while_the_database_is_away_and_back(
    postgres: Any, broker: Any, tmp_path: Path
) -> None:
    async with deployed(("lineage",), postgres, broker.servers, tmp_path) as deployment:
        process = deployment.services["lineage"]
        assert page(process, "/livez")[0] == 200
        assert page(process, "/readyz")[0] == 200

        async def serving() -> bool:
            return await health_of(process) == SERVING

        await until(serving)
        assert "millrace_events_handled" in page(process, "/metrics")[1]

        await asyncio.to_thread(postgres.kill)
        try:

            async def away() -> bool:
                status, body = await asyncio.to_thread(page, process, "/readyz")
                return status == 503 and "database" in body and await health_of(process) != SERVING

            await until(away)
            assert page(process, "/livez")[0] == 200
        finally:
            await asyncio.to_thread(postgres.start)

        await until(serving)


async def test_a_service_without_its_broker_lives_and_is_not_ready(postgres: Any, broker: Any, tmp_path: Path) -> None:
    async with deployed(("lineage",), postgres, broker.servers, tmp_path) as deployment:
        process = deployment.services["lineage"]
        await publish(broker.servers, [version("before")])
        await until(lambda: knows(deployment, "before"))
        await asyncio.to_thread(broker.kill)
        try:

            async def away() -> bool:
                status, body = await asyncio.to_thread(page, process, "/readyz")
                return status == 503 and "broker" in body

            await until(away)
            assert page(process, "/livez")[0] == 200
        finally:
            await asyncio.to_thread(broker.start)

        async def back() -> bool:
            return process.is_ready()

        await until(back, seconds=60)
        await publish(broker.servers, [version("after")])
        await until(lambda: knows(deployment, "after"))


async def test_a_killed_service_reads_on_within_three_seconds_of_its_restart(
    postgres: Any, broker: Any, tmp_path: Path
) -> None:
    async with deployed(("lineage",), postgres, broker.servers, tmp_path) as deployment:
        process = deployment.services["lineage"]
        await publish(broker.servers, [version("first")])
        await until(lambda: knows(deployment, "first"))
        process.kill()
        await publish(broker.servers, [version("second")])

        await process.start()
        ready_at = time.monotonic()
        await until(lambda: knows(deployment, "second"), seconds=3)

        assert time.monotonic() - ready_at <= 3


async def test_sigterm_drains_in_time_and_what_was_read_is_kept(postgres: Any, broker: Any, tmp_path: Path) -> None:
    async with deployed(("lineage",), postgres, broker.servers, tmp_path) as deployment:
        process = deployment.services["lineage"]
        await publish(broker.servers, [version(f"drained{n}") for n in range(50)])

        began = time.monotonic()
        code = await asyncio.to_thread(process.terminate)

        assert code == 0
        assert time.monotonic() - began < 30
        await process.start()
        for n in range(50):
            await until(lambda n=n: knows(deployment, f"drained{n}"))


async def test_logs_are_json_lines_with_the_trace_and_without_payloads(
    postgres: Any, broker: Any, tmp_path: Path
) -> None:
    async with deployed(("lineage",), postgres, broker.servers, tmp_path) as deployment:
        await publish(broker.servers, [version("secretive-dataset")])
        await until(lambda: knows(deployment, "secretive-dataset"))
        process = deployment.services["lineage"]
        await asyncio.to_thread(process.terminate)

        lines = [json.loads(line) for line in process.log.read_text().splitlines()]

    assert {"service_started", "events_handled", "rpc_handled", "service_stopped"} <= {line["event"] for line in lines}
    for line in lines:
        if line["event"] == "rpc_handled":
            assert len(line["trace_id"]) == 32
        if line["event"] == "events_handled":
            assert "secretive-dataset" not in json.dumps(line)


async def test_a_service_with_a_wrong_setting_says_which_and_ends(tmp_path: Path) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "millrace.runtime", "lineage"],
        env={"LINEAGE_POSTGRES_DSN": "x", "LINEAGE_INSTANCE": "-1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 2
    assert "kafka_servers: Field required" in ended.stderr
    assert "instance: Input should be greater than or equal to 0" in ended.stderr


pytestmark = pytest.mark.usefixtures("versions_topic")
