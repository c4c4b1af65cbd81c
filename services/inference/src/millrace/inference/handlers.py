"""Everything inference does in a transaction: one function per command, event and kind of task's result."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from millrace.contracts.inference import CanaryJudged, DeploymentReady, Prediction, PredictionsLogged, TrafficShifted
from millrace.contracts.openlineage import ref
from millrace.contracts.tasks import Output
from millrace.inference.commands import Judge, Label, ReadCanary, ReadDeployments, ReadRoute, Shift
from millrace.inference.domain.canary import Evidence, Judgement, Verdict
from millrace.inference.domain.routing import Deployment, Route, State, left, moves
from millrace.inference.store import PastShift, PastVerdict, Store
from millrace.runtime.errors import InvalidInput
from millrace.runtime.subscriptions import Record, Subscription

LISTED = 200
EVENT_BYTES = 400_000
"""About how large an event of predictions gets before the next one begins."""


@dataclass(frozen=True)
class Judged:
    """What a judge found."""

    deployment_id: UUID
    verdict: Verdict
    evidence: Evidence
    reason: str = ""


@dataclass(frozen=True)
class Trial:
    """A canary as its judge sees it.

    Attributes:
        over: The verdict where there is nothing left to wait for: it was tripped, or has left the route.
    """

    evidence: Evidence
    over: Judged | None = None


@dataclass(frozen=True)
class Observation:
    """A request scored by both arms; the canary's score is None where it gave no finite one."""

    namespace: str
    deployment_id: UUID
    request_key: str
    in_use_score: float
    canary_score: float | None


@dataclass(frozen=True)
class Answers:
    """What a process has answered since it last told.

    Attributes:
        predictions: With the deployment that gave each.
        outcomes: Per namespace and deployment, how many answers were good (True) and bad.
    """

    predictions: Sequence[tuple[Deployment, Prediction]] = ()
    observations: Sequence[Observation] = ()
    outcomes: Sequence[tuple[tuple[str, UUID], Counter[bool]]] = ()


async def announce_deployment(deployment_id: UUID, tx: Store) -> Output:
    """Say that a deployment serves what training made; control may now give it traffic."""
    namespace = tx.task.namespace
    deployment = await tx.deployment(namespace, deployment_id)
    tx.set_state(namespace, deployment_id, State.READY)
    tx.emit(DeploymentReady(**_about(deployment)))
    tx.used(ref("training.model", deployment.version_id))
    tx.made(ref("inference.deployment", str(deployment_id)), model=deployment.model, version=deployment.version)
    route = await tx.route(namespace, deployment.model)
    return {
        "deployment_id": str(deployment_id),
        "model": deployment.model,
        "version": deployment.version,
        "first": route.in_use is None,
    }


async def shift_traffic(asked: Shift, tx: Store) -> Output:
    """Give a deployment its share; a canary that is shifted to 0 is gone."""
    deployment = await tx.deployment(tx.task.namespace, asked.deployment_id)
    if deployment.state not in {State.READY, State.RETIRED} and asked.weight > 0:
        raise InvalidInput(f"deployment {asked.deployment_id} is {deployment.state}, not ready: it can take no traffic")
    before = await tx.hold_route(deployment.namespace, deployment.model)
    after = before.shifted(asked.deployment_id, asked.weight)
    await _change(deployment, before, after, asked.reason, tx)
    return {"deployment_id": str(asked.deployment_id), "weight": asked.weight, "generation": after.generation}


async def begin_judgement(namespace: str, asked: Judge, tx: Store) -> Judgement:
    """Return what a judge waits for: more labelled answers than the verdict before it had.

    Raises:
        NotFound: There is no such deployment.
    """
    await tx.deployment(namespace, asked.deployment_id)
    earlier = await tx.verdicts(namespace, asked.deployment_id)
    judgement = Judgement((earlier[-1].evidence.answers if earlier else 0) + asked.min_samples, asked.strict)
    tx.want_answers(namespace, asked.deployment_id, judgement.wanted)
    return judgement


