from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.contracts.inference import prediction_id, read_prediction_id

AT = datetime(2013, 5, 1, 12, 0, 0, 123000, UTC)


def uuid7(at: datetime, rest: int = 0) -> UUID:
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | rest)


@given(st.uuids(version=4), st.integers(0, 2**60))
def test_an_id_says_its_deployment_and_its_time(deployment_id: UUID, rest: int) -> None:
    text = prediction_id(deployment_id, uuid7(AT, rest))

    key = read_prediction_id(text)

    assert (key.deployment_id, key.answered_at) == (deployment_id, AT)
    assert text == text.lower()
    assert text.isalnum()
    assert text[0] == "p"


@given(st.text(max_size=60))
def test_no_other_text_is_one(text: str) -> None:
    with pytest.raises(ValueError, match="no prediction's id"):
        read_prediction_id(text)


def test_a_forged_id_of_a_moment_after_the_last_year_is_none() -> None:
    with pytest.raises(ValueError, match="no prediction's id"):
        read_prediction_id(prediction_id(uuid4(), UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")))


def test_an_id_with_a_changed_end_is_none() -> None:
    text = prediction_id(uuid4(), uuid7(AT))

    for changed in (text[:-1], text + "a", text.upper(), "q" + text[1:], text[:-1] + ("b" if text[-1] != "b" else "c")):
        with pytest.raises(ValueError, match="no prediction's id"):
            read_prediction_id(changed)
