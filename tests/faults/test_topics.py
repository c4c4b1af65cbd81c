from aiokafka import TopicPartition

from tests.faults.topics import unread

ONE, OTHER, NEW = TopicPartition("one", 0), TopicPartition("one", 1), TopicPartition("new", 0)


def test_a_group_has_left_what_it_has_not_noted_up_to_a_mark_whatever_has_come_since() -> None:
    first, marks = {ONE: 0, OTHER: 0}, {ONE: 10, OTHER: 4}
    noted = {"slow": {ONE: 7, OTHER: 4}, "quick": {ONE: 12, OTHER: 4}, "slow.foreign": {}}

    assert unread(noted, first, marks) == {"slow": 3}


def test_what_came_ahead_in_one_partition_makes_up_for_nothing_in_another() -> None:
    assert unread({"group": {ONE: 20, OTHER: 1}}, {ONE: 0, OTHER: 0}, {ONE: 10, OTHER: 4}) == {"group": 3}


def test_a_partition_that_nobody_marked_is_left_out() -> None:
    assert unread({"group": {ONE: 10, NEW: 0}}, {ONE: 0}, {ONE: 10}) == {}
