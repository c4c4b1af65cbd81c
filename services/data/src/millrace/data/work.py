"""What takes time: fetching a file and splitting it by its contract."""

import tempfile
from functools import partial
from pathlib import Path, PurePosixPath

from millrace.data.clients.files import fetch_file
from millrace.data.clients.http import PORTS, fetch_http
from millrace.data.clients.sources import Limits, parts_of, shown
from millrace.data.commands import FileFormat, Ingest
from millrace.data.domain import Contract, checks_of
from millrace.data.engine.contract import read_contract
from millrace.data.engine.sandbox import Bounds
from millrace.data.engine.scan import Split, split
from millrace.data.handlers import Ingested, keep_version
from millrace.runtime.errors import InvalidInput, MillraceError
from millrace.runtime.subscriptions import TaskKind, task
from millrace.runtime.tasks import Job

FORMATS: dict[str, FileFormat] = {".csv": "csv", ".parquet": "parquet"}


def ingest(step: Ingest, job: Job, *, limits: Limits, bounds: Bounds) -> Ingested:
    """Return what a file holds under its contract; its rows are stored as artifacts, good and bad apart.

    Raises:
        InvalidInput: The file may not be fetched, has other bytes than expected, or lacks its contract's columns.
        NotFound: There is no such file or contract, or not yet.
        Unavailable: The file cannot be read now.
    """
    contract = _contract_in_force(step, job)
    with tempfile.TemporaryDirectory(prefix="millrace-data-") as name:
        # Resolved: the sandbox compares paths as they are.
        folder = Path(name).resolve()
        source = folder / "source"
        digest = _fetch(step, source, limits)
        job.progress(0.3, "fetched")
        parts = _split(step, contract, source, bounds)
        job.progress(0.8, f"{parts.good_rows} good rows, {parts.quarantined_rows} set aside")
        return Ingested(
            dataset=step.dataset,
            partition=step.partition,
            contract=contract.name,
            contract_hash=contract.contract_hash,
            source_uri=shown(step.uri),
            source_sha256=digest,
            good_rows=parts.good_rows,
            quarantined_rows=parts.quarantined_rows,
            good_sha256=job.artifacts.put_file(parts.good),
            quarantined_sha256=job.artifacts.put_file(parts.quarantined) if parts.quarantined else "",
            checks=checks_of(contract, parts.rows_by_reason),
            landed_at=step.landed_at,
        )


def tasks(limits: Limits, bounds: Bounds) -> tuple[TaskKind, ...]:
    """Return the rows of TASKS for what may be fetched and what a scan may cost."""
    return (task("data.ingest", Ingest, partial(ingest, limits=limits, bounds=bounds), keep_version),)


TASKS = tasks(Limits(), Bounds())
"""As they are where nothing is set: no folder and no private host may be read from."""


def _contract_in_force(step: Ingest, job: Job) -> Contract:
    with job.begin() as tx:
        document = job.wait(tx.contract(job.task.namespace, step.contract or step.dataset))
    return read_contract(document)


def _fetch(step: Ingest, source: Path, limits: Limits) -> str:
    try:
        scheme = parts_of(step.uri).scheme
        if scheme != "file" and scheme not in PORTS:
            raise InvalidInput("it is read from files and from http and https servers only")
        digest = (fetch_file if scheme == "file" else fetch_http)(step.uri, source, limits)
    except MillraceError as error:
        raise type(error)(f"{step.uri.partition('?')[0]}: {error}") from None
    if step.sha256 and step.sha256 != digest:
        raise InvalidInput(f"{shown(step.uri)} has the SHA-256 {digest}, not {step.sha256} as expected")
    return digest


def _split(step: Ingest, contract: Contract, source: Path, bounds: Bounds) -> Split:
    suffix = PurePosixPath(parts_of(step.uri).path).suffix.lower()
    file_format = step.format or FORMATS.get(suffix)
    if file_format is None:
        raise InvalidInput(f"{shown(step.uri)} is neither .csv nor .parquet: say its format")
    try:
        return split(contract, source, file_format, source.parent, bounds)
    except InvalidInput as error:
        raise InvalidInput(f"{shown(step.uri)}: {error}") from None
