"""What docs/workflows.md shows is what core reads."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from millrace.core.ir import FORMS, Task
from millrace.core.parse import parse_workflow
from millrace.core.plan import compile_plan
from millrace.core.yaml import dump_workflow, load_workflow
from programs import document

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/workflows.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SCHEMA = json.loads((ROOT / "libs/core/schemas/workflow.json").read_text())


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_an_example_is_a_workflow_that_fits_the_schema(text: str) -> None:
    workflow = load_workflow(text)

    Draft202012Validator(SCHEMA).validate(workflow.document())


def test_there_is_an_example_of_every_form() -> None:
    plans = [compile_plan(load_workflow(text)) for text in EXAMPLES]

    assert {step.task.form for plan in plans for step in plan.steps.values()} == {form.rstrip("_") for form in FORMS}


def test_the_page_names_every_field_of_a_task() -> None:
    # What was planned is written by control, in a run.
    fields = {field.alias or name for name, field in Task.model_fields.items()} - {"planned"}

    assert not {field for field in fields if f"`{field}`" not in PAGE}


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_any_workflow_fits_the_schema_and_survives_yaml_and_json_unchanged(data: st.DataObject) -> None:
    made: dict[str, Any] = document(lambda options: data.draw(st.sampled_from(options)))
    workflow = parse_workflow(made)

    Draft202012Validator(SCHEMA).validate(made)
    assert load_workflow(dump_workflow(workflow)).sha256 == workflow.sha256
    assert parse_workflow(json.loads(json.dumps(workflow.document()))).sha256 == workflow.sha256
