"""Kafka's jars: fetched once by Maven coordinate, checked against the committed hashes at every start."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from millrace.sdk.stack.failure import CannotStart

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

KAFKA_VERSION = "4.3.1"
HASHES = Path(__file__).parent / "kafka_jars.sha256"
_FETCHES_AT_ONCE = 8
_FETCH_ATTEMPTS = 3
_TIMEOUT_S = 20


@dataclass(frozen=True)
class Jar:
    """One jar of the list: its SHA-256 and its path in a Maven repository."""

    sha256: str
    path: str

    @property
    def coordinate(self) -> tuple[str, str, str]:
        """Return its group, artifact and version."""
        group, artifact, version, _ = self.path.rsplit("/", 3)
        return group.replace("/", "."), artifact, version


def read_hashes(hashes: Path = HASHES) -> list[Jar]:
    """Return the jars of a list in the format of `sha256sum`."""
    return [Jar(*line.split("  ", 1)) for line in hashes.read_text().splitlines() if line]


def cache_folder() -> Path:
    """Return the folder of this user for what is fetched once: `MILLRACE_CACHE` or `~/.cache/millrace`."""
    return Path(os.environ.get("MILLRACE_CACHE") or Path.home() / ".cache" / "millrace")


def kafka_jars(cache: Path, tell: Callable[[str], None] = lambda _: None, hashes: Path = HASHES) -> list[Path]:
    """Return all of Kafka's jars, verified; fetch them when they are not in the cache.

    Args:
        cache: Folder that keeps them; one folder in it for each version of the list, so that no jar of another
            version is ever beside them.
        tell: Called with what is being done.
        hashes: The list they must match.

    Raises:
        CannotStart: No network, or a jar differs from the list.
    """
    jars = read_hashes(hashes)
    folder = cache / f"kafka-{KAFKA_VERSION}-{hashlib.sha256(hashes.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        tell(f"fetching Kafka {KAFKA_VERSION} ({len(jars)} jars), once")
        _fetch(jars, folder)
    for jar in jars:
        verify(folder, jar, f"delete {folder} and start again")
    return [folder / jar.path for jar in jars]


def verify(folder: Path, jar: Jar, remedy: str) -> None:
    """Return if the jar in `folder` is the one of the list.

    Raises:
        CannotStart: It is another one, or missing.
    """
    file = folder / jar.path
    if not file.exists():
        raise CannotStart(f"{file} is missing: {remedy}")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != jar.sha256:
        raise CannotStart(f"{file} is corrupt (SHA-256 {found[:12]}…, expected {jar.sha256[:12]}…): {remedy}")


def _fetch(jars: Sequence[Jar], folder: Path) -> None:
    """Fetch into a fresh folder, verify, and only then give it its name."""
    from jgo.maven import MavenContext  # noqa: PLC0415  # only the first start needs it, and it takes 0.4 s

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kafka-", dir=folder.parent) as fresh:
        context = MavenContext(repo_cache=Path(fresh, "jars"), timeout=_TIMEOUT_S)
        with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
            fetches = [pool.submit(_fetch_one, context, jar) for jar in jars]
            try:
                for fetch in fetches:
                    fetch.result()
            except (CannotStart, OSError):
                pool.shutdown(cancel_futures=True)
                raise
        for jar in jars:
            verify(context.repo_cache, jar, "the repository or the network changed it; nothing was kept, start again")
        try:
            context.repo_cache.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first
                raise


def _fetch_one(context: "MavenContext", jar: Jar) -> None:
    group, artifact, version = jar.coordinate
    for attempt in range(1, _FETCH_ATTEMPTS + 1):
        try:
            context.project(group, artifact).at_version(version).artifact().resolve()
        except (OSError, RuntimeError) as error:  # requests raises OSErrors, jgo the other for what is not there
            (context.repo_cache / jar.path).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise  # said as what it is
            if attempt == _FETCH_ATTEMPTS or not isinstance(error, OSError):
                raise CannotStart(_not_fetched(artifact, version, error)) from error
        else:
            return


def _not_fetched(artifact: str, version: str, error: Exception) -> str:
    return (
        f"{artifact} {version} could not be fetched ({type(error).__name__}): the first start needs the network. "
        f"Connect, or set MILLRACE_CACHE to a copy of {cache_folder()} from a machine that has started once"
    )


def write_hashes(hashes: Path = HASHES) -> None:
    """Resolve Kafka's jars from the repository anew and write the list; for a change of version."""
    from jgo.maven import MavenContext  # noqa: PLC0415  # as in _fetch

    with tempfile.TemporaryDirectory() as fresh:
        context = MavenContext(repo_cache=Path(fresh), timeout=_TIMEOUT_S)
        kafka = _needed(context, "org.apache.kafka", "kafka_2.13", KAFKA_VERSION)
        log4j = next(jar for jar in kafka if jar.artifactId == "log4j-core")
        binding = _needed(context, log4j.groupId, "log4j-slf4j-impl", log4j.version)[:1]
        files = [jar.resolve() for jar in kafka + binding]
        found = {file.relative_to(fresh).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    hashes.write_text("".join(f"{sha256}  {path}\n" for path, sha256 in sorted(found.items())))


def _needed(context: "MavenContext", group: str, artifact: str, version: str) -> list["Artifact"]:
    from jgo.parse import Coordinate  # noqa: PLC0415  # as in _fetch

    root = context.create_dependency(Coordinate(group, artifact, version, scope="compile"))
    inputs, others = context.resolver.resolve([root])
    return [each.artifact for each in inputs + others if each.scope in {"compile", "runtime"}]


if __name__ == "__main__":
    write_hashes()
