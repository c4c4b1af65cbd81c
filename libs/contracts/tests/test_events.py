"""Events keep their promises: what was said once is understood for ever."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.contracts.event import Event, topic_fields
from pydantic import ValidationError

from infra.documents import SCHEMAS, events, schema, short_name

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))
EVENTS = {short_name(cls): cls for cls in events()}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def sample_of(name: str) -> Any:
    return json.loads((Path(__file__).parent / f"samples/{name}.1.json").read_text())


def held_in(said: Any, understood: Any) -> bool:
    """Whether everything that was said is still there; lists and tuples are one in JSON."""
    if isinstance(said, dict):
        return all(name in understood and held_in(value, understood[name]) for name, value in said.items())
    return bool(said == understood)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_sample_parses_and_nothing_it_says_is_lost(path: Path) -> None:
    event = EVENTS[path.stem.rpartition(".")[0]].model_validate_json(path.read_bytes())

    assert held_in(json.loads(path.read_text()), event.model_dump(mode="json"))


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_has_a_sample_that_fills_every_field_it_had_then(name: str) -> None:
    required = {field for field, info in EVENTS[name].model_fields.items() if info.is_required()}

    assert required <= set(sample_of(name)), "a field that is added later needs a default"


@pytest.mark.parametrize("name", EVENTS)
def test_the_committed_schema_is_that_of_the_class(name: str) -> None:
    assert json.loads((ROOT / SCHEMAS / f"{name}.json").read_text()) == schema(EVENTS[name]), "run `make docs`"


@pytest.mark.parametrize("name", EVENTS)
def test_topic_and_key_come_from_fields_of_the_event(name: str) -> None:
    event = EVENTS[name]

    assert event.key_field in event.model_fields
    assert set(topic_fields(event.topic)) <= set(event.model_fields)
    assert event.model_validate(sample_of(name)).key() == str(sample_of(name)[event.key_field])


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_names_its_tenant_is_frozen_and_documented(name: str) -> None:
    event: Any = EVENTS[name].model_validate(sample_of(name))

    assert type(event).__doc__
    assert type(event).model_fields["namespace"].is_required()
    with pytest.raises(ValidationError, match="frozen"):
        event.namespace = "other"


@given(name=st.sampled_from(sorted(EVENTS)), added=st.dictionaries(st.text(min_size=1), json_values, max_size=4))
def test_fields_that_a_later_publisher_adds_change_nothing(name: str, added: dict[str, Any]) -> None:
    event: type[Event] = EVENTS[name]
    unknown = {field: value for field, value in added.items() if field not in event.model_fields}

    assert event.model_validate(unknown | sample_of(name)) == event.model_validate(sample_of(name))


@given(text=st.text(max_size=70))
def test_a_namespace_is_a_dns_label(text: str) -> None:
    label = 0 < len(text) <= 63 and all(c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in text)
    label = label and not text.startswith("-") and not text.endswith("-")
    deployment = sample_of("inference.DeploymentReady") | {"namespace": text}

    if label:
        assert EVENTS["inference.DeploymentReady"].model_validate(deployment).namespace == text
    else:
        with pytest.raises(ValidationError):
            EVENTS["inference.DeploymentReady"].model_validate(deployment)
