"""An artifact that anybody refers to stays, whoever puts, looks after and dies, and in whichever order."""

import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.runtime.artifacts import Artifacts
from millrace.runtime.housekeeping import ClocksApart, Unreferenced
from millrace.runtime.ids import new_id
from millrace.runtime.shelves import Note, Shelves

SERVICES = ("data", "feature")
CONTENTS = (b"one", b"two")


class Died(Exception):
    """The process is gone."""


class Watched(Shelves):
    """Shelves at which something happens before the n-th thing that is done there: a put of another, or a death."""

    def __init__(self, shelves: Shelves) -> None:
        super().__init__(shelves._root, shelves._store)
        self.before: dict[int, Callable[[], object]] = {}
        self.done = 0
        self.ahead = timedelta()
        self.names = tuple(sorted({hashlib.sha256(content).hexdigest()[:2] for content in CONTENTS}))

    def _step(self) -> None:
        self.done += 1
        self.before.pop(self.done, lambda: None)()

    def now(self, owner: str) -> datetime:
        return super().now(owner) + self.ahead

    def notes(self, shelf: str) -> list[Note]:
        self._step()
        return super().notes(shelf)

    def set_aside(self, digest: str) -> Note | None:
        self._step()
        return super().set_aside(digest)

    def put_back(self, aside: Note) -> None:
        self._step()
        super().put_back(aside)

    def remove(self, name: str) -> None:
        self._step()
        super().remove(name)


class World:
    """Two services on one store, and what each of them refers to."""

    def __init__(self, url: str) -> None:
        self.store = Artifacts(url)
        self.owned = {name: Artifacts(url, owner=name) for name in SERVICES}
        for artifacts in self.owned.values():
            if not self.store._root:
                artifacts._opened = self.store._store()
        self.database = Transacting()
        self.store_ahead = timedelta()
        self.referred: dict[str, set[str]] = {name: set() for name in SERVICES}

    def put(self, service: str, content: bytes, *, refer: bool) -> str:
        digest = self.owned[service].put_bytes(content)
        (self.referred[service].add if refer else self.referred[service].discard)(digest)
        return digest

    def rule(self, service: str, shelves: Shelves, grace: timedelta) -> Unreferenced:
        async def referred(_: object, digests: Sequence[str]) -> set[str]:
            return self.referred[service] & set(digests)

        return Unreferenced(shelves, service, lambda: self.database, referred, grace, settled=timedelta())

    async def sweep(
        self, service: str, before: dict[int, Callable[[], object]] | None = None, grace: timedelta = timedelta()
    ) -> int:
        shelves = Watched(self.store.shelves)
        shelves.before, shelves.ahead = before or {}, self.store_ahead
        try:
            return sum([removed async for removed in self.rule(service, shelves, grace).batches()])
        except Died:
            return 0

    def lost(self) -> set[str]:
        return {digest for known in self.referred.values() for digest in known if not self.store.exists(digest)}


class Transacting:
    """Stands where transactions are opened, with a clock of its own."""

    ahead = timedelta()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


