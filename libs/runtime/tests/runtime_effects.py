"""A store with one table, an event, and settings: what the runtime's tests have in common."""

import json
from pathlib import Path

from millrace.contracts.data import VersionPublished
from millrace.runtime.settings import ServiceSettings
from millrace.runtime.transaction import Transaction


class Effects(Transaction):
    """A store with one table: what handlers did."""

    def add(self, name: str) -> None:
        self.write("INSERT INTO effect (name) VALUES ($1)", name)

    async def names(self) -> list[str]:
        return [row["name"] for row in await self.fetch("SELECT name FROM effect ORDER BY place")]


def version(dataset: str, partition: str = "p") -> VersionPublished:
    return VersionPublished(
        namespace="demo",
        dataset=dataset,
        partition=partition,
        version_id=f"{dataset}-{partition}",
        contract="c",
        contract_hash="h",
        source_uri="file:///x",
        source_sha256="s",
        good_rows=1,
        quarantined_rows=0,
        landed_at="2013-01-01T00:00:00Z",
    )


def settings_of(dsn: str, servers: str, folder: Path, instance: int = 0) -> ServiceSettings:
    for name, content in (("jwks", {"keys": []}), ("grants", {}), ("token", "")):
        (folder / name).write_text(json.dumps(content))
    return ServiceSettings(
        postgres_dsn=dsn,
        kafka_servers=servers,
        artifacts_url=folder.as_uri(),
        auth_jwks=folder / "jwks",
        auth_grants=folder / "grants",
        token_file=folder / "token",
        instance=instance,
    )
