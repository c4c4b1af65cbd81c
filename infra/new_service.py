"""Makes a service of the common shape, which starts and keeps notes until it is given something better to do.

Run by `make service name=x`; what is left to do by hand is printed.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "infra/service-template"
SUFFIX = ".template"
REST = """\
Made {name}. What is left, one line each; tests/test_repo.py names what is missing:
  libs/contracts/src/millrace/contracts/__init__.py   SERVICES
  .importlinter                                       root_packages, and every contract that lists the services
  CODEOWNERS                                          services, proto, infra/k8s
  docker-compose.yml                                  the service, and its endpoint
  infra/k8s/*/kustomization.yaml                      its endpoint
  infra/postgres/databases.sh, infra/prometheus/prometheus.yml, pyproject.toml (mypy_path)
Then: make locks proto docs, and make check.
"""


def make_service(name: str, root: Path) -> list[Path]:
    """Write a service's files below a repository's root; return their paths.

    Raises:
        ValueError: The name is no lower-case word, or a service of this name is there.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]{1,30}", name):
        raise ValueError(f"{name!r} is no service's name: a lower-case word is")
    if (root / "services" / name).exists() or (root / "proto/millrace" / name).exists():
        raise ValueError(f"there is a service {name} already")
    made = []
    for template in sorted(path for path in TEMPLATE.rglob(f"*{SUFFIX}") if path.is_file()):
        target = root / _filled(str(template.relative_to(TEMPLATE)).removesuffix(SUFFIX), name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_filled(template.read_text(), name))
        made.append(target)
    # Imports stand by the alphabet, in which every name has its own place.
    order = [sys.executable, "-m", "ruff", "check", "--select", "I", "--fix", "--quiet", str(root / "services" / name)]
    subprocess.run(order, check=True)  # noqa: S603 - our own arguments
    return made


def _filled(text: str, name: str) -> str:
    return text.replace("@name@", name).replace("@Name@", name.capitalize()).replace("@NAME@", name.upper())


def main() -> None:
    """Make it here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="a lower-case word: folder, package, topic prefix, database")
    name = parser.parse_args().name
    try:
        make_service(name, ROOT)
    except ValueError as error:
        sys.exit(str(error))
    sys.stdout.write(REST.format(name=name))


if __name__ == "__main__":
    main()
