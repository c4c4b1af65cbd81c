import math
from dataclasses import replace

from millrace.feature.commands import parse_views
from millrace.feature.domain import AppliedView, Generation, OnlineRow, view_hash
from millrace.feature.store import Store

from .conftest import SHOPS_YAML

QUEUE, _, SITE = parse_views(SHOPS_YAML)


async def test_a_view_is_another_one_in_each_namespace(tx: Store) -> None:
    tx.save_view("demo", AppliedView(QUEUE, view_hash(QUEUE)))

    assert await tx.hold_views("demo", ["queue"]) == {"queue": view_hash(QUEUE)}
    assert await tx.hold_views("other", ["queue"]) == {}


async def test_a_generation_begun_again_keeps_its_rows_and_is_known_to_be_complete(tx: Store) -> None:
    begun = Generation("site", "g", "h", ("v",), SITE.entity, SITE.features, tx.now)
    rows = [OnlineRow((f"shop {n}", "0"), (float(n),)) for n in range(2500)]

    first = await tx.begin_generation("demo", begun)
    for _ in range(2):
        tx.add_online_rows("demo", first, rows)
    tx.complete_generation("demo", first, len(rows))

    assert first == begun
    assert await tx.online_entities("demo", first) == 2500
    assert await tx.begin_generation("demo", begun) == replace(begun, entities=2500)


async def test_rows_keep_their_columns_apart(tx: Store) -> None:
    wide = Generation("wide", "g", "h", ("v",), ("a", "b"), ("x", "y", "z"), tx.now)
    await tx.begin_generation("demo", wide)
    tx.add_online_rows(
        "demo", wide, [OnlineRow(("1", "é"), (1.0, math.nan, 3.0)), OnlineRow(("2", ""), (4.0, 5.0, 6.0))]
    )
    tx.point("demo", wide)

    found = await tx.online("demo", ["wide"], [{"a": 2, "b": ""}, {"b": "é", "a": "1", "c": True}, {"a": 1}])

    assert [str(each.values) for each in found] == ["(4.0, 5.0, 6.0)", "(1.0, nan, 3.0)", "None"]
    assert await tx.online("other", ["wide"], [{"a": 2, "b": ""}]) == []


async def test_the_pointer_is_held_with_what_it_points_at(tx: Store) -> None:
    generation = Generation("site", "g", "h", ("v",), SITE.entity, SITE.features, tx.now)
    await tx.begin_generation("demo", generation)

    assert await tx.hold_pointer("demo", "site") is None
    tx.point("demo", generation)
    assert await tx.hold_pointer("demo", "site") == generation


async def test_a_part_is_remembered_as_it_was_made_last(tx: Store) -> None:
    tx.add_part("demo", "p", "a" * 64)
    assert await tx.parts("demo", ["p", "q"]) == {"p": "a" * 64}
    tx.add_part("demo", "p", "b" * 64)

    assert await tx.parts("demo", ["p"]) == {"p": "b" * 64}
    assert await tx.parts("other", ["p"]) == {}
