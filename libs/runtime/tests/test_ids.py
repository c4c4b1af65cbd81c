import time

from millrace.runtime.ids import BEHIND_S, Ids, new_id

NOON = 1_790_000_000.123


def unix_ms(one: object) -> int:
    return one.int >> 80  # type: ignore[attr-defined]


def test_an_id_is_a_uuid_of_version_7_that_begins_with_its_time() -> None:
    one = Ids().make(NOON)

    assert (one.version, one.variant, unix_ms(one)) == (7, "specified in RFC 4122", 1_790_000_000_123)
    assert abs(unix_ms(new_id()) - time.time() * 1000) < 5000


def test_ids_of_one_time_come_in_order_and_so_do_those_of_a_transaction_that_began_before() -> None:
    ids = Ids()
    made = [ids.make(NOON) for _ in range(10_000)] + [ids.make(NOON - BEHIND_S / 2) for _ in range(10)]

    assert made == sorted(set(made))


def test_after_a_clock_that_was_an_hour_ahead_ids_are_of_the_right_time_again() -> None:
    ids = Ids()
    ahead = ids.make(NOON + 3600)

    assert unix_ms(ids.make(NOON)) == unix_ms(ahead) - 3_600_000
