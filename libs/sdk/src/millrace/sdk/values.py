"""Values over 64 KiB: kept as artifacts, with a reference in their place; who does work sees the values themselves."""

import json
import os
import shutil
import tempfile
import threading
import weakref
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.core.parts import canonical_json
from millrace.core.pointer import PointerMissing, parse_pointer, resolve
from millrace.core.references import ITEMS, REFERENCE, has_references, is_reference, is_within_artifact
from millrace.runtime.errors import InvalidInput

if TYPE_CHECKING:
    from millrace.runtime.artifacts import Artifacts

INLINE_BYTES = 60 * 1024
"""The most of an output that travels as it is, as JSON: with what is said of it, within 64 KiB."""
WORTH_BYTES = 1024
"""What is smaller stays in its place: a reference would not be much smaller."""
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
"""The most that a task hands on, as JSON."""
MAX_INPUT_BYTES = 256 * 1024 * 1024
"""The most that is read of what an input refers to, as JSON."""
REMEMBERED_BYTES = 8 * 1024 * 1024
"""The most of a list, as JSON, that stays in memory for who takes the next item of it."""
#: What was read last of which only a part was wanted, by its digest: its items are asked for one after the other.
_recent: dict[str, Any] = {}
_REFERENCE_BYTES = 130
_TOLD = "set WORKER_ARTIFACTS_URL to the one that the services have (their ARTIFACTS_URL)"


def by_reference(name: str, output: dict[str, Any], artifacts: "Artifacts | NoArtifacts") -> dict[str, Any]:
    """Return what work of a name hands on, as it travels: its largest fields by reference, or all of it.

    Raises:
        InvalidInput: It is too large, or has a field whose name is for references.
        Unavailable: The store of artifacts does not answer.
    """
    if _travels(output):
        return output
    if has_references(output):
        raise InvalidInput(f"{name} hands on a field {REFERENCE}: that name is for references to artifacts")
    size = len(canonical_json(output))
    if size > MAX_OUTPUT_BYTES:
        raise InvalidInput(f"{name} hands on {size} bytes, more than {MAX_OUTPUT_BYTES}: hand on where they are")
    sizes = {field: len(canonical_json(value)) for field, value in output.items()}
    given = dict(output)
    for field in sorted(sizes, key=lambda field: sizes[field], reverse=True):
        if size <= INLINE_BYTES or sizes[field] < WORTH_BYTES:
            break
        given[field] = _kept(output[field], artifacts)
        size += _REFERENCE_BYTES - sizes[field]
    return given if size <= INLINE_BYTES else _kept(output, artifacts)


def in_full(given: Any, artifacts: "Artifacts | NoArtifacts") -> Any:  # noqa: ANN401 - a JSON value
    """Return a value with what it refers to in place of each reference, verified.

    Raises:
        InvalidInput: It refers to too much, or a reference is malformed.
        NotFound: An artifact is not there any more.
        Conflict: One is damaged.
        Unavailable: The store of artifacts does not answer.
    """
    return _Reading(artifacts).in_full(given) if has_references(given) else given


def _travels(output: dict[str, Any]) -> bool:
    """Return whether an output travels as it is; what is planned does in any case, or is refused as too large."""
    if has_references(output):
        return False
    return "$plan" in output or len(canonical_json(output)) <= INLINE_BYTES


def _kept(value: Any, artifacts: "Artifacts | NoArtifacts") -> dict[str, Any]:  # noqa: ANN401 - a JSON value
    content = canonical_json(value)
    items = {ITEMS: len(value)} if isinstance(value, list) else {}
    return {REFERENCE: artifacts.put_bytes(content), "$bytes": len(content), **items}


class NoArtifacts:
    """What a worker has for a store of artifacts that was told of none: it refuses what needs one."""

    def put_bytes(self, content: bytes) -> str:
        """Raise InvalidInput."""
        raise InvalidInput(f"a value of {len(content)} bytes needs a store of artifacts: {_TOLD}")

    def get_bytes(self, digest: str, *, max_bytes: int) -> bytes:  # noqa: ARG002 - as of a store
        """Raise InvalidInput."""
        raise InvalidInput(f"the input refers to artifact {digest}, and this worker has no store of artifacts: {_TOLD}")


@cache
def artifacts_of_environment() -> "Artifacts | NoArtifacts":
    """Return the store that `WORKER_ARTIFACTS_URL` names, for a worker that has no other settings."""
    from millrace.runtime.artifacts import Artifacts  # noqa: PLC0415 - its library takes longer than a small flow

    url = os.environ.get("WORKER_ARTIFACTS_URL", "")
    return Artifacts(url) if url else NoArtifacts()


class _Reading:
    """Reads what one value refers to, each artifact once."""

    def __init__(self, artifacts: "Artifacts | NoArtifacts") -> None:
        self._artifacts = artifacts
        self._found: dict[str, bytes] = {}
        self._left = MAX_INPUT_BYTES

    def in_full(self, given: Any) -> Any:  # noqa: ANN401 - a JSON value
        if is_within_artifact(given):
            return self._part(given[REFERENCE])
        if is_reference(given):
            return json.loads(self._read(given[REFERENCE]))
        if isinstance(given, dict):
            return {key: self.in_full(value) for key, value in given.items()}
        return [self.in_full(value) for value in given] if isinstance(given, list) else given

    def _part(self, kept: dict[str, Any]) -> Any:  # noqa: ANN401 - a JSON value
        """Return a part of what is kept, such as an item of a list, which others take theirs of next."""
        try:
            of, tokens = kept["of"], parse_pointer(kept["at"])
            return deepcopy(resolve(self._whole(of), tokens))
        except (KeyError, TypeError, ValueError, PointerMissing) as error:
            raise InvalidInput(f"{REFERENCE} {kept} leads to no value: {error}") from error

    def _whole(self, of: Any) -> Any:  # noqa: ANN401 - a JSON value
        if (known := _recent.get(of)) is not None:
            return known
        content = self._read(of)
        whole = json.loads(content)
        _recent.clear()
        if len(content) <= REMEMBERED_BYTES:
            _recent[of] = whole
        return whole

    def _read(self, digest: Any) -> bytes:  # noqa: ANN401 - a JSON value
        if not isinstance(digest, str):
            raise InvalidInput(f"{REFERENCE} is {type(digest).__name__}, not the SHA-256 of an artifact")
        if digest not in self._found:
            self._found[digest] = self._artifacts.get_bytes(digest, max_bytes=self._left)
            self._left -= len(self._found[digest])
        return self._found[digest]


class LocalValues:
    """The same for runs in this process: artifacts in a temporary folder, which goes when nobody has this any more."""

    def __init__(self) -> None:
        self._artifacts: Artifacts | None = None
        self._lock = threading.Lock()

    def by_reference(self, name: str, output: dict[str, Any]) -> dict[str, Any]:
        """Return what work of a name hands on, as it travels; raises as the function does."""
        return output if _travels(output) else by_reference(name, output, self._store())

    def in_full(self, given: Any) -> Any:  # noqa: ANN401 - a JSON value
        """Return a value with what it refers to in place of each reference; raises as the function does."""
        return in_full(given, self._store()) if has_references(given) else given

    def _store(self) -> "Artifacts":
        from millrace.runtime.artifacts import Artifacts  # noqa: PLC0415 - its library takes longer than a small flow

        with self._lock:
            if self._artifacts is None:
                folder = Path(tempfile.mkdtemp(prefix="millrace-values-"))
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                self._artifacts = Artifacts(folder.as_uri())
            return self._artifacts
