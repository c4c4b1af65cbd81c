"""The catalogue holds every topic once, each with one writer."""

from collections import Counter

from millrace.contracts import SERVICES
from millrace.contracts.catalogue import FOREIGN, TASK_PARTITIONS, catalogue, queue_topics, queues_in

from infra.documents import events, said

TOPICS = {topic.name: topic for topic in catalogue()}


def test_every_topic_of_every_event_is_in_the_catalogue_once() -> None:
    counted = Counter(topic.name for topic in catalogue())

    assert {row.topic for row in said()} <= set(counted)
    assert set(counted.values()) == {1}


def test_all_task_topics_have_as_many_partitions() -> None:
    tasks = {name: topic.partitions for name, topic in TOPICS.items() if ".tasks" in name}

    assert set(tasks) == {f"control.tasks.{name}" for name in SERVICES} | {f"{name}.tasks" for name in SERVICES}
    assert set(tasks.values()) == {TASK_PARTITIONS}


def test_a_teams_queue_is_one_whose_orders_have_a_topic_which_only_control_may_make() -> None:
    there = {*TOPICS, *(topic.name for topic in queue_topics(["acme", "b"])), "evil.tasks", "control.tasks.half"}

    assert queues_in(there) == ["acme", "b"]


def test_each_topic_has_one_owner_and_only_that_one_publishes_there() -> None:
    writers: dict[str, set[str]] = {}
    for row in said():
        writers.setdefault(row.topic, set()).add(row.publisher)

    assert writers == {topic: {TOPICS[topic].owner} for topic in writers}
    assert {topic.owner for topic in catalogue()} == {*SERVICES, "upstream"}


def test_a_topic_is_named_after_its_owner_unless_somebody_outside_writes_it() -> None:
    foreign = {topic.name for topic in FOREIGN}

    assert all(topic.name.startswith(f"{topic.owner}.") for topic in catalogue() if topic.name not in foreign)


def test_facts_of_one_topic_have_the_same_kind_of_key() -> None:
    keys: dict[str, set[str]] = {}
    for event in events():
        keys.setdefault(event.topic, set()).add(event.key_field)

    assert {topic: len(names) for topic, names in keys.items()} == dict.fromkeys(keys, 1)


def test_records_are_kept_for_at_least_a_week() -> None:
    assert min(topic.retention_s for topic in catalogue()) >= 7 * 24 * 3600
