"""The repository has the shape that its documents promise."""

import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import millrace.contracts.rpc
import pytest
import yaml
from google.protobuf.descriptor import MethodDescriptor
from millrace.contracts import SERVICES
from millrace.contracts.rpc.options.v1 import access_pb2
from millrace.runtime.settings import ServiceSettings
from millrace.sdk.stack.jars import KAFKA_VERSION

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = sorted(
    file.parent for file in (*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml"))
)
LOCKS = sorted((*ROOT.glob("requirements/*.lock"), *(folder / "requirements.lock" for folder in DISTRIBUTIONS)))
LINE = re.compile(r"^([A-Za-z0-9][\w.\-]*)(?:\[[\w,]+\])?==(\S+)")
GRPC_PORT, HTTP_PORT = 50051, 8080


def files() -> list[Path]:
    """Everything that is or would be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def own_needs(folder: Path) -> set[Path]:
    """The folders of our own distributions that one needs, itself included."""
    by_name = {f"millrace-{other.name}": other for other in DISTRIBUTIONS}
    needs = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    return {folder}.union(*(own_needs(by_name[need]) for need in needs if need in by_name))


def locked(lock: Path) -> dict[str, str]:
    return {found[1].lower(): found[2] for line in lock.read_text().splitlines() if (found := LINE.match(line))}


def settings_of(service: str) -> dict[str, Any]:
    """The fields of a service's settings, by the name they have in the environment."""
    cls: type[ServiceSettings] = importlib.import_module(f"millrace.{service}.settings").Settings
    assert cls.model_config["env_prefix"] == f"{service.upper()}_"
    return {f"{service}_{name}".upper(): field for name, field in cls.model_fields.items()}


def image_environment(service: str) -> dict[str, str]:
    text = (ROOT / f"services/{service}/Dockerfile").read_text()
    return dict(re.findall(rf"({service.upper()}_\w+)=(\S+)", text))


def test_the_root_has_what_a_reader_looks_for() -> None:
    wanted = ["README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "CODEOWNERS", "Makefile", "docker-compose.yml"]

    assert [name for name in wanted if not (ROOT / name).is_file()] == []
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_a_distribution_is_complete(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]

    assert project["name"] == f"millrace-{folder.name}"
    assert (project["requires-python"], project["license"]) == (">=3.11", "Apache-2.0")
    wanted = ("README.md", "CHANGELOG.md", "requirements.lock", f"src/millrace/{folder.name}/py.typed")
    assert [name for name in wanted if not (folder / name).is_file()] == []
    assert not (folder / "src/millrace/__init__.py").exists(), "millrace is a namespace of many distributions"
    assert list((folder / "tests").glob("test_*.py")), "it has tests"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: f"{lock.parent.name}-{lock.stem}")
def test_a_lock_pins_every_requirement_by_hash_in_the_workspaces_version(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    blocks = re.split(r"\n(?=\S)", lock.read_text().strip())

    assert all(LINE.match(line) for line in lines), "only versions, no addresses and no files"
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block and LINE.match(block)] == []
    assert locked(lock).items() <= locked(ROOT / "requirements/dev.lock").items() or lock.stem == "uv"


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_a_lock_holds_what_its_distribution_needs(folder: Path) -> None:
    needed = {
        re.split(r"[^A-Za-z0-9._-]", need)[0].lower()
        for own in own_needs(folder)
        for need in tomllib.loads((own / "pyproject.toml").read_text())["project"]["dependencies"]
    }

    assert {n for n in needed if not n.startswith("millrace-")} <= set(locked(folder / "requirements.lock")), (
        "`make locks`"
    )


def test_only_development_installs_what_makes_processes_fail() -> None:
    failpoints = ROOT / "libs/failpoints"
    plans = {
        target: subprocess.run(
            ["make", "-n", "-B", f".venv/.{target}"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        for target in ("run", "dev")
    }

    assert [folder for folder in DISTRIBUTIONS if folder != failpoints and failpoints in own_needs(folder)] == []
    assert {target: "-e ./libs/failpoints/" in plan for target, plan in plans.items()} == {"run": False, "dev": True}


def test_no_file_that_installs_something_says_from_where() -> None:
    installs = re.compile(
        r"requirements/|requirements\.lock$|pyproject\.toml$|Dockerfile$|Makefile$|\.ci/|pip\.conf$|uv\.toml$"
    )
    address = re.compile(r"index-url|index_url|find-links|://(?!127\.0\.0\.1|/)")
    asked = [path for path in files() if installs.search(str(path.relative_to(ROOT)))]

    assert [path.relative_to(ROOT) for path in asked if address.search(path.read_text())] == []


def test_only_the_relay_turns_synchronous_commit_off() -> None:
    sources = [path for path in files() if path.suffix in {".py", ".sql"} and "src" in path.relative_to(ROOT).parts]
    say = {path.relative_to(ROOT) for path in sources if "synchronous_commit" in path.read_text()}

    assert say == {Path("libs/runtime/src/millrace/runtime/outbox.py")}


def test_no_file_is_named_for_being_a_drawer_of_everything() -> None:
    drawer = re.compile(r"(^|_)(utils?|manager|helpers?|common|misc|base)(_|$)")

    assert [path.relative_to(ROOT) for path in files() if path.suffix == ".py" and drawer.search(path.stem)] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_the_shape_of_all_services(service: str) -> None:
    package = ROOT / f"services/{service}/src/millrace/{service}"
    migrations = sorted(path.name for path in package.glob("migrations/*"))
    wiring = (package / "app.py").read_text()

    for name in ("app", "settings", "api", "handlers", "commands", "domain", "store"):
        assert (package / f"{name}.py").is_file() or (package / name / "__init__.py").is_file(), name
    assert migrations
    assert [name for name in migrations if not re.fullmatch(r"\d{4}_(pre|post)_[a-z0-9_]+\.sql", name)] == []
    assert [name[:4] for name in migrations] == [f"{at:04}" for at in range(1, len(migrations) + 1)]
    assert len(wiring.splitlines()) <= 50, "wiring fits on one screen"
    assert (ROOT / f"proto/millrace/{service}/v1/{service}.proto").is_file()


@pytest.mark.parametrize("service", SERVICES)
def test_everybody_is_told_of_a_service(service: str) -> None:
    owners = (ROOT / "CODEOWNERS").read_text()

    for folder in (f"/services/{service}/", f"/proto/millrace/{service}/", f"/infra/k8s/{service}/"):
        assert re.search(rf"^{re.escape(folder)}\s+@millrace/{service}\b", owners, re.MULTILINE), folder
    assert (ROOT / ".importlinter").read_text().count(f"millrace.{service}\n") >= 2
    assert f"{service}:{HTTP_PORT}" in (ROOT / "infra/prometheus/prometheus.yml").read_text()
    assert f" {service}" in (ROOT / "infra/postgres/databases.sh").read_text()


@pytest.mark.parametrize(
    "folder", [*(ROOT / f"services/{name}" for name in SERVICES), ROOT / "libs/sdk"], ids=lambda f: f.name
)
def test_an_image_runs_as_nobody_special_and_builds_nothing_at_start(folder: Path) -> None:
    text = (folder / "Dockerfile").read_text()
    last = text.rpartition("FROM ")[2]
    installed = {ROOT / path for path in re.findall(r"\./((?:libs|services)/\w+)", text)}

    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["python:3.11-slim"] * 2
    assert "--require-hashes -r /src/requirements.lock" in text
    assert f"COPY {folder.relative_to(ROOT)}/requirements.lock" in text
    assert installed == own_needs(folder)
    assert "--no-deps --no-build-isolation" in text
    assert re.search(r"^USER 10001$", last, re.MULTILINE)
    assert "pip" not in last
    assert "HEALTHCHECK" in last


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_its_service_with_settings_that_exist(service: str) -> None:
    text = (ROOT / f"services/{service}/Dockerfile").read_text()
    prefix, environment = service.upper(), image_environment(service)

    assert json.loads(text.rpartition("ENTRYPOINT ")[2]) == ["python", "-m", "millrace.runtime", service]
    assert set(environment) <= set(settings_of(service))
    assert (environment[f"{prefix}_GRPC_PORT"], environment[f"{prefix}_HTTP_PORT"]) == (str(GRPC_PORT), str(HTTP_PORT))
    assert f"EXPOSE {GRPC_PORT} {HTTP_PORT}" in text
    assert f"http://127.0.0.1:{HTTP_PORT}/livez" in text


@pytest.mark.parametrize("service", SERVICES)
def test_compose_runs_every_service_with_all_that_it_needs(service: str) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    entry = compose["services"][service]
    required = {name for name, field in settings_of(service).items() if field.is_required()}

    assert (entry["image"], entry["build"]["dockerfile"]) == (f"millrace-{service}", f"services/{service}/Dockerfile")
    assert set(entry["environment"]) <= set(settings_of(service))
    assert required <= set(entry["environment"]) | set(image_environment(service))
    assert {int(port.rpartition(":")[2]) for port in entry["ports"]} == {GRPC_PORT, HTTP_PORT}
    assert all(port.startswith("127.0.0.1:") for port in entry["ports"])
    endpoints = json.loads(entry["environment"][f"{service.upper()}_ENDPOINTS"])
    assert endpoints == {name: f"{name}:{GRPC_PORT}" for name in SERVICES}
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    ports = [port for one in compose["services"].values() for port in one.get("ports", [])]
    assert len(ports) == len({port.split(":")[1] for port in ports})


@pytest.mark.parametrize("service", SERVICES)
def test_the_cluster_runs_every_service_with_all_that_it_needs(service: str) -> None:
    entry = yaml.safe_load((ROOT / f"infra/k8s/{service}/kustomization.yaml").read_text())
    patch = yaml.safe_load(entry["patches"][0]["patch"])["spec"]["template"]["spec"]
    literals = dict(literal.split("=", 1) for literal in entry["configMapGenerator"][0]["literals"])
    given = set(literals) | {variable["name"] for variable in patch["containers"][0]["env"]}
    required = {name for name, field in settings_of(service).items() if field.is_required()}
    version = tomllib.loads((ROOT / f"services/{service}/pyproject.toml").read_text())["project"]["version"]

    assert entry["images"] == [{"name": "millrace", "newName": f"millrace-{service}", "newTag": version}]
    assert entry["nameSuffix"] == f"-{service}"
    assert given <= set(settings_of(service))
    assert required <= given | set(image_environment(service))
    endpoints = json.loads(literals[f"{service.upper()}_ENDPOINTS"])
    assert endpoints == {name: f"millrace-{name}:{GRPC_PORT}" for name in SERVICES}


def test_the_clusters_ports_and_probes_are_those_of_the_images() -> None:
    base = ROOT / "infra/k8s/base"
    container = yaml.safe_load((base / "stateful-set.yaml").read_text())["spec"]["template"]["spec"]["containers"][0]
    probes = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}

    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "grpc": GRPC_PORT,
        "http": HTTP_PORT,
    }
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in base.glob("*.yaml")} == {*listed, "kustomization.yaml"}


