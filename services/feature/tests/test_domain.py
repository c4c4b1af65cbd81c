from dataclasses import replace
from datetime import UTC, datetime

import pytest
from millrace.feature.commands import BuildTrainingSet, MaterialiseViews, Source, Spine, View, parse_views
from millrace.feature.domain import (
    AppliedView,
    Version,
    check_found_by,
    feature_part_id,
    generation_id,
    spine_versions,
    training_set_id,
    versions_read,
    view_hash,
)
from millrace.runtime.errors import InvalidInput, NotFound
from pydantic import ValidationError

LANDED = datetime(2026, 5, 1, tzinfo=UTC)
VIEW = View(name="queue", entity=("shop",), sources=(Source(dataset="visits"),), sql="SELECT 1", features=("wait",))
SPINE = Spine(dataset="visits", keys=("shop",), time="t", label="y")


def version(partition: str, dataset: str = "visits") -> Version:
    return Version(f"{dataset}-{partition}", dataset, partition, LANDED, "a" * 64, "")


PLAN = {"visits": [version("2026-03"), version("2026-01"), version("2026-02")], "sites": [version("all", "sites")]}


def partitions(source: Source, up_to: str | None) -> list[str]:
    view = VIEW.model_copy(update={"sources": (source,)})
    return [found.partition for found in versions_read(view, PLAN, up_to)[source.dataset]]


def test_a_view_reads_as_far_as_the_partition_that_values_are_wanted_for() -> None:
    assert partitions(Source(dataset="visits"), "2026-02") == ["2026-01", "2026-02"]
    assert partitions(Source(dataset="visits"), None) == ["2026-01", "2026-02", "2026-03"]
    assert partitions(Source(dataset="visits", partitions=1), "2026-02") == ["2026-02"]
    assert partitions(Source(dataset="visits", partitions=2), "2026-01") == ["2026-01"]
    assert partitions(Source(dataset="visits", partitions="all"), "2026-01") == ["2026-01", "2026-02", "2026-03"]
    assert partitions(Source(dataset="sites", partitions="all"), "2026-01") == ["all"]


def test_a_source_that_is_cut_otherwise_is_never_silently_empty() -> None:
    with pytest.raises(InvalidInput, match="sites has no partition up to 2026-01, only all and later"):
        partitions(Source(dataset="sites"), "2026-01")
    with pytest.raises(NotFound, match="prices, which view queue reads, has no version"):
        partitions(Source(dataset="prices"), None)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["2026-01", "2026-02", "2026-03"]),
        ({"up_to_partition": "2026-02"}, ["2026-01", "2026-02"]),
        ({"up_to_partition": "2026-03", "history": 2}, ["2026-02", "2026-03"]),
        ({"partitions": ["2026-03", "2026-01"]}, ["2026-01", "2026-03"]),
    ],
)
def test_a_spine_has_the_partitions_asked_for(asked: dict[str, object], found: list[str]) -> None:
    step = BuildTrainingSet(name="n", spine=SPINE, views=["queue"], **asked)

    assert [each.partition for each in spine_versions(step, PLAN)] == found


@pytest.mark.parametrize("asked", [{"partitions": ["2026-09"]}, {"up_to_partition": "2025-12"}])
def test_a_spine_without_moments_is_not_found(asked: dict[str, object]) -> None:
    with pytest.raises(NotFound):
        spine_versions(BuildTrainingSet(name="n", spine=SPINE, views=["queue"], **asked), PLAN)


def test_a_view_is_found_by_columns_of_the_spine_only() -> None:
    check_found_by(SPINE, [VIEW])
    with pytest.raises(InvalidInput, match="view queue is found by floor"):
        check_found_by(SPINE, [VIEW.model_copy(update={"entity": ("shop", "floor")})])


def test_ids_change_with_all_that_changes_values_and_with_nothing_else() -> None:
    applied, step = AppliedView(VIEW, view_hash(VIEW)), BuildTrainingSet(name="n", spine=SPINE, views=["queue"])
    read = {"visits": [version("2026-01")]}
    later = {"visits": [replace(version("2026-01"), landed_at=LANDED.replace(day=2))]}
    online = replace(applied, generation="f" * 64)

    assert feature_part_id(applied, read, "s") == feature_part_id(online, read, "s")
    assert len({feature_part_id(applied, r, s) for r in (read, later) for s in ("s", "z")}) == 4
    assert len({generation_id(applied, r, at) for r in (read, later) for at in (LANDED, LANDED.replace(day=3))}) == 4
    assert training_set_id(step, [applied], [["a", "b"]]) == training_set_id(step, [online], [["a", "b"]])
    assert training_set_id(step, [applied], [["a", "b"]]) != training_set_id(step, [applied], [["a", "c"]])


def test_a_declaration_is_known_by_what_it_says_not_by_how_it_is_written() -> None:
    text = "{name: queue, entity: [shop], sources: [visits], sql: SELECT 1, features: [wait], max_age: %s}"
    [hours], [minutes] = parse_views(text % "2h"), parse_views("---\n" + text % "120m")

    assert view_hash(hours) == view_hash(minutes) == view_hash(View.model_validate(hours.model_dump(mode="json")))
    assert view_hash(hours) != view_hash(VIEW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 views given"),
        ("a: [", "no YAML"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("a: " + "[" * 51 + "]" * 51, "nested deeper than 50"),
        ("#" * 1_000_001, "1000001 characters of YAML"),
        ("- 1", "view number 1: input"),
        ("name: q\nfrom: x", "view q: .*from: Extra inputs"),
        ("name: Q!", "view Q!: name"),
        ("{name: q, entity: [a], sources: [v], sql: s, features: [a]}", "a name stands twice"),
        ("{name: q, entity: [t], sources: [v], sql: s, features: [f]}", "t: the engine's own names"),
        ("{name: q, entity: [a], sources: [v, v], sql: s, features: [f]}", "a source stands twice"),
        ("{name: q, entity: [a], sources: [v], sql: s, features: [f], max_age: soon}", "max_age: .*such as 72h"),
        ("{name: q, entity: [a], sources: [{dataset: v, partitions: 0}], sql: s, features: [f]}", "partitions"),
        ("{name: q, entity: ['a\"; DROP'], sources: [v], sql: s, features: [f]}", "entity"),
        ("\n---\n".join(["{name: q, entity: [a], sources: [v], sql: s, features: [f]}"] * 2), "view q is given twice"),
    ],
)
def test_a_declaration_that_is_wrong_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_views(text)


def test_inputs_of_tasks_are_checked_before_they_are_accepted() -> None:
    with pytest.raises((InvalidInput, ValidationError), match="views"):
        MaterialiseViews.model_validate({"views": []})
    with pytest.raises((InvalidInput, ValidationError), match="name the partitions, or say"):
        BuildTrainingSet(name="n", spine=SPINE, views=["queue"], partitions=["a"], up_to_partition="b")
