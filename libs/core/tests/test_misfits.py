"""What can be read and could never be as it says is refused of what is new."""

from typing import Any

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.misfits import check_fits
from millrace.core.parse import parse_workflow
from millrace.core.planning import parse_planned
from millrace.core.triggers import Trigger, parse_trigger

WORK = {"kind": "data.x"}
SOURCE = {"topic": "shop.orders"}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (
            {**WORK, "when": "trigger.dta.n > 1"},
            "tasks.a.when: trigger has no 'dta': did you mean 'data'?; it has id, ",
        ),
        (
            {**WORK, "when": "trigger['month'] == 1"},
            "tasks.a.when: trigger has no 'month', what an event carries is in",
        ),
        ({"gate": {"condition": "trigger.sorce == 'x'"}}, "tasks.a.gate.condition: trigger has no 'sorce'"),
        (
            {**WORK, "retries": {"rules": [{"when": "trigger.tipe == 'x'"}]}},
            "tasks.a.retries.rules.0.when: trigger has",
        ),
        (
            {"foreach": {"items": [1], "do": {"tasks": {"b": {**WORK, "when": "trigger.datta"}}}}},
            "tasks.a.foreach.do.tasks.b.when: trigger has no 'datta'",
        ),
        ({**WORK, "heartbeat_timeout_s": 5}, "tasks.a.heartbeat_timeout_s: is less than 15"),
        ({"wait": {"for_s": 604_800}}, "tasks.a.wait.for_s: is 604800, and its run ends after 86400 s: give the"),
        ({"approve": {}, "timeout_s": 604_800}, "tasks.a.timeout_s: is 604800, and its run ends after 86400 s"),
        (
            {**WORK, "plans": True, "planned": {"plan0": {"tasks": {"b": WORK}}}},
            "tasks.a.planned: what is planned is found out in a run",
        ),
    ],
)
def test_what_could_never_be_is_refused_by_its_field(task: dict[str, Any], said: str) -> None:
    document = {"name": "w", "tasks": {"a": task}}

    with pytest.raises(InvalidDocument) as refused:
        check_fits(parse_workflow(document))

    assert f"workflow w is not valid: {said}" in str(refused.value)
    assert parse_planned(document), "one that is in force goes on"


@pytest.mark.parametrize("when", ["trigger.schedule.logical_at != ''", "has(trigger.subject)", "'trigger.dta' != ''"])
def test_what_can_be_is_not_refused(when: str) -> None:
    check_fits(parse_workflow({"name": "w", "tasks": {"a": {**WORK, "when": when}}}))


def test_a_pointer_to_what_no_trigger_has_says_which_is_meant() -> None:
    task = {**WORK, "input": {"x": {"$from": "/trigger/subjct"}}}

    with pytest.raises(
        InvalidDocument, match=r"tasks.a.input.x.\$from: trigger has no 'subjct': did you mean 'subject'"
    ):
        parse_workflow({"name": "w", "tasks": {"a": task}})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"source": SOURCE, "when": "trigger.dta.n > 1"},
            r"t is not valid: when: trigger has no 'dta': did you mean 'da",
        ),
        ({"source": SOURCE, "when": "trigger.schedule == null"}, "when: trigger has no 'schedule'"),
        (
            {"source": SOURCE, "join": {"members": [{"name": "a"}, {"name": "b", "when": "trigger.tpe == 'x'"}]}},
            r"join\.members\.1\.when: trigger has no 'tpe': did you mean 'type'",
        ),
    ],
)
def test_a_trigger_that_reads_what_no_event_has_is_refused(document: dict[str, Any], said: str) -> None:
    written = {"name": "t", "workflow": "w", **document}

    with pytest.raises(InvalidDocument, match=said):
        parse_trigger(written)

    assert Trigger.model_validate(written), "one that is in force goes on"
