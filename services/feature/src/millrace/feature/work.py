"""What takes time: putting views online, and building training sets."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
from millrace.feature.clients.data import read_plan
from millrace.feature.commands import BuildTrainingSet, MaterialiseViews, Spine
from millrace.feature.domain import (
    AppliedView,
    Generation,
    OnlineRow,
    Plan,
    Read,
    TrainingSet,
    Version,
    check_found_by,
    feature_part_id,
    generation_id,
    latest_landing,
    read_ids,
    spine_part_id,
    spine_versions,
    training_set_id,
    versions_read,
)
from millrace.feature.engine.sandbox import Bounds, Part, Table
from millrace.feature.engine.training_set import read_part, write_part, write_training_set
from millrace.feature.engine.views import as_known, newest, spine_rows
from millrace.feature.handlers import Built, Materialised, keep_training_set, put_online
from millrace.runtime.errors import InvalidInput
from millrace.runtime.subscriptions import TaskKind, task
from millrace.runtime.tasks import Job

ONLINE_CHUNK_ROWS = 2000


def tasks(bounds: Bounds) -> tuple[TaskKind, ...]:
    """Return TASKS, with what one view's SQL may take."""
    return (
        task("feature.materialise", MaterialiseViews, partial(materialise, bounds=bounds), put_online),
        task("feature.training_set", BuildTrainingSet, partial(build_training_set, bounds=bounds), keep_training_set),
    )


def materialise(step: MaterialiseViews, job: Job, bounds: Bounds) -> Materialised:
    """Compute the newest row of every entity and store them as generations that nobody reads yet."""
    views = _views(step.views, job)
    if offline := [applied.view.name for applied in views if not applied.view.online]:
        raise InvalidInput(f"view {offline[0]} is not declared `online: true`")
    plan = _plan(views, job)
    made = []
    for place, applied in enumerate(views):
        job.progress(place / len(views), f"view {applied.view.name}")
        read = versions_read(applied.view, plan, step.up_to_partition)
        as_of = step.as_of or latest_landing(read)
        with job.begin() as tx:
            known = job.wait(tx.begin_generation(job.task.namespace, _generation(applied, read, as_of, tx.now)))
        if known.entities is None:
            rows = newest(applied.view, as_of, _tables(read, job), bounds)
            known = replace(known, entities=_store_online(known, rows, job))
        made.append(known)
    return Materialised(generations=made)


def build_training_set(step: BuildTrainingSet, job: Job, bounds: Bounds) -> Built:
    """Ask the views about every moment of the spine, partition by partition; what was asked before is known."""
    views = _views(step.views, job)
    check_found_by(step.spine, [applied.view for applied in views])
    plan = _plan(views, job, step.spine.dataset)
    asked = spine_versions(step, plan)
    partitions = []
    for place, version in enumerate(asked):
        job.progress(place / len(asked), f"partition {version.partition}")
        reads = [versions_read(applied.view, plan, version.partition) for applied in views]
        partitions.append(_partition(step.spine, version, list(zip(views, reads, strict=True)), job, bounds))
    with _scratch() as path:
        rows = write_training_set([partition.files for partition in partitions], path)
        sha256 = job.artifacts.put_file(path)
    made_id = training_set_id(step, views, [partition.ids for partition in partitions])
    version_ids = read_ids({step.spine.dataset: asked}, *(read for partition in partitions for read in partition.reads))
    return Built(training_set=TrainingSet(made_id, step.name, sha256, rows, tuple(views), version_ids))


@dataclass(frozen=True)
class _Partition:
    """One partition of a training set: the ids and files of its moments and of each view's values at them."""

    ids: list[str]
    files: list[Path]
    reads: list[Read]


