from typing import Any

import pytest
from millrace.core.approvals import form_problem, objection
from millrace.core.parts import Approve, FormField

FORM = {
    "budget": FormField(type="number"),
    "region": FormField(type="choice", choices=("eu", "us")),
    "why": FormField(required=False),
    "sure": FormField(type="boolean", required=False),
}


@pytest.mark.parametrize(
    ("approve", "principal", "role", "may"),
    [
        (Approve(), "ada", "EDIT", True),
        (Approve(), "ada", "READ", False),
        (Approve(), "ada", "", False),
        (Approve(), "author", "MANAGE", False),
        (Approve(assignees=("ada",)), "ada", "", True),
        (Approve(assignees=("author",)), "author", "MANAGE", False),
        (Approve(assignees=("ada",)), "bob", "MANAGE", False),
        (Approve(assignees=("ada",), role="MANAGE"), "bob", "MANAGE", True),
        (Approve(assignees=("ada",), role="MANAGE"), "bob", "EDIT", False),
    ],
)
def test_who_is_named_or_has_the_role_may_decide_but_for_the_author(
    approve: Approve, principal: str, role: str, *, may: bool
) -> None:
    assert (objection(approve, "ok", principal=principal, role=role, author="author") is None) == may


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"budget": 1.5, "region": "eu"}, None),
        ({"budget": 1, "region": "us", "why": "cheap", "sure": True}, None),
        (None, "form.budget: is missing; it is a number"),
        ([], "form: it is list, not an object"),
        ({"budget": True, "region": "eu"}, "form.budget: it is 'True', not a number"),
        ({"budget": 1, "region": "asia"}, "form.region: it is 'asia', not one of eu, us"),
        ({"budget": 1, "region": "eu", "sure": "yes"}, "form.sure: it is 'yes', not a boolean"),
        ({"budget": 1, "region": "eu", "more": 1}, "form.more: unknown field; known are budget, region, why, sure"),
    ],
)
def test_a_form_is_filled_in_as_it_asks_or_says_what_would_be_right(given: Any, problem: str | None) -> None:
    assert form_problem(Approve(form=FORM), given) == problem
