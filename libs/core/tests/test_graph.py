from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.core.difference import differences
from millrace.core.graph import dot, mermaid
from millrace.core.parse import parse_workflow
from millrace.core.plan import compile_plan
from programs import document

TASKS: dict[str, Any] = {
    "list": {"kind": "data.list"},
    "each": {
        "needs": ["list"],
        "foreach": {
            "items": {"$from": "/tasks/list/output/all"},
            "do": {"tasks": {"fit": {"kind": "training.fit"}, "end": {"kind": "data.say", "needs": ["fit"]}}},
        },
    },
    "tidy": {"kind": "data.tidy", "needs": ["each"], "run_if": "settled", "when": 'status.each == "failed"'},
}


def foreach(**more: Any) -> dict[str, Any]:
    return TASKS["each"] | {"foreach": TASKS["each"]["foreach"] | more}


def made(**more: Any) -> Any:
    return parse_workflow({"name": "w", "tasks": TASKS | more})


def test_mermaid_shows_tasks_needs_and_what_is_in_what() -> None:
    assert (
        mermaid(made())
        == """flowchart TD
  t_list["list<br/>data.list"]
  subgraph t_each["each<br/>foreach"]
    subgraph t_each____["each"]
      t_each______fit["fit<br/>training.fit"]
      t_each______end["end<br/>data.say"]
      t_each______fit --> t_each______end
    end
  end
  t_tidy["tidy<br/>data.tidy<br/>status.each == #quot;failed#quot;"]
  t_list --> t_each
  t_each -.-> t_tidy
"""
    )


def test_dot_shows_the_same() -> None:
    text = dot(made())

    assert text.startswith('digraph "w" {\n')
    assert text.count("{") == text.count("}") == 3
    assert '  t_tidy [label="tidy\\ndata.tidy\\nstatus.each == \\"failed\\""];' in text
    assert "  t_each -> t_tidy [style=dotted];" in text


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_picture_of_any_workflow_has_every_task_once(data: st.DataObject) -> None:
    workflow = parse_workflow(document(lambda options: data.draw(st.sampled_from(options))))
    drawn = [line.split("[")[0].split()[-1] for line in mermaid(workflow).splitlines() if '["' in line]

    plan = compile_plan(workflow)
    assert len(drawn) == len(set(drawn)) == len(plan.steps) + len(plan.blocks) - 1
    assert list(differences(workflow, workflow)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"more": {"kind": "data.x"}}, ["+ more: data.x"]),
        ({"list": {"kind": "data.list", "run_timeout_s": 9}}, ["~ list: run_timeout_s"]),
        ({"list": {"kind": "data.all", "input": {"x": 1}}}, ["~ list: input, kind"]),
        (
            {"each": foreach(concurrency=3)},
            ["~ each: foreach"],
        ),
        (
            {
                "each": TASKS["each"]
                | {"foreach": TASKS["each"]["foreach"] | {"do": {"tasks": {"fit": {"kind": "t.f"}}}}}
            },
            ["~ each[].fit: kind", "- each[].end: data.say"],
        ),
    ],
)
def test_a_difference_names_the_task_and_its_fields(change: dict[str, Any], said: list[str]) -> None:
    assert list(differences(made(), made(**change))) == said


def test_what_the_workflow_itself_says_is_told_and_its_description_is_not() -> None:
    other = parse_workflow({"name": "w", "tasks": TASKS, "description": "new", "timeout_s": 60, "output": {"x": 1}})

    assert list(differences(made(), other)) == ["~ timeout_s", "~ output"]
