"""All SQL of data."""

from collections.abc import Sequence

import asyncpg
from millrace.data.domain import Check, Version
from millrace.runtime.errors import NotFound
from millrace.runtime.transaction import Transaction, one

ADD_CONTRACT = "INSERT INTO contract VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
PUT_IN_FORCE = """
INSERT INTO contract_in_force AS f VALUES ($1, $2, $3, $4)
ON CONFLICT (namespace, name) DO UPDATE SET contract_hash = excluded.contract_hash, since = excluded.since
WHERE f.contract_hash <> excluded.contract_hash
RETURNING true
"""
CONTRACT = """
SELECT odcs_yaml FROM contract_in_force JOIN contract USING (namespace, name, contract_hash)
WHERE namespace = $1 AND name = $2
"""
HOLD_PARTITION = "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(chr(31), $1::text, $2::text, $3::text), 0))"
ADD_VERSION = """
INSERT INTO version (namespace, version_id, dataset, partition, contract, contract_hash, source_uri, source_sha256,
    good_rows, quarantined_rows, good_sha256, quarantined_sha256, landed_at, published_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
ADD_CHECK = "INSERT INTO check_result VALUES ($1, $2, $3, $4, $5, $6)"
REFERRED = """
SELECT good_sha256 AS sha256 FROM version WHERE good_sha256 = ANY($1::text[])
UNION SELECT quarantined_sha256 FROM version WHERE quarantined_sha256 = ANY($1::text[])
"""
VERSION = """
SELECT v.*, (
    SELECT coalesce(jsonb_agg(jsonb_build_array(c.reason, c.failed_rows, c.description) ORDER BY c.place), '[]')
    FROM check_result c WHERE c.namespace = v.namespace AND c.version_id = v.version_id) AS checks
FROM version v
"""
VERSION_OF_ID = f"{VERSION} WHERE v.namespace = $1 AND v.version_id = $2"
VERSIONS_OF_SOURCE = f"""{VERSION}
WHERE v.namespace = $1 AND v.dataset = $2 AND v.partition = $3 AND v.contract_hash = $4 AND v.source_sha256 = $5
"""
NEWEST_VERSIONS = f"{VERSION} WHERE v.namespace = $1 ORDER BY v.number DESC LIMIT $2"
NEWEST_VERSIONS_OF_DATASET = f"{VERSION} WHERE v.namespace = $1 AND v.dataset = $2 ORDER BY v.number DESC LIMIT $3"
VERSIONS_OF_IDS = f"""{VERSION}
WHERE v.namespace = $1 AND v.dataset = $2 AND v.version_id = ANY($3) ORDER BY v.partition COLLATE "C", v.number
"""
NEWEST_OF_PARTITIONS = f"""{VERSION}
WHERE (v.namespace, v.version_id) IN (
    SELECT DISTINCT ON (partition) namespace, version_id FROM version
    WHERE namespace = $1 AND dataset = $2 AND ($3 = '' OR partition COLLATE "C" <= $3)
    ORDER BY partition, number DESC)
ORDER BY v.partition COLLATE "C"
"""


class Store(Transaction):
    """Contracts, versions and their checks."""

    async def put_contract_in_force(self, namespace: str, name: str, contract_hash: str, odcs_yaml: str) -> bool:
        """Put a contract in force in place of the one of that name; return whether that changed anything."""
        self.write(ADD_CONTRACT, namespace, name, contract_hash, odcs_yaml, self.now)
        return bool(await self.fetch(PUT_IN_FORCE, namespace, name, contract_hash, self.now))

    async def contract(self, namespace: str, name: str) -> str:
        """Return the document of the contract in force.

        Raises:
            NotFound: There is none of that name.
        """
        rows = await self.fetch(CONTRACT, namespace, name)
        return str(one(rows, f"contract {name} in namespace {namespace}")["odcs_yaml"])

    async def hold_partition(self, namespace: str, dataset: str, partition: str) -> None:
        """Let other transactions that add a version of the partition wait for this one."""
        await self.fetch(HOLD_PARTITION, namespace, dataset, partition)

    def add_version(self, namespace: str, version: Version) -> None:
        """Add a version and the results of its checks; it is its partition's newest."""
        v = version
        self.write(
            ADD_VERSION,
            *(namespace, v.version_id, v.dataset, v.partition, v.contract, v.contract_hash),
            *(v.source_uri, v.source_sha256, v.good_rows, v.quarantined_rows, v.good_sha256, v.quarantined_sha256),
            *(v.landed_at, v.published_at),
        )
        for place, check in enumerate(v.checks):
            self.write(ADD_CHECK, namespace, v.version_id, place, check.reason, check.description, check.failed_rows)

    async def version(self, namespace: str, version_id: str) -> Version:
        """Return a version.

        Raises:
            NotFound: There is none of that id.
        """
        return _version(one(await self.fetch(VERSION_OF_ID, namespace, version_id), f"dataset version {version_id}"))

    async def versions_of_source(
        self, namespace: str, dataset: str, partition: str, contract_hash: str, source_sha256: str
    ) -> list[Version]:
        """Return the version that a source's bytes made under a contract, if they have made one."""
        rows = await self.fetch(VERSIONS_OF_SOURCE, namespace, dataset, partition, contract_hash, source_sha256)
        return [_version(row) for row in rows]

    async def newest_versions(self, namespace: str, dataset: str | None, limit: int) -> list[Version]:
        """Return the newest versions, of one dataset or of all, newest first."""
        if dataset is None:
            rows = await self.fetch(NEWEST_VERSIONS, namespace, limit)
        else:
            rows = await self.fetch(NEWEST_VERSIONS_OF_DATASET, namespace, dataset, limit)
        return [_version(row) for row in rows]

    async def versions(self, namespace: str, dataset: str, version_ids: Sequence[str]) -> list[Version]:
        """Return versions by id, in partition order, each once.

        Raises:
            NotFound: One of them is none of the dataset's.
        """
        found = [_version(row) for row in await self.fetch(VERSIONS_OF_IDS, namespace, dataset, list(version_ids))]
        if missing := sorted(set(version_ids) - {version.version_id for version in found}):
            raise NotFound(f"dataset {dataset} has no version {missing[0]}")
        return found

    async def referred(self, digests: Sequence[str]) -> set[str]:
        """Return those of some artifacts that versions refer to."""
        return {row["sha256"] for row in await self.fetch(REFERRED, list(digests))}

    async def newest_of_partitions(self, namespace: str, dataset: str, up_to_partition: str | None) -> list[Version]:
        """Return the newest version of every partition up to one, or of all, in partition order."""
        rows = await self.fetch(NEWEST_OF_PARTITIONS, namespace, dataset, up_to_partition or "")
        return [_version(row) for row in rows]


def _version(row: asyncpg.Record) -> Version:
    fields = {name: value for name, value in row.items() if name not in {"namespace", "number", "checks"}}
    return Version(**fields, checks=tuple(Check(*check) for check in row["checks"]))