async def trial_so_far(namespace: str, deployment_id: UUID, tx: Store) -> Trial:
    """Return what the labelled answers say of a canary so far, and whether its trial is over.

    Raises:
        InvalidInput: It is no canary but the deployment in use: there is nothing to compare it with.
    """
    deployment = await tx.deployment(namespace, deployment_id)
    route = await tx.route(namespace, deployment.model)
    evidence = await tx.evidence(deployment)
    if route.in_use == deployment_id:
        raise InvalidInput(f"deployment {deployment_id} is in use: there is nothing to compare it with")
    return Trial(evidence, _over(route, deployment_id, evidence))


def _over(route: Route, deployment_id: UUID, evidence: Evidence) -> Judged | None:
    """Return the verdict on a canary that the route says nothing is left to wait for of."""
    if deployment_id not in (route.in_use, route.canary):
        return Judged(deployment_id, Verdict.UNKNOWN, evidence, "it has left the route")
    if deployment_id == route.canary and route.tripped:
        return Judged(deployment_id, Verdict.FAIL, evidence, route.tripped)
    return None


async def keep_verdict(found: Judged, tx: Store) -> Output:
    """Keep a verdict and announce it; a canary that passes with all of the traffic is now the one in use.

    One that was tripped or rolled back since its judge last looked has not passed.
    """
    namespace = tx.task.namespace
    deployment = await tx.deployment(namespace, found.deployment_id)
    before = await tx.hold_route(namespace, deployment.model)
    over = _over(before, found.deployment_id, found.evidence) if found.verdict is Verdict.PASS else None
    judged = over or found
    weight = before.weight_of(judged.deployment_id)
    tx.add_verdict(namespace, judged.deployment_id, PastVerdict(weight, judged.verdict, judged.evidence))
    tx.want_answers(namespace, judged.deployment_id, 0)
    if judged.verdict is Verdict.PASS and before.canary == judged.deployment_id:
        await _change(deployment, before, before.settled(), "passed with all of the traffic", tx)
    evidence = judged.evidence
    numbers = {
        "verdict": judged.verdict.value,
        "answers": evidence.answers,
        "mean_difference": evidence.mean_difference,
        "standard_error": evidence.standard_error,
    }
    tx.emit(CanaryJudged(**_about(deployment), **numbers))
    return numbers | {"deployment_id": str(judged.deployment_id), "weight": weight, "reason": judged.reason}


async def trip_canary(deployment: Deployment, reason: str, tx: Store) -> None:
    """Take a canary that a serving process found broken out of traffic for all of them."""
    before = await tx.hold_route(deployment.namespace, deployment.model)
    await _change(deployment, before, before.with_trip(deployment.deployment_id, reason), f"tripped: {reason}", tx)


async def keep_answers(answers: Answers, tx: Store) -> None:
    """Log what was answered, and keep what a judge needs of it."""
    by_deployment: dict[UUID, list[tuple[Deployment, Prediction]]] = defaultdict(list)
    for deployment, prediction in answers.predictions:
        by_deployment[deployment.deployment_id].append((deployment, prediction))
    for found in by_deployment.values():
        for predictions in _pages(prediction for _, prediction in found):
            tx.emit(PredictionsLogged(**_about(found[0][0]), predictions=predictions))
    # In one order for all processes, so that two that keep the same rows wait for one another rather than deadlock.
    for seen in sorted(answers.observations, key=lambda one: (one.namespace, one.deployment_id, one.request_key)):
        tx.add_observation(seen.namespace, seen.deployment_id, seen.request_key, seen.in_use_score, seen.canary_score)
    for (namespace, deployment_id), counts in sorted(answers.outcomes, key=lambda one: one[0]):
        tx.add_stats(namespace, deployment_id, counts.total(), counts[False])


async def keep_labels(records: Sequence[Record], tx: Store) -> None:
    """Keep what turned out to be true, for judges; the first label of a request counts.

    Raises:
        InvalidInput: A record is no CloudEvent with data {model, request_key, label} and a namespace.
    """
    for label in sorted(map(read_label, records), key=lambda one: (one.namespace, one.model, one.request_key)):
        tx.add_label(label)


