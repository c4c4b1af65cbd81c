"""Everything data does."""

from datetime import datetime

from millrace.contracts.data import VersionPublished
from millrace.contracts.openlineage import ref
from millrace.contracts.tasks import Output
from millrace.data.commands import ApplyContract, GetVersion, ListVersions, ReadPlan
from millrace.data.domain import Check, Contract, Manifest, Version
from millrace.data.store import Store
from pydantic import BaseModel, ConfigDict

SHOWN_REASONS = 50
"""Most reasons in a task's output; all of them are with the version."""


class Ingested(BaseModel):
    """What an ingest found and stored, before it is a version."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    partition: str
    contract: str
    contract_hash: str
    source_uri: str
    source_sha256: str
    good_rows: int
    quarantined_rows: int
    good_sha256: str
    quarantined_sha256: str
    checks: tuple[Check, ...]
    landed_at: datetime | None


async def apply_contract(command: ApplyContract, contract: Contract, tx: Store) -> bool:
    """Put a contract in force; return whether that changed anything."""
    return await tx.put_contract_in_force(command.namespace, contract.name, contract.contract_hash, command.odcs_yaml)


async def get_version(command: GetVersion, tx: Store) -> Version:
    """Return one version."""
    return await tx.version(command.namespace, command.version_id)


async def list_versions(command: ListVersions, tx: Store) -> list[Version]:
    """Return the newest versions, newest first."""
    return await tx.newest_versions(command.namespace, command.dataset, command.limit)


async def plan_reading(command: ReadPlan, tx: Store) -> list[Version]:
    """Return the versions to read, in partition order."""
    if command.version_ids:
        return await tx.versions(command.namespace, command.dataset, command.version_ids)
    return await tx.newest_of_partitions(command.namespace, command.dataset, command.up_to_partition)


async def keep_version(ingested: Ingested, tx: Store) -> Output:
    """Publish what was ingested as its partition's newest version; bytes that made a version before made that one."""
    namespace = tx.task.namespace
    await tx.hold_partition(namespace, ingested.dataset, ingested.partition)
    known = await tx.versions_of_source(
        namespace, ingested.dataset, ingested.partition, ingested.contract_hash, ingested.source_sha256
    )
    version = known[0] if known else _publish(namespace, ingested, tx)
    tx.used(ref("file", f"sha256:{version.source_sha256}"))
    tx.made(
        ref("data.version", version.version_id),
        dataset=version.dataset,
        partition=version.partition,
        contract=version.contract,
        rows=version.good_rows,
        quarantined_rows=version.quarantined_rows,
        source_uri=version.source_uri,
    )
    return _output(version)


def _publish(namespace: str, ingested: Ingested, tx: Store) -> Version:
    fields = {name: getattr(ingested, name) for name in Ingested.model_fields}
    fields["landed_at"] = ingested.landed_at or tx.now
    manifest = Manifest(**{name: fields[name] for name in Manifest.__dataclass_fields__})
    version = Version(version_id=manifest.version_id, published_at=tx.now, **fields)
    tx.add_version(namespace, version)
    told = {name: getattr(version, name) for name in VersionPublished.model_fields if name != "namespace"}
    tx.emit(VersionPublished(namespace=namespace, **told))
    return version


def _output(version: Version) -> Output:
    reasons = sorted(version.rows_by_reason.items(), key=lambda counted: (-counted[1], counted[0]))
    return {
        "version_id": version.version_id,
        "dataset": version.dataset,
        "partition": version.partition,
        "good_rows": version.good_rows,
        "quarantined_rows": version.quarantined_rows,
        "rows_by_reason": dict(reasons[:SHOWN_REASONS]),
        "source_sha256": version.source_sha256,
    }


SUBSCRIPTIONS = ()
