import copy
import json
from typing import Any

import pytest
from millrace.core.errors import InvalidDocument
from millrace.core.ir import MAX_DEPTH, MAX_TASKS
from millrace.core.parse import parse_workflow
from millrace.core.parts import canonical_json
from millrace.core.yaml import dump_workflow, load_workflow

CANARY = """
name: canary
tasks:
  deploy:
    kind: inference.deploy
    input: {model: {$from: /trigger/data/model}, tries: {$from: /trigger/data/tries, default: 3}}
  shift1: {kind: inference.shift, needs: [deploy], input: {id: {$from: /tasks/deploy/output/id}, weight: 1}}
  judge1: {kind: inference.judge, needs: [shift1], retries: {max_attempts: 1}}
  promote: {kind: training.promote, needs: [judge1], when: outputs.judge1.verdict == 'pass'}
  rollback:
    kind: inference.shift
    needs: [judge1]
    run_if: settled
    when: status.judge1 != 'succeeded' || outputs.judge1.verdict != 'pass'
  refuse: {needs: [rollback], end: {state: refused, reason: the canary was not better}}
"""


def document(**tasks: Any) -> dict[str, Any]:
    return {"name": "w", "tasks": tasks or {"a": {"kind": "data.ingest"}}}


def complaint(**tasks: Any) -> str:
    with pytest.raises(InvalidDocument) as caught:
        parse_workflow(document(**tasks))
    return str(caught.value)


def test_a_workflow_survives_yaml_and_json_unchanged() -> None:
    workflow = load_workflow(CANARY)

    assert load_workflow(dump_workflow(workflow)).sha256 == workflow.sha256
    assert parse_workflow(json.loads(canonical_json(workflow.document()))).sha256 == workflow.sha256


def test_a_workflow_keeps_the_hash_that_it_had_before_there_were_more_fields() -> None:
    assert load_workflow(CANARY).sha256 == "5cc7876634d0ad848544c35d9637116a95cc77d991ce74effedbeaf1889871ce"


def test_a_hash_depends_on_meaning_and_not_on_spelling() -> None:
    plain = parse_workflow(document(a={"kind": "data.ingest"}))
    spelled = parse_workflow(
        {
            "schema_version": 1,
            **document(a={"kind": "data.ingest", "queue": "data", "needs": [], "run_timeout_s": 3600}),
        }
    )
    other = parse_workflow(document(a={"kind": "data.ingest", "run_timeout_s": 3601}))

    assert plain.sha256 == spelled.sha256
    assert plain.sha256 != other.sha256


def test_the_hash_of_a_known_workflow_never_changes() -> None:
    assert load_workflow(CANARY).sha256 == "5cc7876634d0ad848544c35d9637116a95cc77d991ce74effedbeaf1889871ce"


