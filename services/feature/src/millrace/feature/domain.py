"""What is read for whom, and what things made of it are called; no I/O."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.feature.commands import BuildTrainingSet, Source, Spine, View
from millrace.runtime.errors import InvalidInput, NotFound

ENGINE = 1
"""Counts up when the same declaration over the same rows begins to give other values."""


@dataclass(frozen=True)
class AppliedView:
    """A view in force.

    Attributes:
        view_hash: SHA-256 of its declaration, hex.
        generation: What of it is online; empty before it was materialised.
    """

    view: View
    view_hash: str
    generation: str = ""


@dataclass(frozen=True)
class Version:
    """A dataset version as data tells it.

    Attributes:
        good_sha256: Parquet with its good rows, as an artifact.
        quarantined_sha256: Parquet with its quarantined rows; empty when there are none.
    """

    version_id: str
    dataset: str
    partition: str
    landed_at: datetime
    good_sha256: str
    quarantined_sha256: str


Plan = Mapping[str, Sequence[Version]]
"""The newest version of every partition, by dataset."""

Read = Mapping[str, Sequence[Version]]
"""Versions that one view reads, by dataset."""


@dataclass(frozen=True)
class Generation:
    """What of a view is, or is to be, online.

    Attributes:
        generation: Hash of view, versions and moment.
        entities: Rows it has once it is complete.
        started_at: When it was last begun: what began later is the newer one.
    """

    view: str
    generation: str
    view_hash: str
    version_ids: tuple[str, ...]
    entity: tuple[str, ...]
    features: tuple[str, ...]
    started_at: datetime
    entities: int | None = None


@dataclass(frozen=True)
class OnlineRow:
    """The newest values of one entity, NaN where nothing is known.

    Attributes:
        key: The entity's values as texts, in the order of the view's columns.
    """

    key: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class TrainingSet:
    """A training set that was built.

    Attributes:
        sha256: Its Parquet, as an artifact.
        views: What contributed columns, in order.
        version_ids: All that was read for it.
    """

    training_set_id: str
    name: str
    sha256: str
    spine_rows: int
    views: tuple[AppliedView, ...]
    version_ids: tuple[str, ...]
    built_at: datetime | None = None

    @property
    def features(self) -> list[str]:
        """Return the names of its feature columns, in order."""
        return feature_names([applied.view for applied in self.views])

    @property
    def request_features(self) -> list[str]:
        """Return the features that come with a request, as no online view holds them."""
        return feature_names([applied.view for applied in self.views if not applied.view.online])


@dataclass(frozen=True)
class Found:
    """What was found of one view for one entity.

    Attributes:
        entity: Columns by which the view is found.
        features: Names of its features.
        values: In their order; None when nothing is known of the entity.
    """

    view: str
    generation: str
    entity: tuple[str, ...]
    features: tuple[str, ...]
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Online:
    """What a look-up of entities found.

    Attributes:
        features: `view.feature`, in the order of the values.
        rows: Per entity asked, in order; NaN where nothing is known.
        generations: What was read, by view.
    """

    features: list[str]
    rows: list[list[float]]
    generations: dict[str, str] = field(default_factory=dict)


def feature_names(views: Sequence[View]) -> list[str]:
    """Return the columns that views give, in order: `view.feature`."""
    return [f"{view.name}.{name}" for view in views for name in view.features]


def canonical_sha256(document: Any) -> str:  # noqa: ANN401 - JSON
    """Return the SHA-256 of a JSON document with its keys sorted and no blanks, hex."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def view_hash(view: View) -> str:
    """Return what a declaration is known by; the form of its YAML makes no difference."""
    return canonical_sha256(view.model_dump(mode="json"))


def versions_read(view: View, plan: Plan, partition: str | None) -> Read:
    """Return the versions that a view reads when values are wanted for a partition, the oldest partition first.

    Args:
        view: Who reads.
        plan: What there is.
        partition: The partition's name; the newest of each source when not given.

    Raises:
        NotFound: A source has no version yet.
        InvalidInput: A source has versions, but none up to the partition.
    """
    return {
        source.dataset: _of_source(view, source, plan.get(source.dataset, ()), partition) for source in view.sources
    }


