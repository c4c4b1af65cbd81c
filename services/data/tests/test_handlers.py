from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from millrace.contracts.data import VersionPublished
from millrace.contracts.tasks import TaskDispatched
from millrace.data.commands import ApplyContract, Ingest, ReadPlan
from millrace.data.domain import Check
from millrace.data.engine.contract import read_contract
from millrace.data.handlers import SHOWN_REASONS, Ingested, apply_contract, keep_version, plan_reading
from millrace.data.store import Store
from millrace.runtime.errors import InvalidInput
from millrace.runtime.testing import store
from millrace.sdk.stack.postgres import Postgres
from pydantic import ValidationError

DIGEST = "d" * 64
TASK = TaskDispatched(
    namespace="demo", queue="data", task_id=UUID(int=1), attempt=1, token=UUID(int=2), kind="data.ingest", input={},
    run_id=UUID(int=3), workflow="w", name="ingest", principal="ann", deadline=datetime(2030, 1, 1, tzinfo=UTC),
)  # fmt: skip
INGESTED = Ingested(
    dataset="sales", partition="2013-01", contract="sales", contract_hash="c", source_uri="file:///x.csv",
    source_sha256=DIGEST, good_rows=7, quarantined_rows=2, good_sha256="a" * 64, quarantined_sha256="b" * 64,
    checks=(Check("b is missing", 2), Check("a is late", 0)), landed_at=None,
)  # fmt: skip


@pytest.fixture
async def tx(postgres: Postgres) -> AsyncIterator[Store]:
    async with store(postgres, "data", Store, task=TASK) as opened:
        yield opened


def with_(**changes: object) -> Ingested:
    return INGESTED.model_copy(update=changes)


async def test_an_ingest_publishes_one_version_and_says_what_it_used_and_made(tx: Store) -> None:
    output = await keep_version(INGESTED, tx)

    assert output == {
        "version_id": output["version_id"],
        "dataset": "sales",
        "partition": "2013-01",
        "good_rows": 7,
        "quarantined_rows": 2,
        "rows_by_reason": {"b is missing": 2},
        "source_sha256": DIGEST,
    }
    [event] = tx.emitted
    assert isinstance(event, VersionPublished)
    assert (event.version_id, event.landed_at) == (output["version_id"], tx.now)
    assert tx.used_refs == [f"file:sha256:{DIGEST}"]
    assert list(tx.made_refs) == [f"data.version:{output['version_id']}"]


async def test_the_same_bytes_again_are_the_same_version_and_nothing_is_published(tx: Store) -> None:
    first = await keep_version(INGESTED, tx)

    again = await keep_version(with_(landed_at=tx.now + timedelta(days=1), good_sha256="e" * 64), tx)

    assert again == first
    assert len(tx.emitted) == 1


async def test_other_bytes_or_another_contract_make_a_version_that_supersedes(tx: Store) -> None:
    first = await keep_version(INGESTED, tx)
    second = await keep_version(with_(source_sha256="e" * 64), tx)
    third = await keep_version(with_(contract_hash="other"), tx)
    await keep_version(INGESTED, tx)

    plan = await plan_reading(ReadPlan(namespace="demo", dataset="sales"), tx)

    assert len({first["version_id"], second["version_id"], third["version_id"]}) == 3
    assert [version.version_id for version in plan] == [third["version_id"]]
    assert len(tx.emitted) == 3


async def test_when_the_bytes_came_to_be_known_is_kept(tx: Store) -> None:
    landed_at = datetime(2013, 2, 1, tzinfo=UTC)

    await keep_version(with_(landed_at=landed_at), tx)

    [version] = await plan_reading(ReadPlan(namespace="demo", dataset="sales"), tx)
    assert (version.landed_at, version.published_at) == (landed_at, tx.now)


async def test_an_output_names_the_commonest_reasons_only(tx: Store) -> None:
    many = tuple(Check(f"reason {n}", n) for n in range(1000))

    output = await keep_version(with_(checks=many), tx)

    assert list(output["rows_by_reason"])[:2] == ["reason 999", "reason 998"]
    assert len(output["rows_by_reason"]) == SHOWN_REASONS


async def test_a_contract_applied_again_changes_nothing(tx: Store) -> None:
    text = """{apiVersion: v3.1.0, kind: DataContract, id: t, name: t, version: "1", status: active,
        schema: [{name: t, properties: [{name: a, logicalType: integer}]}]}"""
    command = ApplyContract(namespace="demo", odcs_yaml=text)

    changes = [await apply_contract(command, read_contract(text), tx) for _ in range(2)]

    assert changes == [True, False]
    assert await tx.contract("demo", "t") == text


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": "No Name"},
        {"partition": "../x"},
        {"uri": ""},
        {"sha256": "abc"},
        {"landed_at": "2013-01-01T00:00:00"},
        {"format": "xlsx"},
        {"unknown": 1},
    ],
)
def test_an_ingest_with_a_field_out_of_bounds_is_not_accepted(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Ingest.model_validate({"dataset": "sales", "partition": "2013-01", "uri": "file:///x.csv"} | wrong)


def test_a_command_names_the_field_that_is_wrong() -> None:
    with pytest.raises(InvalidInput, match="version_ids"):
        ReadPlan(namespace="demo", dataset="sales", version_ids=("short",))
