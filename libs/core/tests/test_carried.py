"""What an attempt leaves is the next attempt's, whatever ended it; what a stale one leaves is nobody's."""

from hypothesis import given
from hypothesis import strategies as st
from millrace.core.state import Carried, Failed, Failure, Progressed, RunState, Started, Succeeded, Tick
from simulation import World, started

WORK = {"kind": "data.ingest", "retries": {"max_attempts": 5, "lost": 5, "backoff_s": 0}}
LOST = Failure("lost", "gone", lost=True)
JOB = Carried({"epoch": 3}, "job-1")


def place(made: World) -> tuple[object, ...]:
    order = made.order("a")
    return order.name, order.task_id, order.attempt, order.token


def again(made: World) -> None:
    """Let the next attempt be dispatched."""
    made.tell(Tick(), after_s=3_600)


def test_m5_what_an_attempt_leaves_is_the_next_ones_after_a_loss_and_after_an_error() -> None:
    made = started(a=WORK)
    assert made.order("a").carried is None

    made.tell(Progressed(*place(made), 0.5, carried=JOB))
    made.tell(Progressed(*place(made), 0.6))
    made.fail("a", LOST)
    again(made)
    assert (made.order("a").attempt, made.order("a").carried) == (2, JOB)
    made.fail("a")
    again(made)

    assert (made.order("a").attempt, made.order("a").carried) == (3, JOB)


def test_what_comes_with_a_failure_counts_and_what_a_stale_attempt_says_does_not() -> None:
    made = started(a=WORK)
    first = place(made)
    made.tell(Failed(*first, LOST, carried=JOB))
    again(made)

    late = made.tell(Progressed(*first, 0.9, carried=Carried("late", "job-0")))

    assert made.order("a").carried == JOB
    assert [refused.reason for refused in late.refused] == [
        f"task {first[1]} is dispatched at attempt 2: attempt 1 is over"
    ]


def test_a_task_that_has_succeeded_keeps_what_it_had_begun_elsewhere_and_no_checkpoint() -> None:
    made = started(a=WORK)
    made.tell(Started(*place(made)), Progressed(*place(made), carried=JOB))
    made.tell(Succeeded(*place(made), {}))

    assert made.run.state is RunState.SUCCEEDED
    assert made.run.tasks["a"].carried == Carried(None, "job-1")


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["kept", "lost", "failed", "stale"])), max_size=12))
def test_each_attempt_is_given_the_latest_that_the_ones_before_it_have_kept(said: list[tuple[int, str]]) -> None:
    made = started(a={**WORK, "retries": {"max_attempts": 100, "lost": 100, "backoff_s": 0}})
    expected, stale = None, None
    for number, what in said:
        carried = Carried(number, f"job-{number}")
        if what == "stale" and stale is not None:
            made.tell(Progressed(*stale, carried=carried))
        elif what == "kept":
            made.tell(Progressed(*place(made), carried=carried))
            expected = carried
        elif what in {"lost", "failed"}:
            stale = place(made)
            made.fail("a", LOST if what == "lost" else None)
            again(made)
            assert made.order("a").carried == expected

    assert made.run.tasks["a"].carried == expected