def _of_source(view: View, source: Source, versions: Sequence[Version], partition: str | None) -> list[Version]:
    if not versions:
        raise NotFound(f"dataset {source.dataset}, which view {view.name} reads, has no version")
    ordered = sorted(versions, key=lambda version: version.partition)
    if source.partitions == "all":
        return ordered
    found = [version for version in ordered if partition is None or version.partition <= partition]
    if not found:
        raise InvalidInput(
            f"dataset {source.dataset} has no partition up to {partition}, only {ordered[0].partition} and later;"
            f" if it is not cut like that, let view {view.name} read `partitions: all` of it"
        )
    return found if source.partitions == "up_to" else found[-source.partitions :]


def spine_versions(step: BuildTrainingSet, plan: Plan) -> list[Version]:
    """Return the versions whose rows a training set asks about, the oldest partition first.

    Raises:
        NotFound: There is none, or a partition that was named does not exist.
    """
    there = {version.partition: version for version in plan.get(step.spine.dataset, ())}
    if step.partitions is not None:
        if missing := sorted(set(step.partitions) - there.keys()):
            raise NotFound(f"dataset {step.spine.dataset} has no partition {missing[0]}")
        return [there[partition] for partition in sorted(set(step.partitions))]
    found = [there[p] for p in sorted(there) if step.up_to_partition is None or p <= step.up_to_partition]
    if not found:
        raise NotFound(f"dataset {step.spine.dataset} has no partition up to {step.up_to_partition or 'now'}")
    return found if step.history is None else found[-step.history :]


def check_found_by(spine: Spine, views: Sequence[View]) -> None:
    """Check that a spine has the columns by which views are found.

    Raises:
        InvalidInput: One is missing.
    """
    there = {*spine.keys, *spine.columns}
    for view in views:
        if missing := [name for name in view.entity if name not in there]:
            raise InvalidInput(f"view {view.name} is found by {missing[0]}, which is not among the spine's keys")


def latest_landing(read: Read) -> datetime:
    """Return when the newest of some versions had landed."""
    return max(version.landed_at for versions in read.values() for version in versions)


def read_ids(*reads: Read) -> tuple[str, ...]:
    """Return the ids of all versions read, each once."""
    return tuple(sorted({version.version_id for read in reads for versions in read.values() for version in versions}))


def generation_id(applied: AppliedView, read: Read, as_of: datetime) -> str:
    """Return what an online generation is known by: equal inputs are one generation."""
    return canonical_sha256(["generation", ENGINE, applied.view_hash, _named(read), as_of.isoformat()])


def spine_part_id(spine: Spine, version: Version) -> str:
    """Return what the moments of one version are known by."""
    return canonical_sha256(["spine", ENGINE, spine.model_dump(mode="json"), _named({spine.dataset: [version]})])


def feature_part_id(applied: AppliedView, read: Read, spine_sha256: str) -> str:
    """Return what a view's values at the moments of one part are known by."""
    return canonical_sha256(["features", ENGINE, applied.view_hash, _named(read), spine_sha256])


def training_set_id(step: BuildTrainingSet, views: Sequence[AppliedView], parts: Sequence[Sequence[str]]) -> str:
    """Return what a training set is known by: equal inputs are one training set.

    Args:
        step: What was asked for.
        views: What contributes columns.
        parts: Per partition, the ids of its spine and of each view's values.
    """
    named = [[applied.view.name, applied.view_hash] for applied in views]
    spine = step.spine.model_dump(mode="json")
    return canonical_sha256(["training_set", ENGINE, step.name, spine, named, [list(ids) for ids in parts]])


def _named(read: Read) -> dict[str, list[list[str]]]:
    """Return what of the versions read makes a difference; when they landed does, as rows carry it."""
    return {
        dataset: [[version.partition, version.version_id, version.landed_at.isoformat()] for version in versions]
        for dataset, versions in read.items()
    }
