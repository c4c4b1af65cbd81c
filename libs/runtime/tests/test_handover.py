"""In which order what was committed here reaches the relay, whatever is known first."""

import asyncio
import itertools
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from millrace.runtime.handover import MOST_WAITING_BYTES, Handover, Outgoing


def row(number: int, key: str = "a", sequence: int = 0) -> Outgoing:
    topic = "control.runs" if sequence else "control.tasks.data"
    return Outgoing(number, topic, key, None, {"ce_id": str(number)}, b"{}", sequence)


def opened() -> Handover:
    handover = Handover()
    handover.open()
    handover.look = False
    return handover


def test_what_was_committed_is_taken_once_and_in_order() -> None:
    handover = opened()
    handover.give([row(2), row(3, "b", 1)])
    handover.give([row(1)])

    assert [taken.id for taken in handover.take()] == [1, 2, 3]
    assert handover.take() == []
    assert not handover.look
    assert handover.wake.is_set()


def test_what_overtakes_another_of_its_key_is_left_to_the_table() -> None:
    handover = opened()
    handover.give([row(1, "a", 1), row(3, "a", 3), row(4)])

    assert [taken.id for taken in handover.take()] == [1]
    assert handover.look
    handover.look = False
    handover.read([row(2, "a", 2), row(3, "a", 3), row(4)])
    handover.give([row(2, "a", 2), row(4), row(5, "a", 4)])
    assert [taken.id for taken in handover.take()] == [5]


def test_what_nobody_sends_here_is_left_to_the_table() -> None:
    handover = Handover()
    handover.give([row(1)])
    handover.open()
    assert handover.look
    assert handover.take() == []
    handover.give([row(2, "a", 1)])
    handover.close()
    assert handover.take() == []
    assert handover.look


def test_a_number_is_the_header_that_the_table_would_have_given() -> None:
    assert row(1, "a", 7).encoded_headers() == [("ce_id", b"1"), ("ce_sequence", b"7")]
    assert row(1).encoded_headers() == [("ce_id", b"1")]


@given(
    keys=st.lists(st.sampled_from("abc"), min_size=1, max_size=30),
    known_in=st.randoms(use_true_random=False),
    looks=st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_each_key_is_sent_gapless_in_order_and_once_however_commits_become_known(
    keys: list[str], known_in: object, looks: list[bool]
) -> None:
    numbers: defaultdict[str, int] = defaultdict(int)
    table: list[Outgoing] = []
    for number, key in enumerate(keys):
        numbers[key] += 1
        table.append(row(number, key, numbers[key]))
    known = list(table)
    known_in.shuffle(known)  # type: ignore[attr-defined]
    handover, sent, committed = opened(), [], 0

    for given_one, looks_now in zip(known, looks, strict=False):
        # Whatever is known has been committed, and with it all that was written before to the same key.
        committed = max(committed, given_one.id + 1)
        handover.give([given_one])
        if looks_now or handover.look:
            handover.begin_look()
            rows = [some for some in table[:committed] if some not in sent]
            handover.read(rows)
        else:
            rows = handover.take()
        sent += rows

    if handover.look or len(sent) < len(table):
        sent += [some for some in table if some not in sent]
    for key in numbers:
        assert [some.sequence for some in sent if some.key == key] == list(range(1, numbers[key] + 1))
    assert len({some.id for some in sent}) == len(sent)


def test_what_waited_while_the_table_was_looked_at_is_not_sent_again() -> None:
    handover, numbers = Handover(), itertools.count(1)
    handover.open()
    table = [row(next(numbers)) for _ in range(5_000)]
    sent: list[int] = []
    for round_number in range(60):
        if handover.look:
            handover.begin_look()
            rows = [one for one in table if one.id > (sent[-1] if sent else 0)][:1_000]
            handover.read(rows)
            handover.look |= len(rows) == 1_000
        else:
            rows = handover.take()
        sent += [one.id for one in rows]
        if round_number < 40:
            table += (new := [row(next(numbers)) for _ in range(900)])
            handover.give(new)

    assert sent == [one.id for one in table]


PAGE = 3
STEPS = st.sampled_from(["commit", "commit", "know", "know", "look", "look while more is known", "take", "wait"])


@given(
    lingers=st.lists(st.booleans(), min_size=12, max_size=12),
    places=st.lists(st.sampled_from("pq"), min_size=12, max_size=12),
    steps=st.lists(STEPS, max_size=60),
)
def test_what_lingers_leaves_in_the_order_of_its_place_and_once_whatever_is_known_or_read_first(
    lingers: list[bool], places: list[str], steps: list[str]
) -> None:
    table = [
        Outgoing(number, "data.tasks", f"{number}", place, {}, b"{}", 0, lingers=lasts)
        for number, (place, lasts) in enumerate(zip(places, lingers, strict=True))
    ]
    sent: list[Outgoing] = []

    async def played() -> None:
        handover = Handover(linger_s=0.0)
        handover.open()
        committed = known = 0
        over = ["look", "wait", "wait", "take"] * len(table)
        for step in (*steps, *["commit", "know"] * len(table), *over):
            if step == "commit":
                committed = min(committed + 1, len(table))
            elif step == "know" and known < committed:  # which may be later than the table tells it
                known += 1
                handover.give([table[known - 1]])
            elif step == "take" and not handover.look:
                sent.extend(handover.take())
            elif step.startswith("look"):
                lingering = handover.begin_look()
                rows = [one for one in table[:committed] if one not in sent and one.id not in lingering][:PAGE]
                if step != "look" and known < committed:
                    known += 1
                    handover.give([table[known - 1]])
                    await asyncio.sleep(0)  # what lingers has its time
                sent.extend(handover.read(rows))
                handover.look |= len(rows) == PAGE
            else:
                await asyncio.sleep(0)

    asyncio.run(played())

    assert len(sent) == len(table)
    for place in "pq":
        ids = [one.id for one in sent if one.partition_key == place]
        assert ids == sorted(ids)


async def test_what_lingers_leaves_soon_where_nothing_follows_it() -> None:
    handover = opened()
    lingering = [Outgoing(n, "data.tasks", "a", "p", {}, b"{}", 0, lingers=True) for n in (1, 2)]

    handover.give(lingering)
    assert not handover.wake.is_set()
    assert handover.take() == []
    async with asyncio.timeout(5):
        await handover.wake.wait()

    assert handover.take() == lingering


async def test_what_lingers_leaves_with_what_follows_in_its_partition_key() -> None:
    handover = opened()
    first, other = [Outgoing(n, "data.tasks", "a", p, {}, b"{}", 0, lingers=True) for n, p in ((1, "p"), (2, "q"))]
    last = Outgoing(3, "data.tasks", "b", "p", {}, b"{}", 0)

    handover.give([first, other])
    handover.give([last])

    assert handover.take() == [first, last]
    assert handover.begin_look() == [other.id]


def test_no_more_waits_than_there_is_room_for() -> None:
    handover = opened()
    for number in range(20):
        handover.give([Outgoing(number, "control.tasks.data", "k", None, {}, bytes(MOST_WAITING_BYTES // 8), 0)])
    assert len(handover.take()) == 8
    assert handover.look
