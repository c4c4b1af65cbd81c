from datetime import timedelta
from uuid import UUID

import pytest
from millrace.inference.commands import Label, ReadDeployments
from millrace.inference.domain.canary import Evidence, Verdict
from millrace.inference.domain.routing import Arm, Deployment, Route, State
from millrace.inference.handlers import list_deployments
from millrace.inference.store import PastVerdict, Store
from millrace.runtime.errors import NotFound

IN_USE, CANARY = UUID(int=1), UUID(int=2)


async def deployment(tx: Store, deployment_id: UUID, task_id: UUID, model: str = "late") -> Deployment:
    fresh = Deployment("demo", deployment_id, model, 1, "id", {"model.onnx": "a"}, State.LOADING, "00-trace", tx.now)
    return await tx.deployment("demo", await tx.start_deployment("demo", task_id, fresh))


def observe(tx: Store, key: str, in_use: float, canary: float | None) -> None:
    tx.add_observation("demo", CANARY, key, in_use, canary)


def label(tx: Store, key: str, truth: float, *, namespace: str = "demo", model: str = "late") -> None:
    tx.add_label(Label(namespace=namespace, model=model, request_key=key, label=truth))


async def test_a_task_tried_again_goes_on_with_the_deployment_it_has(tx: Store) -> None:
    first = await deployment(tx, IN_USE, UUID(int=8))
    tx.set_state("demo", IN_USE, State.FAILED)
    again = await deployment(tx, CANARY, UUID(int=8))

    assert first == again
    with pytest.raises(NotFound, match=str(CANARY)):
        await tx.deployment("demo", CANARY)
    with pytest.raises(NotFound):
        await tx.deployment("other", IN_USE)


async def test_deployments_are_listed_by_model(tx: Store) -> None:
    late = await deployment(tx, IN_USE, UUID(int=8))
    other = await deployment(tx, CANARY, UUID(int=9), model="other")

    assert await tx.deployments("demo", "late", 5) == [late]
    assert {one.deployment_id for one in await tx.deployments("demo", None, 5)} == {IN_USE, other.deployment_id}
    assert await tx.deployments("other", None, 5) == []


async def test_deployments_are_listed_page_by_page_the_newest_first(tx: Store) -> None:
    made = [await deployment(tx, UUID(int=n), UUID(int=100 + n)) for n in range(1, 4)]

    first, before = await list_deployments(ReadDeployments(namespace="demo", limit=2), tx)
    rest, end = await list_deployments(ReadDeployments(namespace="demo", limit=2, before=before), tx)

    assert [*first, *rest] == made[::-1]
    assert (len(first), end) == (2, None)
    with pytest.raises(NotFound, match="deployment"):
        await list_deployments(ReadDeployments(namespace="other", before=before), tx)


async def test_a_route_is_kept_with_its_changes_and_those_who_take_part(tx: Store) -> None:
    for place, who in enumerate((IN_USE, CANARY, UUID(int=3))):
        await deployment(tx, who, UUID(int=100 + place))
    empty, held = await tx.route("demo", "late"), await tx.hold_route("demo", "late")
    route = Route(IN_USE, CANARY, 25, tripped="why", generation=4)

    tx.save_route("demo", "late", route, [Arm(IN_USE, 75), Arm(CANARY, 25)], "stage 3")

    assert empty == held == Route()
    assert await tx.hold_route("demo", "late") == await tx.route("demo", "late") == route
    assert await tx.routes() == {("demo", "late"): route}
    assert set(await tx.routed()) == {IN_USE, CANARY}
    changes = [(past.deployment_id, past.weight, past.reason) for past in await tx.shifts("demo", "late", 5)]
    assert changes == [(IN_USE, 75, "stage 3"), (CANARY, 25, "stage 3")]


async def test_labels_and_observations_meet_whichever_comes_first_and_the_first_counts(tx: Store) -> None:
    canary = await deployment(tx, CANARY, UUID(int=9))
    label(tx, "k0", 0)
    for _ in range(2):
        for key in ("k0", "k1", "k2"):
            observe(tx, key, 0.5, 0.4)
    observe(tx, "k0", 0.9, 0.9)
    label(tx, "k0", 1)
    label(tx, "k1", 1)

    evidence = await tx.evidence(canary)

    # k0 is 0: .16 - .25; k1 is 1: .36 - .25; k2 has no label.
    assert evidence.answers == 2
    assert evidence.mean_difference == pytest.approx((-0.09 + 0.11) / 2)
    assert evidence.standard_error == pytest.approx(0.1)
    assert await tx.observed("demo", CANARY) == 3


async def test_labels_of_other_models_and_namespaces_do_not_count(tx: Store) -> None:
    canary = await deployment(tx, CANARY, UUID(int=9))
    observe(tx, "k", 0.5, 0.4)
    label(tx, "k", 1, namespace="other")
    label(tx, "k", 1, model="other")

    assert await tx.evidence(canary) == Evidence()


async def test_a_canary_that_gave_no_score_was_as_wrong_as_can_be(tx: Store) -> None:
    canary = await deployment(tx, CANARY, UUID(int=9))
    observe(tx, "k", 0.5, None)
    label(tx, "k", 1)

    assert (await tx.evidence(canary)).mean_difference == pytest.approx(1 - 0.25)


async def test_verdicts_are_kept_in_order_with_their_numbers(tx: Store) -> None:
    passed = PastVerdict(1, Verdict.PASS, Evidence(20, 0.001, 0.02))
    unknown = PastVerdict(5, Verdict.UNKNOWN, Evidence(30, 0.01, 0.03))
    tx.add_verdict("demo", CANARY, passed)
    tx.add_verdict("demo", CANARY, unknown)

    assert await tx.verdicts("demo", CANARY) == [passed, unknown]
    assert await tx.verdicts("demo", IN_USE) == []


async def test_what_a_judge_waits_for_and_what_arms_answered_add_up(tx: Store) -> None:
    before = await tx.wanted_answers("demo", CANARY)
    tx.want_answers("demo", CANARY, 20)
    waiting = await tx.wanted_answers("demo", CANARY)
    tx.want_answers("demo", CANARY, 120)
    tx.add_stats("demo", CANARY, 10, 1)
    tx.add_stats("demo", CANARY, 5, 0)

    assert (before, waiting, await tx.wanted_answers("demo", CANARY)) == (0, 20, 120)
    assert await tx.stats("demo", CANARY) == (15, 1)
    assert await tx.stats("demo", IN_USE) == (0, 0)


async def test_old_observations_and_labels_are_forgotten(tx: Store) -> None:
    canary = await deployment(tx, CANARY, UUID(int=9))
    observe(tx, "k", 0.5, 0.5)
    label(tx, "k", 1)
    await tx.fetch("UPDATE canary_observation SET observed_at = now() - interval '91 days' RETURNING 1")

    await tx.fetch("UPDATE label SET labelled_at = now() - interval '91 days' RETURNING 1")

    none = [await forget(tx.now - timedelta(days=92), 9) for forget in (tx.forget_observations, tx.forget_labels)]
    kept = await tx.evidence(canary)
    some = [await forget(tx.now - timedelta(days=90), 9) for forget in (tx.forget_observations, tx.forget_labels)]

    assert (none, some, kept.answers) == ([0, 0], [1, 1], 1)
    assert await tx.observed("demo", CANARY) == 0