def _partition(
    spine: Spine, version: Version, views: Sequence[tuple[AppliedView, Read]], job: Job, bounds: Bounds
) -> _Partition:
    """Return a partition whose parts are there, computing those that are not."""
    spine_id = spine_part_id(spine, version)
    spine_sha256 = _known_parts([spine_id], job).get(spine_id) or _add_part(
        spine_id, spine_rows(spine, _files_of([version], job), bounds), job
    )
    spine_file = job.artifacts.path_of(spine_sha256)
    ids = [feature_part_id(applied, read, spine_sha256) for applied, read in views]
    known = _known_parts(ids, job)
    moments = read_part(spine_file) if len(known) < len(set(ids)) else None
    for part_id, (applied, read) in zip(ids, views, strict=True):
        if part_id not in known:
            values = as_known(applied.view, moments, _tables(read, job), bounds)
            known[part_id] = _add_part(part_id, values, job)
    files = [job.artifacts.path_of(known[part_id]) for part_id in ids]
    return _Partition([spine_id, *ids], [spine_file, *files], [read for _, read in views])


def _known_parts(part_ids: Sequence[str], job: Job) -> dict[str, str]:
    """Return the artifacts of those parts that were computed before and are still there."""
    with job.begin() as tx:
        found: dict[str, str] = job.wait(tx.parts(job.task.namespace, part_ids))
    return {part_id: sha256 for part_id, sha256 in found.items() if job.artifacts.exists(sha256)}


def _add_part(part_id: str, rows: pa.Table, job: Job) -> str:
    """Store a part and return its artifact."""
    with _scratch() as path:
        write_part(rows, path)
        sha256 = job.artifacts.put_file(path)
    with job.begin() as tx:
        tx.add_part(job.task.namespace, part_id, sha256)
    return sha256


def _views(names: Sequence[str], job: Job) -> list[AppliedView]:
    with job.begin() as tx:
        found: list[AppliedView] = job.wait(tx.views(job.task.namespace, names))
    return found


def _plan(views: Sequence[AppliedView], job: Job, *datasets: str) -> Plan:
    sources = [source.dataset for applied in views for source in applied.view.sources]
    found: Plan = job.wait(read_plan(job.channel("data"), job.task.namespace, [*sources, *datasets]))
    return found


def _tables(read: Read, job: Job) -> dict[str, Table]:
    return {dataset: _files_of(versions, job) for dataset, versions in read.items()}


def _files_of(versions: Sequence[Version], job: Job) -> list[Part]:
    path_of = job.artifacts.path_of
    return [
        Part(path_of(v.good_sha256), path_of(v.quarantined_sha256) if v.quarantined_sha256 else None, v.landed_at)
        for v in versions
    ]


def _generation(applied: AppliedView, read: Read, as_of: datetime, now: datetime) -> Generation:
    view, made_id = applied.view, generation_id(applied, read, as_of)
    return Generation(view.name, made_id, applied.view_hash, read_ids(read), view.entity, view.features, now)


def _store_online(generation: Generation, rows: pa.Table, job: Job) -> int:
    """Store a generation's rows in short transactions and return how many there are."""
    pending = _online_rows(rows)
    while chunk := list(islice(pending, ONLINE_CHUNK_ROWS)):
        with job.begin() as tx:
            tx.add_online_rows(job.task.namespace, generation, chunk)
    with job.begin() as tx:
        tx.complete_generation(job.task.namespace, generation, rows.num_rows)
    return int(rows.num_rows)


def _online_rows(rows: pa.Table) -> Iterator[OnlineRow]:
    for batch in rows.to_batches(max_chunksize=ONLINE_CHUNK_ROWS):
        keys, *columns = (column.to_pylist() for column in batch.columns)
        for key, *values in zip(keys, *columns, strict=True):
            yield OnlineRow(tuple(key), tuple(math.nan if value is None else value for value in values))


@contextmanager
def _scratch() -> Iterator[Path]:
    """Lend a path that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="millrace-feature-") as folder:
        yield Path(folder) / "rows.parquet"


TASKS = tasks(Bounds())
"""As they are where nothing is set: the bounds of the settings' defaults."""
