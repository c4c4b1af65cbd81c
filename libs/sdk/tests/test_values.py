"""Values over 64 KiB travel as artifacts, and whoever does work sees the values themselves."""

import asyncio
import gc
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.contracts.tasks import Carried, Resources, TaskDispatched
from millrace.core.parts import canonical_json
from millrace.core.references import ItemsElsewhere, is_reference, within
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.errors import Conflict, InvalidInput, NotFound
from millrace.runtime.tasks.attempts import MAX_OUTPUT_BYTES, check_size
from millrace.sdk import values
from millrace.sdk.flows import Flow, Node, Ref, flow, foreach, subflow, task
from millrace.sdk.testing import Environment
from millrace.sdk.values import NoArtifacts, by_reference, in_full
from millrace.sdk.worker.bodies import kinds_of

LARGE = ["x" * 1_000] * 100
ORDER = TaskDispatched(
    namespace="demo",
    queue="acme",
    task_id=UUID(int=1),
    attempt=1,
    token=UUID(int=2),
    kind="acme.rows",
    input={},
    run_id=UUID(int=3),
    workflow="w",
    name="rows",
    principal="ada",
    deadline=datetime(2026, 1, 1, tzinfo=UTC),
    resources=Resources(cpu=2, memory_bytes=1024),
)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts((tmp_path / "artifacts").as_uri())


def stored(artifacts_url: str) -> list[Path]:
    return [path for path in Path(artifacts_url.removeprefix("file://")).glob("sha256/*") if path.is_file()]


def test_the_largest_fields_go_by_reference_until_the_rest_fits(artifacts: Artifacts) -> None:
    output = {"rows": 3, "table": LARGE, "small": ["y" * 10_000]}

    given_ = by_reference("f", output, artifacts)

    assert {name for name, value in given_.items() if is_reference(value)} == {"table"}
    assert (given_["rows"], given_["small"]) == (3, ["y" * 10_000])
    assert given_["table"]["$bytes"] == len(canonical_json(LARGE))
    check_size(ORDER, given_)
    assert in_full(given_, artifacts) == output


def test_a_part_of_a_list_is_read_for_who_is_given_it_and_is_his_own(artifacts: Artifacts) -> None:
    listed = by_reference("f", {"table": [{"n": [n], "text": "x" * 100} for n in range(1_000)]}, artifacts)["table"]
    first, deep = ItemsElsewhere(listed)[0], within(ItemsElsewhere(listed)[999], ["n", "0"])

    assert listed["$items"] == 1_000
    assert in_full({"n": deep, "one": first}, artifacts) == {"n": 999, "one": {"n": [0], "text": "x" * 100}}
    in_full(first, artifacts)["n"].append("mine")
    assert in_full(first, artifacts)["n"] == [0]
    with pytest.raises(InvalidInput, match=r"leads to no value: /0/m: there is no 'm'"):
        in_full(within(first, ["m"]), artifacts)


def test_thousands_of_items_of_a_list_that_is_kept_as_an_artifact_are_gone_over() -> None:
    @task("data.list")
    def listing() -> dict[str, Any]:
        return {"months": [{"n": n, "name": f"month {n}"} for n in range(2_500)]}

    @task("data.double")
    def double(month: dict[str, Any], n: int) -> dict[str, Any]:
        return {"n": month["n"] + n}

    @flow("large.list")
    def large() -> Node:
        @foreach(listing()["months"], concurrency=100)
        def each(item: Ref) -> Ref:
            return double(month=item, n=item["n"])["n"]

        return each

    run = Environment(large).start(large)

    assert run.tasks["listing"].output["months"].keys() == {"$artifact", "$bytes", "$items"}
    assert run.state == "succeeded", run.cause
    assert run.output["items"] == [2 * n for n in range(2_500)]


def test_what_fits_travels_as_it_is_and_stores_nothing(artifacts: Artifacts) -> None:
    output = {"rows": ["x" * 50_000]}

    assert by_reference("f", output, artifacts) is output
    assert stored(artifacts.url) == []


def test_an_output_of_very_many_small_fields_goes_by_reference_as_a_whole(artifacts: Artifacts) -> None:
    output = {f"field{n}": n for n in range(10_000)}

    given_ = by_reference("f", output, artifacts)

    assert is_reference(given_)
    assert in_full(given_, artifacts) == output


def test_equal_values_are_one_artifact_and_one_reference_whatever_their_order(artifacts: Artifacts) -> None:
    one = by_reference("f", {"t": {"a": LARGE, "b": 1}}, artifacts)
    other = by_reference("f", {"t": {"b": 1, "a": LARGE}}, artifacts)

    assert one == other
    assert len(stored(artifacts.url)) == 1


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8),
        st.lists(st.text(max_size=300), max_size=3).map(lambda some: some * 60),
        max_size=5,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_handed_on_travels_in_64_kib_and_comes_back_as_it_was(
    artifacts: Artifacts, output: dict[str, Any]
) -> None:
    given_ = by_reference("f", output, artifacts)

    assert len(canonical_json(given_)) <= MAX_OUTPUT_BYTES
    assert in_full(given_, artifacts) == output


def test_aws_256_kb_what_is_too_large_is_refused_where_it_is_made(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "MAX_OUTPUT_BYTES", 90_000)

    with pytest.raises(InvalidInput, match=r"f hands on 100\d+ bytes, more than 90000: hand on where they are"):
        by_reference("f", {"table": ["x" * 1_000] * 100}, artifacts)


