"""gRPC in for deployments and routes: translate, hand over, translate back."""

from millrace.contracts.rpc.inference.v1 import inference_pb2 as pb
from millrace.inference.commands import ReadCanary, ReadDeployments, ReadRoute
from millrace.inference.domain.routing import Deployment
from millrace.inference.handlers import canary_so_far, current_route, list_deployments
from millrace.inference.store import PastShift, PastVerdict, Store


class InferenceApi:
    """The InferenceService."""

    async def GetRoute(self, request: pb.GetRouteRequest, tx: Store) -> pb.GetRouteResponse:
        """See the proto."""
        command = ReadRoute(namespace=request.namespace, model=request.model)
        route, deployments, shifts = await current_route(command, tx)
        arms = [
            pb.Arm(
                deployment_id=str(arm.deployment_id),
                version=deployments[arm.deployment_id].version,
                weight=arm.weight,
                tripped=bool(route.tripped) and arm.deployment_id == route.canary,
            )
            for arm in route.arms()
        ]
        return pb.GetRouteResponse(generation=route.generation, arms=arms, history=map(_shift, shifts))

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, tx: Store) -> pb.ListDeploymentsResponse:
        """See the proto."""
        command = ReadDeployments(
            namespace=request.namespace,
            model=request.model or None,
            limit=request.limit,
            before=request.before_deployment_id or None,
        )
        page, before = await list_deployments(command, tx)
        return pb.ListDeploymentsResponse(
            deployments=map(_deployment, page), next_before_deployment_id=str(before or "")
        )

    async def GetCanary(self, request: pb.GetCanaryRequest, tx: Store) -> pb.GetCanaryResponse:
        """See the proto."""
        command = ReadCanary(namespace=request.namespace, deployment_id=request.deployment_id)
        seen = await canary_so_far(command, tx)
        return pb.GetCanaryResponse(
            answers=seen.observed,
            labelled=seen.evidence.answers,
            wanted=seen.wanted,
            verdicts=map(_verdict, seen.verdicts),
        )


def _shift(past: PastShift) -> pb.Shift:
    answer = pb.Shift(
        deployment_id=str(past.deployment_id),
        version=past.version,
        weight=past.weight,
        generation=past.generation,
        reason=past.reason,
    )
    answer.time.FromDatetime(past.shifted_at)
    return answer


def _deployment(deployment: Deployment) -> pb.Deployment:
    answer = pb.Deployment(
        deployment_id=str(deployment.deployment_id),
        model=deployment.model,
        version=deployment.version,
        version_id=deployment.version_id,
        state=deployment.state,
    )
    answer.time.FromDatetime(deployment.created_at)
    return answer


def _verdict(past: PastVerdict) -> pb.Verdict:
    return pb.Verdict(
        weight=past.weight,
        verdict=past.verdict,
        answers=past.evidence.answers,
        mean_difference=past.evidence.mean_difference,
        standard_error=past.evidence.standard_error,
    )
