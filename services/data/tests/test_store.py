from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from millrace.data.domain import Check, Version
from millrace.data.store import Store
from millrace.runtime.errors import NotFound
from millrace.runtime.testing import store
from millrace.sdk.stack.postgres import Postgres

LANDED = datetime(2013, 2, 1, tzinfo=UTC)
CHECKS = (Check("b is missing", 2, "why"), Check("a is late", 0))


@pytest.fixture
async def tx(postgres: Postgres) -> AsyncIterator[Store]:
    async with store(postgres, "data", Store) as opened:
        yield opened


def version(number: int, partition: str = "2013-01", dataset: str = "sales") -> Version:
    return Version(
        version_id=f"{number:064x}", dataset=dataset, partition=partition, contract="sales", contract_hash="c",
        source_uri="file:///x.csv", source_sha256=f"s{number}", good_rows=7, quarantined_rows=2, good_sha256="g",
        quarantined_sha256="q", checks=CHECKS, landed_at=LANDED, published_at=LANDED + timedelta(seconds=number),
    )  # fmt: skip


async def test_a_version_reads_as_it_was_added_in_its_namespace_alone(tx: Store) -> None:
    tx.add_version("demo", version(1))

    assert await tx.version("demo", version(1).version_id) == version(1)
    assert version(1).rows_by_reason == {"b is missing": 2}
    with pytest.raises(NotFound, match=version(1).version_id):
        await tx.version("other", version(1).version_id)


async def test_artifacts_of_versions_are_referred_to_and_no_others(tx: Store) -> None:
    tx.add_version("demo", replace(version(1), good_sha256="g1", quarantined_sha256="q1"))
    tx.add_version("other", replace(version(2), good_sha256="g2", quarantined_sha256=""))

    assert await tx.referred(["g1", "q1", "g2", "g3", ""]) == {"g1", "q1", "g2", ""}
    assert await tx.referred([]) == set()


async def test_the_newest_version_of_a_partition_is_the_one_added_last(tx: Store) -> None:
    for added in (version(3), version(1), version(2, "2013-02"), version(4, "2013-10"), version(5, dataset="shops")):
        tx.add_version("demo", added)

    assert await tx.newest_of_partitions("demo", "sales", None) == [
        version(1),
        version(2, "2013-02"),
        version(4, "2013-10"),
    ]
    assert await tx.newest_of_partitions("demo", "sales", "2013-02") == [version(1), version(2, "2013-02")]
    assert await tx.newest_of_partitions("demo", "other", None) == []
    assert [v.version_id for v in await tx.newest_versions("demo", "sales", 2)] == [
        version(4).version_id,
        version(2).version_id,
    ]
    assert [v.dataset for v in await tx.newest_versions("demo", None, 10)] == [
        "shops",
        "sales",
        "sales",
        "sales",
        "sales",
    ]


async def test_versions_by_id_come_in_partition_order_and_must_all_be_there(tx: Store) -> None:
    for added in (version(1, "2013-02"), version(2)):
        tx.add_version("demo", added)
    ids = [version(1).version_id, version(2).version_id, version(1).version_id]

    assert await tx.versions("demo", "sales", ids) == [version(2), version(1, "2013-02")]
    with pytest.raises(NotFound, match="no version nothing"):
        await tx.versions("demo", "sales", [*ids, "nothing"])


async def test_a_version_is_found_by_the_bytes_that_made_it(tx: Store) -> None:
    await tx.hold_partition("demo", "sales", "2013-01")
    tx.add_version("demo", version(1))

    assert await tx.versions_of_source("demo", "sales", "2013-01", "c", "s1") == [version(1)]
    for other in (
        ("other", "sales", "2013-01", "c", "s1"),
        ("demo", "sales", "2013-02", "c", "s1"),
        ("demo", "sales", "2013-01", "d", "s1"),
        ("demo", "sales", "2013-01", "c", "s2"),
    ):
        assert await tx.versions_of_source(*other) == []


async def test_the_contract_in_force_is_the_one_put_there_last(tx: Store) -> None:
    changes = [
        await tx.put_contract_in_force("demo", "sales", contract_hash, f"document {contract_hash}")
        for contract_hash in ("a", "a", "b", "a")
    ]

    assert changes == [True, False, True, True]
    assert await tx.contract("demo", "sales") == "document a"
    with pytest.raises(NotFound, match="contract sales in namespace other"):
        await tx.contract("other", "sales")


async def test_versions_of_equal_content_in_two_partitions_are_two(tx: Store) -> None:
    tx.add_version("demo", version(1))
    tx.add_version("demo", replace(version(2, "2013-02"), source_sha256="s1"))

    assert len(await tx.newest_versions("demo", None, 10)) == 2