def test_a_task_goes_to_the_queue_of_its_kind_unless_it_names_another() -> None:
    workflow = parse_workflow(document(a={"kind": "data.ingest"}, b={"kind": "data.ingest", "queue": "big"}))

    assert [task.work_queue for task in workflow.tasks.values()] == ["data", "big"]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ({"a": {"kind": "data.ingest", "needs": ["b"]}}, "tasks.a.needs: there is no task 'b'"),
        ({"a": {"kind": "d.x", "needs": ["b"]}, "b": {"kind": "d.x", "needs": ["a"]}}, "in a circle: a -> b -> a"),
        ({"a": {"kind": "d.x", "needs": ["a"]}}, "in a circle: a -> a"),
        ({"a": {"kind": "ingest"}}, "tasks.a.kind: String should match pattern"),
        ({"A": {"kind": "d.x"}}, "String should match pattern"),
        ({"in": {"kind": "d.x"}}, "reserved word of CEL"),
        ({"a": {"kind": "d.x", "for_each": "b"}}, "tasks.a.for_each: unknown field; known are"),
        ({"a": {}}, "exactly one of kind, end, wait, gate, approve, subflow, foreach, while, switch, parallel, try"),
        (
            {"a": {"kind": "d.x", "end": {"state": "failed"}}},
            "exactly one of kind, end, wait, gate, approve, subflow, foreach, while, switch, parallel, try",
        ),
        ({"a": {"end": {"state": "failed"}, "queue": "q"}}, "is no work for a worker, so it has no queue"),
        ({"a": {"end": {"state": "cancelled"}}}, "tasks.a.end.state"),
        ({"a": {"kind": "d.x", "when": "outputs.b == 1"}}, "'b' is not settled before 'a' starts; add it to `needs`"),
        ({"a": {"kind": "d.x", "when": "outputs."}}, "tasks.a.when: does not parse"),
        (
            {"a": {"kind": "d.x", "when": "inputs.x == 1"}},
            "unknown variable inputs; known are error, index, item, last, outputs, status, trigger",
        ),
        ({"a": {"kind": "d.x", "when": "true || " * 200 + "true"}}, "characters; at most"),
        ({"a": {"kind": "d.x", "when": "[1].map(x, x) == [1]"}}, "map, filter and reduce are not allowed"),
        ({"a": {"kind": "d.x", "when": "[1].all(x, [1].all(y, true))"}}, "at most one all, exists"),
        (
            {"a": {"kind": "d.x", "input": {"x": {"$from": "trigger"}}}},
            "tasks.a.input.x.$from: 'trigger' is not a JSON",
        ),
        ({"a": {"kind": "d.x", "input": {"x": {"$from": "/nowhere"}}}}, "leads nowhere; it must start with /trigger/"),
        ({"a": {"kind": "d.x", "input": {"x": {"$from": "/tasks/b/output"}}}}, "'b' is not settled before 'a'"),
        (
            {"a": {"kind": "d.x", "input": {"x": [{"$from": "/run/id", "or": 1}]}}},
            "tasks.a.input.x.0.or: unknown field",
        ),
        ({"a": {"kind": "d.x", "input": {"$from": "/trigger/data"}}}, "`input` is an object"),
        ({"a": {"kind": "d.x", "retries": {"max_attempts": 0}}}, "tasks.a.retries.max_attempts"),
        ({"a": {"kind": "d.x", "run_timeout_s": 0}}, "tasks.a.run_timeout_s"),
        ({"a": {"kind": "d.x", "needs": "b"}}, "tasks.a.needs: must be a list"),
        (
            {"a": {"kind": "d.x", "pool": "p", "priority": "high"}},
            "tasks.a.priority: must be a whole number or `{$from: …}`",
        ),
        ({"a": {"foreach": {"items": 5, "do": {"tasks": {"b": {"kind": "d.x"}}}}}}, "items: must be a list or `{$from"),
        ({"a": {"wait": {"until": {"from": "/x"}}}}, "not valid: tasks.a.wait.until.$from: Field required;"),
        ({f"t{n}": {"kind": "d.x"} for n in range(MAX_TASKS + 1)}, "at most 500"),
    ],
)
def test_what_cannot_run_is_refused_with_its_field_and_what_would_be_right(tasks: dict[str, Any], said: str) -> None:
    assert said in complaint(**tasks)


@pytest.mark.parametrize(
    ("wait", "said"),
    [
        ({"for_s": -1}, "tasks.a.wait.for_s: Input should be greater than or equal to 0"),
        ({"event": "t", "key": 7}, "tasks.a.wait.key: must be a text or `{$from: …}`"),
    ],
)
def test_what_may_be_a_pointer_is_told_once_what_is_wrong(wait: dict[str, Any], said: str) -> None:
    assert complaint(a={"wait": wait}) == f"workflow is not valid: {said}"