def test_an_input_that_refers_to_too_much_is_refused(artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    given_ = by_reference("f", {"a": LARGE, "b": [*LARGE, "y"]}, artifacts)
    monkeypatch.setattr(values, "MAX_INPUT_BYTES", 150_000)

    assert in_full({"twice": [given_["a"], given_["a"]]}, artifacts) == {"twice": [LARGE, LARGE]}
    with pytest.raises(InvalidInput, match="has more than"):
        in_full(given_, artifacts)


def test_a_field_that_would_be_taken_for_a_reference_is_refused(artifacts: Artifacts) -> None:
    with pytest.raises(InvalidInput, match=re.escape("that name is for references to artifacts")):
        by_reference("f", {"deep": [{"$artifact": "ab" * 32}]}, artifacts)
    with pytest.raises(InvalidInput, match="not the SHA-256 of an artifact"):
        in_full({"x": {"$artifact": 5}}, artifacts)


def test_a_value_that_is_damaged_or_gone_is_never_handed_to_work(artifacts: Artifacts) -> None:
    given_ = by_reference("f", {"table": LARGE}, artifacts)
    (path,) = stored(artifacts.url)
    path.chmod(0o600)
    path.write_bytes(b"[]")

    with pytest.raises(Conflict, match="damaged"):
        in_full(given_, artifacts)
    path.unlink()
    with pytest.raises(NotFound, match="does not exist"):
        in_full(given_, artifacts)


def test_what_is_planned_is_never_referred_to(artifacts: Artifacts) -> None:
    plan = {"$plan": {"tasks": {"a": {"kind": "data.a", "input": {"x": LARGE}}}}}

    assert by_reference("f", plan, artifacts) is plan


# The worker of a team.

ROWS = """
from millrace.sdk.flows import task
from millrace.sdk.work import attempt

@task("acme.rows")
def rows(n):
    return {"n": n, "table": ["x" * 1_000] * n, "memory": attempt().resources["memory_bytes"]}

@task("acme.count")
async def count(table):
    return {"n": len(table)}
"""


@dataclass
class _Job:
    """An attempt's surroundings, as far as a function of a team sees them."""

    artifacts: Artifacts
    task: TaskDispatched = ORDER
    told: list[tuple[float, str]] = field(default_factory=list)
    preempted: bool = False

    def progress(self, fraction: float, message: str = "") -> None:
        self.told.append((fraction, message))

    def carry(self, carried: Carried) -> None:
        """Nothing is left to a next attempt."""


def test_a_worker_hands_large_values_from_one_function_to_another(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_values.py").write_text(ROWS)
    monkeypatch.syspath_prepend(tmp_path)
    count, rows = kinds_of("acme_values", "acme")
    job: Any = _Job(artifacts)

    output = rows.work(rows.input.model_validate({"n": 100}), job)
    counted = asyncio.run(count.work(count.input.model_validate({"table": output["table"]}), job))

    assert is_reference(output["table"])
    assert (output["n"], output["memory"], counted) == (100, 1024, {"n": 100})
    check_size(ORDER, output)


# The same in one process.

rows = task("data.rows")(lambda n: {"table": ["x" * 1_000] * n, "n": n})
count_rows = task("data.count")(lambda table: {"n": len(table), "table": table})


def handing_on() -> Flow:
    @flow("handing.on")
    def traced(trigger: Ref) -> dict[str, Any]:
        made = rows.step("rows")(n=trigger.data.n)
        counted = count_rows.step("counts", when=made["n"] > 1)(table=made["table"])
        return {"n": counted["n"], "table": counted["table"]}

    return traced


def test_a_flow_under_test_hands_large_values_on_and_shows_them_in_full() -> None:
    env = Environment(handing_on())
    run = env.start("handing.on", {"n": 100}).finish()

    assert run.output == {"n": 100, "table": LARGE}
    assert is_reference(run.tasks["counts"].output["table"])
    assert run.output_of("counts") == {"n": 100, "table": LARGE}


def test_a_local_run_hands_large_values_on_through_a_folder_that_goes_with_it() -> None:
    run = handing_on().run_local({"n": 100}, quiet=True)
    folder = Path(run.values._store().url.removeprefix("file://"))

    assert run.output == {"n": 100, "table": LARGE}
    assert stored(folder.as_uri())
    del run
    gc.collect()  # runs and their engine refer to one another
    assert not folder.exists()


def test_a_flow_that_another_one_starts_is_given_large_values_too() -> None:
    @flow("inner")
    def inner(trigger: Ref) -> dict[str, Any]:
        return {"n": count_rows(table=trigger.data.table)["n"]}

    @flow("outer")
    def outer(trigger: Ref) -> dict[str, Any]:
        made = rows(n=trigger.data.n)
        return {"n": subflow("inner", {"table": made["table"]})["n"]}

    env = Environment(outer, inner)

    assert env.start("outer", {"n": 100}).finish().output == {"n": 100}


def test_a_worker_that_was_told_of_no_store_refuses_what_needs_one_and_says_how() -> None:
    reference = {"$artifact": "0" * 64, "$bytes": 1}

    assert by_reference("acme.small", {"n": 1}, NoArtifacts()) == {"n": 1}
    assert in_full({"n": 1}, NoArtifacts()) == {"n": 1}
    with pytest.raises(InvalidInput, match="set WORKER_ARTIFACTS_URL"):
        by_reference("acme.large", {"rows": "x" * 100_000}, NoArtifacts())
    with pytest.raises(InvalidInput, match="set WORKER_ARTIFACTS_URL"):
        in_full({"rows": reference}, NoArtifacts())