@pytest.fixture(params=["file", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(f"file://{tmp_path}/store" if request.param == "file" else "memory:///")


async def test_what_nothing_refers_to_goes_and_the_rest_stays(world: World) -> None:
    kept, gone = world.put("data", b"one", refer=True), world.put("data", b"two", refer=False)

    assert await world.sweep("data") == 1
    assert (world.store.exists(kept), world.store.exists(gone)) == (True, False)
    assert world.store.shelves.asides() == []


async def test_what_was_put_within_the_grace_stays(world: World) -> None:
    digest = world.put("data", b"one", refer=False)

    assert await world.sweep("data", grace=timedelta(hours=1)) == 0
    assert world.store.exists(digest)


async def test_a_note_is_as_old_as_the_store_says_whatever_its_writer_thought_of_the_time(tmp_path: Path) -> None:
    world = World(f"file://{tmp_path}")
    young, old = world.put("data", b"one", refer=False), world.put("data", b"two", refer=False)
    week_ago = datetime.now(UTC).timestamp() - 7 * 86400
    [thought_old] = tmp_path.glob(f"writes/*/{young}.*")
    thought_old.rename(thought_old.with_name(f"{young}.data.{new_id(week_ago).hex}"))
    [is_old] = tmp_path.glob(f"writes/*/{old}.*")
    os.utime(is_old, (week_ago, week_ago))

    assert await world.sweep("data", grace=timedelta(days=1)) == 1
    assert (world.store.exists(young), world.store.exists(old)) == (True, False)


async def test_what_was_just_set_aside_is_not_old_however_old_the_artifact_is(tmp_path: Path) -> None:
    world = World(f"file://{tmp_path}")
    digest = world.put("data", b"one", refer=False)
    os.utime(tmp_path / "sha256" / digest, (0, 0))

    world.store.shelves.set_aside(digest)

    [aside] = world.store.shelves.asides()
    assert datetime.now(UTC) - aside.at < timedelta(minutes=1)


@pytest.mark.parametrize("days", [-8, 8])
@pytest.mark.parametrize("wrong", ["database", "store", "both against the process"])
async def test_nothing_goes_while_the_clocks_disagree(world: World, wrong: str, days: int) -> None:
    digest = world.put("data", b"one", refer=False)
    if wrong != "store":
        world.database.ahead = timedelta(days=days)
    if wrong != "database":
        world.store_ahead = timedelta(days=days)

    with pytest.raises(ClocksApart, match=r"database .*, store .*, process "):
        await world.sweep("data")

    assert world.store.exists(digest)
    world.database.ahead, world.store_ahead = timedelta(), timedelta(minutes=-1)
    assert await world.sweep("data") == 1, "a minute is nothing"


async def test_a_service_removes_only_what_it_put_itself(world: World) -> None:
    mine, unowned = world.put("data", b"one", refer=False), world.store.put_bytes(b"two")

    assert await world.sweep("feature") == 0
    assert world.store.exists(mine)
    assert await world.sweep("data") == 1
    assert world.store.exists(unowned)


async def test_equal_bytes_of_two_services_go_with_the_last_of_them(world: World) -> None:
    digest = world.put("data", b"one", refer=False)
    world.put("feature", b"one", refer=True)

    await world.sweep("data")
    assert world.store.exists(digest)
    world.referred["feature"].clear()
    await world.sweep("feature")
    assert not world.store.exists(digest)


async def test_of_what_is_put_again_and_again_one_note_is_left(world: World) -> None:
    [digest] = {world.put("data", b"one", refer=True) for _ in range(5)}

    await world.sweep("data")

    assert len(world.store.shelves.notes(digest[:2])) == 1
    assert world.lost() == set()


async def test_what_a_put_that_died_left_unfinished_goes_after_the_grace(tmp_path: Path) -> None:
    world = World(f"file://{tmp_path}")
    world.put("data", b"one", refer=True)
    (tmp_path / "unfinished" / "half").write_bytes(b"ha")

    await world.sweep("data")

    assert list((tmp_path / "unfinished").iterdir()) == []
    assert world.lost() == set()


@pytest.mark.parametrize("happens", ["its own service puts", "another puts", "it dies", "it dies after another put"])
@pytest.mark.parametrize("step", range(1, 10))
async def test_whatever_happens_before_any_step_of_a_removal_what_is_referred_to_then_is_there(
    happens: str, step: int
) -> None:
    world = World("memory:///")
    digest = world.put("data", b"one", refer=False)

    def happen() -> None:
        if "put" in happens:
            world.put("feature" if "another" in happens else "data", b"one", refer=True)
        if "dies" in happens:
            raise Died

    await world.sweep("data", {step: happen})
    await world.sweep("feature")  # the next round ends what one that died has begun

    assert world.lost() == set()
    for referred in world.referred.values():
        referred.clear()
    for service in SERVICES:
        await world.sweep(service)
    assert not world.store.exists(digest), "nothing is kept for ever either"
    assert world.store.shelves.asides() == world.store.shelves.notes(digest[:2]) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "drop", "sweep", "put while sweeping", "die while sweeping"]),
        st.sampled_from(SERVICES),
        st.sampled_from(SERVICES),
        st.sampled_from(CONTENTS),
        st.integers(1, 12),
    ),
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
async def test_nothing_referred_to_is_lost_in_any_order_of_puts_removals_and_deaths(steps: list[Any]) -> None:
    world = World("memory:///")
    for what, who, other, content, step in steps:
        if what == "put":
            world.put(who, content, refer=True)
        elif what == "drop":
            world.referred[who].discard(hashlib.sha256(content).hexdigest())
        else:
            put = partial(world.put, other, content, refer=True)
            await world.sweep(who, {} if what == "sweep" else {step: put if what.startswith("put") else _die})
            await world.sweep(other)  # the next round ends what one that died has begun
        assert world.lost() == set()


def _die() -> None:
    raise Died