def test_all_problems_are_told_at_once() -> None:
    said = complaint(a={"kind": "d.x", "when": "1 +"}, b={"kind": "d.x", "input": {"x": {"$from": "nowhere"}}})

    assert "tasks.a.when" in said
    assert "tasks.b.input.x.$from" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: w\nname: v\ntasks: {}", "must be text and stand once"),
        ("a: &x 1\nb: *x", "aliases are not allowed"),
        ("name: [", "not YAML"),
        ("name: w\ntasks: {a: {kind: d.x, input: {x: .nan}}}", "not JSON"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("[1]", "workflow is not valid"),
    ],
)
def test_yaml_that_is_not_json_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        load_workflow(text)


def test_yaml_dates_stay_text() -> None:
    workflow = load_workflow("name: w\ntasks: {a: {kind: d.x, input: {day: 2013-01-01}}}")

    assert workflow.tasks["a"].input == {"day": "2013-01-01"}


def test_parsing_leaves_its_document_alone() -> None:
    given = document(a={"kind": "d.x", "input": {"x": [1, {"y": 2}]}})
    before = copy.deepcopy(given)

    parse_workflow(given)

    assert given == before


def deep(levels: int) -> dict[str, Any]:
    task: dict[str, Any] = {"kind": "d.x"}
    for level in reversed(range(levels)):
        task = {"parallel": {"branches": {"b": {"tasks": {f"t{level}": task}}}}}
    return task


def test_bodies_lie_in_one_another_so_deep_and_no_deeper() -> None:
    parse_workflow(document(a=deep(MAX_DEPTH - 1)))

    assert f"deeper than {MAX_DEPTH} levels" in complaint(a=deep(MAX_DEPTH))


def test_tasks_in_bodies_count_among_those_that_a_workflow_may_have() -> None:
    many = {f"t{n}": {"kind": "d.x"} for n in range(MAX_TASKS)}

    assert f"{MAX_TASKS + 1} tasks with those in bodies" in complaint(
        a={"foreach": {"items": [], "do": {"tasks": many}}}
    )


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"foreach": {"items": [], "do": {"tasks": {"a": {"kind": "d.x"}}}}}, "a task around it has this name already"),
        (
            {"foreach": {"items": [], "do": {"tasks": {"b": {"kind": "d.x", "input": {"x": {"$from": "/item/c"}}}}}}},
            "'c' tells no item here; known is index.a, item.a",
        ),
        ({"kind": "d.x", "input": {"x": {"$from": "/item/a"}}}, "'a' tells no item here; known is nothing of the kind"),
        (
            {"while": {"condition": "outputs.b.ok", "do": {"tasks": {"b": {"kind": "d.x"}}}}},
            "outputs.b: 'b' is not settled before 'a' starts",
        ),
        ({"wait": {"until": "tomorrow"}}, "tasks.a.wait.until: 'tomorrow' is no time of RFC 3339"),
        (
            {"switch": {"cases": [{"name": "default", "when": "true", "do": {"tasks": {"b": {"kind": "d.x"}}}}],
                "default": {"tasks": {"c": {"kind": "d.x"}}}}},
            "two of its bodies have the same name",
        ),
        ({"try": {"do": {"tasks": {"b": {"kind": "d.x"}}}}}, "a try has `catch` or `finally`"),
        (
            {"parallel": {"branches": {"x": {"tasks": {"b": {"kind": "d.x"}}}}, "quorum": 2}},
            "quorum 2 is more than the 1 branches",
        ),
        ({"end": {"state": "failed"}, "timeout_s": 3}, "'end' takes no time"),
        (
            {"kind": "d.x", "teardown": {"tasks": {"b": {"gate": {"condition": "false"}}}}},
            "tasks.a.teardown.tasks.b.gate: what is done however the run ends cannot end it",
        ),
        (
            {"kind": "d.x", "compensate": {"tasks": {"b": {"approve": {}}}}},
            "tasks.a.compensate.tasks.b.approve.rejected: what is done however",
        ),
    ],
)  # fmt: skip
def test_a_body_that_cannot_run_is_refused_with_its_field(task: dict[str, Any], said: str) -> None:
    assert said in complaint(a=task)