def test_every_target_of_make_has_its_line_of_help() -> None:
    text = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    helped = set(re.findall(r"^([a-z]+):[^=\n]*## \S", text, re.MULTILINE))

    assert declared
    assert set(declared[1].split()) == helped == set(re.findall(r"^([a-z]+):(?!=)", text, re.MULTILINE))


@pytest.mark.parametrize(
    "page", [p for p in files() if p.suffix == ".md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_a_page_names_only_targets_and_files_that_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text())

    assert set(re.findall(r"(?:`|^\s*\$? ?)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_gate_runs_both_commands_of_the_readme() -> None:
    commands = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)

    assert commands == ["check", "test", "demo"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def rpc_methods() -> list[MethodDescriptor]:
    """Return all methods of all protos."""
    root = millrace.contracts.rpc
    found = (one.name for one in pkgutil.walk_packages(root.__path__, f"{root.__name__}.") if one.name.endswith("_pb2"))
    services = [one for name in found for one in importlib.import_module(name).DESCRIPTOR.services_by_name.values()]
    return [method for service in services for method in service.methods]


def test_every_rpc_says_who_may_call_it_and_what_changes_can_be_repeated() -> None:
    for method in rpc_methods():
        access: Any = method.GetOptions().Extensions[access_pb2.access]  # type: ignore[index] # its stub knows no type
        # What says so is done twice as it is done once, by itself.
        repeats = method.GetOptions().idempotency_level != method.GetOptions().IDEMPOTENCY_UNKNOWN
        assert access.resource, f"{method.full_name} says nothing of access"
        assert access.action in {access_pb2.ACTION_READ, access_pb2.ACTION_EDIT, access_pb2.ACTION_MANAGE}
        assert access.action == access_pb2.ACTION_READ or repeats or "request_id" in method.input_type.fields_by_name


def test_every_list_has_a_limit() -> None:
    lists = [method for method in rpc_methods() if method.name.startswith("List")]

    assert len(lists) > 10
    for method in lists:
        fields = method.input_type.fields_by_name
        assert "limit" in fields, f"{method.full_name} answers with however many there are"


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("services/data/src/millrace/data/handlers.py", "import millrace.training.store", "Services never import"),
        ("services/data/src/millrace/data/domain.py", "import asyncpg", "Decisions do no I/O"),
        ("services/data/src/millrace/data/store.py", "import millrace.data.handlers", "imports point down"),
        ("services/data/src/millrace/data/utils.py", "", "imports point down"),
        ("services/data/src/millrace/data/work.py", "import aiokafka", "Only runtime talks to Kafka"),
    ],
)
def test_a_wrong_import_or_a_new_kind_of_file_fails_the_build(
    tmp_path: Path, file: str, line: str, broken: str
) -> None:
    sources = [folder.relative_to(ROOT) / "src" for folder in DISTRIBUTIONS]
    for source in sources:
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    with (tmp_path / file).open("a") as planted:
        planted.write(f"\n{line}\n")
    environment = os.environ | {"PYTHONPATH": ":".join(str(tmp_path / source) for source in sources)}
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]

    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True, timeout=120
    )

    verdicts = [said for said in ended.stdout.splitlines() if said.endswith(("BROKEN", "KEPT"))]
    assert ended.returncode == 1
    assert [said for said in verdicts if said.endswith("BROKEN") and broken in said], ended.stdout
