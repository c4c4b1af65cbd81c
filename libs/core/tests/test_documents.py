"""What docs/workflows.md and docs/schedules.md show is what core reads."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from millrace.core.ir import FORMS, Task
from millrace.core.parse import parse_workflow
from millrace.core.plan import compile_plan
from millrace.core.schedules import Schedule, fill, fires, moment, parse_schedule
from millrace.core.schedules.document import Days, Dst
from millrace.core.schedules.template import FIELDS
from millrace.core.yaml import dump_workflow, load_document, load_workflow
from programs import document

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/workflows.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SCHEMA = json.loads((ROOT / "libs/core/schemas/workflow.json").read_text())
SCHEDULES = (ROOT / "docs/schedules.md").read_text()
SCHEDULE_EXAMPLES = re.findall(r"```yaml\n(.*?)```", SCHEDULES, re.DOTALL)
SCHEDULE_SCHEMA = json.loads((ROOT / "libs/core/schemas/schedule.json").read_text())


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


@pytest.mark.parametrize("text", SCHEDULE_EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_an_example_is_a_schedule_that_fits_the_schema_and_fires(text: str) -> None:
    written = load_document(text, "schedule")
    schedule = parse_schedule(written)

    for one in (written, schedule.document()):
        Draft202012Validator(SCHEDULE_SCHEMA).validate(one)
    assert parse_schedule(schedule.document()) == schedule
    for fire in fires(schedule, datetime(2026, 1, 1, tzinfo=UTC), 2):
        fill(schedule.data, moment(schedule.name, schedule.tz, fire.logical_at, None, "scheduled"))


def test_the_page_shows_every_field_of_a_schedule_and_what_it_says_of_clocks() -> None:
    named = {field.alias or name for part in (Schedule, Days, Dst) for name, field in part.model_fields.items()}
    shown = "\n".join(SCHEDULE_EXAMPLES)
    gap, twice = [], []
    for skipped in ("after", "shift", "skip"):
        dst = {"skipped": skipped, "doubled": "both"}
        made = parse_schedule({"name": "n", "workflow": "w", "cron": "30 2 * * *", "zone": "Europe/Berlin", "dst": dst})
        found = fires(made, datetime(2026, 3, 29, tzinfo=UTC), 1)[0].logical_at.astimezone(made.tz)
        gap.append(f"{found:%d %H:%M}")
        twice = [one.logical_at for one in fires(made, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)]

    assert not {name for name in named if f"{name}:" not in shown}
    assert not {name for name in FIELDS if f"`{name}`" not in SCHEDULES}
    assert gap == ["29 03:00", "29 03:30", "30 02:30"]
    assert [f"{one:%d %H:%M}" for one in twice] == ["25 00:30", "25 01:30"]


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_any_workflow_fits_the_schema_and_survives_yaml_and_json_unchanged(data: st.DataObject) -> None:
    made: dict[str, Any] = document(lambda options: data.draw(st.sampled_from(options)))
    workflow = parse_workflow(made)

    Draft202012Validator(SCHEMA).validate(made)
    assert load_workflow(dump_workflow(workflow)).sha256 == workflow.sha256
    assert parse_workflow(json.loads(json.dumps(workflow.document()))).sha256 == workflow.sha256