def read_label(record: Record) -> Label:
    """Return the label in a CloudEvent, in binary or in structured mode.

    Raises:
        InvalidInput: It has none.
    """
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    content = _json_object(record.value)
    namespace = headers.get("ce_namespace", "")
    if headers.get("content-type", "").startswith("application/cloudevents+json"):
        namespace, content = str(content.get("namespace", "")), _object(content.get("data"))
    fields = {name: content.get(name) for name in ("model", "request_key", "label")}
    return Label(namespace=namespace or content.get("namespace", ""), **fields)


async def current_route(command: ReadRoute, tx: Store) -> tuple[Route, dict[UUID, Deployment], list[PastShift]]:
    """Return where a model's traffic goes, who takes part, and the changes that led there."""
    route = await tx.route(command.namespace, command.model)
    taking = {arm.deployment_id: await tx.deployment(command.namespace, arm.deployment_id) for arm in route.arms()}
    return route, taking, await tx.shifts(command.namespace, command.model, LISTED)


async def list_deployments(command: ReadDeployments, tx: Store) -> tuple[list[Deployment], UUID | None]:
    """Return a page of deployments, newest first, and the one before which the next begins; None after the last.

    Raises:
        NotFound: The one before which this page begins does not exist.
    """
    most = command.limit or LISTED
    if command.before is not None:
        await tx.deployment(command.namespace, command.before)
    found = await tx.deployments(command.namespace, command.model, most + 1, command.before)
    return found[:most], found[most - 1].deployment_id if len(found) > most else None


@dataclass(frozen=True)
class CanarySeen:
    """What is known of a canary's answers.

    Attributes:
        observed: Requests scored by both arms.
        wanted: Labelled answers that the running judge waits for; 0 when none runs.
    """

    observed: int
    evidence: Evidence
    wanted: int
    verdicts: list[PastVerdict]


async def canary_so_far(command: ReadCanary, tx: Store) -> CanarySeen:
    """Return what is known of a canary's answers.

    Raises:
        NotFound: There is no such deployment.
    """
    namespace, deployment_id = command.namespace, command.deployment_id
    deployment = await tx.deployment(namespace, deployment_id)
    return CanarySeen(
        await tx.observed(namespace, deployment_id),
        await tx.evidence(deployment),
        await tx.wanted_answers(namespace, deployment_id),
        await tx.verdicts(namespace, deployment_id),
    )


async def _change(deployment: Deployment, before: Route, after: Route, reason: str, tx: Store) -> None:
    """Put a route in force and announce each share that changed."""
    if after == before:
        return
    namespace, moved = deployment.namespace, moves(before, after)
    tx.save_route(namespace, deployment.model, after, moved, reason)
    for arm in moved:
        one = await tx.deployment(namespace, arm.deployment_id)
        tx.emit(TrafficShifted(**_about(one), weight=arm.weight, generation=after.generation, reason=reason))
    for arm in after.arms():
        tx.set_state(namespace, arm.deployment_id, State.READY)
    for gone in left(before, after):
        tx.set_state(namespace, gone, State.RETIRED)
        tx.want_answers(namespace, gone, 0)


def _about(deployment: Deployment) -> dict[str, object]:
    names = ("namespace", "deployment_id", "model", "version", "version_id")
    return {name: getattr(deployment, name) for name in names}


def _pages(predictions: Iterable[Prediction]) -> Iterable[list[Prediction]]:
    page: list[Prediction] = []
    size = 0
    for prediction in predictions:
        if size > EVENT_BYTES:
            yield page
            page, size = [], 0
        page.append(prediction)
        size += len(prediction.model_dump_json())
    if page:
        yield page


def _json_object(value: bytes | None) -> dict[str, object]:
    try:
        return _object(json.loads(value or b""))
    except (ValueError, RecursionError):
        raise InvalidInput("the value is not JSON in UTF-8") from None


def _object(found: object) -> dict[str, object]:
    if not isinstance(found, dict):
        raise InvalidInput("a label's data is an object: {model, request_key, label}")
    return found


SUBSCRIPTIONS: tuple[Subscription, ...] = ()
