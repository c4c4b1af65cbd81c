import hashlib
import pickle
from pathlib import Path

import pytest
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.errors import Conflict, InvalidInput, NotFound, Unavailable

CONTENT = b"rows" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ABSENT = "0" * 64


@pytest.fixture(params=["file", "memory"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    url = f"file://{tmp_path}/store" if request.param == "file" else "memory:///"
    return Artifacts(url, tmp_path / "cache")


def test_bytes_come_back_under_their_digest(artifacts: Artifacts) -> None:
    assert artifacts.put_bytes(CONTENT) == DIGEST
    assert artifacts.exists(DIGEST)
    assert artifacts.get_bytes(DIGEST) == CONTENT
    assert artifacts.path_of(DIGEST).read_bytes() == CONTENT


def test_a_file_comes_back_under_its_digest(artifacts: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "source.csv"
    source.write_bytes(CONTENT)

    assert artifacts.put_file(source) == artifacts.put_file(source) == DIGEST
    assert artifacts.get_bytes(DIGEST) == CONTENT


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", DIGEST.upper(), DIGEST + "\n", f"{DIGEST}/..", "%2e%2e/x"])
def test_a_name_that_is_no_digest_never_becomes_a_path(artifacts: Artifacts, digest: str) -> None:
    for read in (artifacts.get_bytes, artifacts.path_of, artifacts.exists):
        with pytest.raises(InvalidInput, match="64 lower-case hex digits"):
            read(digest)


def test_an_absent_artifact_is_not_found(artifacts: Artifacts) -> None:
    assert not artifacts.exists(ABSENT)
    for read in (artifacts.get_bytes, artifacts.path_of):
        with pytest.raises(NotFound, match=ABSENT):
            read(ABSENT)


def test_damaged_bytes_are_refused_and_healed_by_storing_again(tmp_path: Path) -> None:
    artifacts = Artifacts(f"file://{tmp_path}")
    place = tmp_path / "sha256" / artifacts.put_bytes(CONTENT)
    place.chmod(0o600)
    place.write_bytes(b"something else")

    for read in (artifacts.get_bytes, artifacts.path_of):
        with pytest.raises(Conflict, match=f"{DIGEST} is damaged"):
            read(DIGEST)

    artifacts.put_bytes(CONTENT)
    assert artifacts.path_of(DIGEST).read_bytes() == CONTENT


def test_a_damaged_copy_in_the_cache_is_fetched_anew(tmp_path: Path) -> None:
    artifacts = Artifacts("memory:///", tmp_path)
    artifacts.put_bytes(CONTENT)
    copy = artifacts.path_of(DIGEST)
    copy.chmod(0o600)
    copy.write_bytes(b"something else")

    assert artifacts.path_of(DIGEST).read_bytes() == CONTENT


def test_nothing_larger_than_the_bound_is_stored_or_read_into_memory(artifacts: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(CONTENT)
    small = Artifacts(artifacts.url, tmp_path / "cache", max_bytes=len(CONTENT) - 1)

    with pytest.raises(InvalidInput, match="more than 3999 bytes"):
        small.put_bytes(CONTENT)
    with pytest.raises(InvalidInput, match="more than 3999 bytes"):
        small.put_file(source)
    artifacts.put_bytes(CONTENT)
    with pytest.raises(InvalidInput, match="read it as a file"):
        artifacts.get_bytes(DIGEST, max_bytes=10)


def test_a_store_that_fails_is_unavailable_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "sha256").write_text("a file where a folder should be")
    artifacts = Artifacts(f"file://{tmp_path}")

    with pytest.raises(Unavailable, match=DIGEST):
        artifacts.put_bytes(CONTENT)
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_it_travels_to_a_child_process(tmp_path: Path) -> None:
    artifacts = Artifacts(f"file://{tmp_path}")
    artifacts.put_bytes(CONTENT)

    assert pickle.loads(pickle.dumps(artifacts)).get_bytes(DIGEST) == CONTENT  # noqa: S301 - our own bytes


def test_a_relative_file_url_is_refused() -> None:
    with pytest.raises(InvalidInput, match="three slashes"):
        Artifacts("file://artifacts")
