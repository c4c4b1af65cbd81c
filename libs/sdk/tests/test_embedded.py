import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest
from millrace.contracts.rpc.control.v1.control_pb2 import ListRunsRequest
from millrace.contracts.rpc.control.v1.control_pb2_grpc import ControlServiceStub
from millrace.runtime.client import FixedToken
from millrace.runtime.errors import Denied
from millrace.sdk.connection import Connection, connection
from millrace.sdk.stack.credentials import make_credentials
from millrace.sdk.stack.embedded import Embedded, told_of_a_full_disk
from millrace.sdk.stack.failure import CannotStart
from millrace.sdk.stack.state import Ports, State

MILLRACE = Path(sys.executable).with_name("millrace")


def _free_block() -> Ports:
    """Ports below those that the system hands to clients: a killed server must find its own again."""
    for first in range(20000 + os.getpid() % 200 * 40, 32000, 40):
        try:
            Ports(first).check_free()
        except CannotStart:
            continue
        return Ports(first)
    raise CannotStart("no block of ports is free")


def _becomes(true: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if true():
            return True
    return False


def _command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    wide = {**os.environ, "COLUMNS": "200", **environment}
    command = [str(MILLRACE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=wide)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """PostgreSQL, Kafka and one of the services under the supervisor."""
    stack = Embedded(tmp_path_factory.mktemp("stack"), services=("control",))
    stack.up(ports=_free_block())
    yield stack
    stack.down()


@pytest.mark.parametrize("part", ["postgres", "kafka", "control"])
def test_kill_9_of_a_part_is_followed_by_its_restart(stack: Embedded, part: str) -> None:
    killed = stack.pid(part)

    os.kill(killed, signal.SIGKILL)

    assert _becomes(lambda: stack.pid(part) not in {0, killed} and all(each.ready for each in stack.status()), 30)


def test_a_second_up_on_the_same_folder_is_refused_in_one_line(stack: Embedded) -> None:
    done = _command("up", "--state", str(stack.state.folder))

    assert done.returncode == 1
    assert f"the stack in {stack.state.folder} runs already" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_reaches_a_service_as_the_developer(stack: Embedded) -> None:
    with connection(stack.state.folder).channel("control") as channel:
        answer = ControlServiceStub(channel).ListRuns(ListRunsRequest(namespace="demo"))

    assert list(answer.runs) == []


def test_without_a_token_a_service_refuses(stack: Embedded) -> None:
    stranger = Connection(stack.state.endpoints(), FixedToken("none"))

    with stranger.channel("control") as channel, pytest.raises(Denied) as denied:
        ControlServiceStub(channel).ListRuns(ListRunsRequest(namespace="demo"))

    assert not denied.value.authenticated


def test_the_topics_of_the_catalogue_are_there(stack: Embedded) -> None:
    data = stack.state.folder / "kafka" / "data"

    assert {"triggers-0", "control.tasks.training-0", "training.tasks-0"} <= {each.name for each in data.iterdir()}


def test_status_tells_programs_what_people_see(stack: Embedded) -> None:
    shown = json.loads(_command("status", "--json", "--state", str(stack.state.folder)).stdout)
    table = _command("status", "--state", str(stack.state.folder)).stdout

    parts = {part["name"]: part for part in shown["parts"]}
    assert parts["kafka"]["ready"]
    assert parts["kafka"]["address"] == stack.kafka.servers
    assert parts["control"]["ready"]
    assert parts["training"]["state"] == "stopped"
    assert stack.kafka.servers in table


def test_logs_as_json_are_an_object_for_each_line(stack: Embedded) -> None:
    done = _command("logs", "-n", "2", "--json", "--state", str(stack.state.folder))

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["part"] for line in lines} >= {"postgres", "control"}
    assert all(line.keys() == {"part", "line"} for line in lines)


def test_logs_show_the_last_lines_of_a_part(stack: Embedded) -> None:
    done = _command("logs", "postgres", "-n", "200", "--state", str(stack.state.folder))

    assert "database system is ready to accept connections" in done.stdout


def test_data_is_there_again_after_down_and_up(stack: Embedded) -> None:
    stack.postgres.create_database("kept")

    assert stack.down()
    assert not stack.running()
    assert not stack.down()
    stack.up()

    assert "kept" in stack.postgres.execute("postgres", "SELECT datname FROM pg_database").splitlines()


def test_up_ends_what_a_killed_supervisor_left_behind(stack: Embedded) -> None:
    left = {part.pid for part in stack.status()}
    os.kill(int((stack.state.run / "supervisor.pid").read_text()), signal.SIGKILL)
    assert _becomes(lambda: not stack.running(), 10)

    stack.up()

    assert all(part.ready for part in stack.status())
    assert not left & {part.pid for part in stack.status()}


def test_a_busy_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    ports = _free_block()
    with socket.create_server(("127.0.0.1", ports.grpc("training"))):
        done = _command("up", "--state", str(tmp_path), "--port", str(ports.first))

    assert done.returncode == 1
    assert f"port {ports.grpc('training')} (training, gRPC) is in use by another program" in done.stderr
    assert f"--port {ports.first + 1000}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_service_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    first = str(_free_block().first)

    done = _command("up", "--state", str(tmp_path), "--port", first, CONTROL_POOL_SIZE="0")

    assert done.returncode == 1
    said, *end_of_log = done.stderr.splitlines()
    assert f"control ended while starting; {tmp_path}/logs/control.log ends with" in said
    assert end_of_log
    assert not Embedded(tmp_path).running()


def test_a_first_start_without_a_network_says_so_in_one_line(tmp_path: Path) -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "MILLRACE_CACHE": str(tmp_path / "cache")}

    done = _command("up", "--state", str(tmp_path / "state"), "--port", str(_free_block().first), **nowhere)

    assert done.returncode == 1
    assert "the first start needs the network" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "cache").iterdir())


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"is full .* free some"), told_of_a_full_disk(tmp_path):
        Path("/dev/full").write_text("x")


def test_without_a_stack_every_command_says_how_to_start_one(tmp_path: Path) -> None:
    down, status = _command("down", "--state", str(tmp_path)), _command("status", "--state", str(tmp_path))

    assert f"nothing runs in {tmp_path}" in down.stdout
    assert (down.returncode, status.returncode) == (0, 1)
    assert "stopped" in status.stdout


def test_secrets_are_readable_by_their_owner_only_and_tokens_check_out(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.make()

    make_credentials(state)
    key = state.secrets.joinpath("key.pem").read_bytes()
    make_credentials(state)

    assert state.secrets.joinpath("key.pem").read_bytes() == key
    assert {stat.S_IMODE(file.stat().st_mode) for file in state.secrets.iterdir()} == {0o600}
    public = jwt.PyJWK(json.loads(state.jwks.read_text())["keys"][0])
    token = state.token("training").read_text()
    claims = jwt.decode(token, public, algorithms=["EdDSA"], audience="millrace", issuer="millrace")
    assert claims["sub"] == "service:training"
    assert json.loads(state.grants.read_text())["developer"] == {"*": "MANAGE"}
