"""The Open Inference Protocol in: ask the route, look features up, score, answer, log."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from uuid import UUID

import numpy as np
from millrace.contracts import oip
from millrace.contracts.inference import prediction_id
from millrace.inference.api.telling import Teller
from millrace.inference.clients.feature import OnlineFeatures
from millrace.inference.engine.log import Answer
from millrace.inference.engine.model import Floats
from millrace.inference.engine.request import PREDICTION_ID, ROUTING_KEY, SCORE, Asked, read_request, write_response
from millrace.inference.engine.routes import Routes, Served
from millrace.inference.engine.scoring import Plan, Scored, plan, score
from millrace.inference.engine.tensors import BYTES, DOUBLE
from millrace.inference.handlers import Observation
from millrace.runtime.access import Action
from millrace.runtime.caller import caller
from millrace.runtime.errors import MillraceError
from millrace.runtime.ids import new_id
from millrace.runtime.rpc import ForeignMethod
from millrace.runtime.telemetry import link
from millrace.runtime.traceparent import current_trace_id

PLATFORM = "onnxruntime_onnx"
INLINE_ROWS = 256
"""Most rows that are scored on the event loop; a larger request would hold up the others."""


class PredictionsApi:
    """The protocol's GRPCInferenceService.

    Args:
        routes: Where traffic goes.
        features: The online table.
        teller: Keeps what was answered.
        most_rows: Most rows of one request.
        ready: Whether the service as a whole is ready.
        clock: The time that prediction ids begin with.
    """

    def __init__(
        self,
        routes: Routes,
        features: OnlineFeatures,
        teller: Teller,
        most_rows: int,
        ready: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._routes = routes
        self._features = features
        self._teller = teller
        self._most_rows = most_rows
        self._ready = ready
        self._clock = clock

    def methods(self) -> dict[str, ForeignMethod]:
        """Return the RPCs, each with who may ask: liveness everybody, a model's answers who may read its namespace."""
        everybody, readers = None, Action.READ
        return {
            name: ForeignMethod(handler, getattr(oip, f"{name}Request").FromString, _serialise, "model", action)
            for name, handler, action in (
                ("ServerLive", self.server_live, everybody),
                ("ServerReady", self.server_ready, everybody),
                ("ServerMetadata", self.server_metadata, everybody),
                ("ModelReady", self.model_ready, readers),
                ("ModelMetadata", self.model_metadata, readers),
                ("ModelInfer", self.infer, readers),
            )
        }

    async def server_live(self, _request: oip.ServerLiveRequest, _: object) -> oip.ServerLiveResponse:
        """Say that the process answers."""
        return oip.ServerLiveResponse(live=True)

    async def server_ready(self, _request: oip.ServerReadyRequest, _: object) -> oip.ServerReadyResponse:
        """Say whether the service takes requests."""
        return oip.ServerReadyResponse(ready=self._ready())

    async def server_metadata(self, _request: oip.ServerMetadataRequest, _: object) -> oip.ServerMetadataResponse:
        """Say what answers; it has no extensions of the protocol."""
        return oip.ServerMetadataResponse(name="millrace-inference", version=version("millrace-inference"))

    async def model_ready(self, request: oip.ModelReadyRequest, _: object) -> oip.ModelReadyResponse:
        """Say whether a model, or one version of it, is served."""
        try:
            served = await self._routes.served(caller().namespace, request.name)
        except MillraceError:
            return oip.ModelReadyResponse(ready=False)
        versions = {str(arm.deployment.version) for arm in served.arms.values()}
        return oip.ModelReadyResponse(ready=not request.version or request.version in versions)

    async def model_metadata(self, request: oip.ModelMetadataRequest, _: object) -> oip.ModelMetadataResponse:
        """Say what a model takes and gives; of several versions served, the one in use says it."""
        served = await self._routes.served(caller().namespace, request.name)
        arm = served.arm_of(int(request.version)) if request.version.isdecimal() else served.in_use
        versions = sorted({one.deployment.version for one in served.arms.values()})
        response = oip.ModelMetadataResponse(name=request.name, versions=map(str, versions), platform=PLATFORM)
        for names, datatype in (((*arm.model.entity, ROUTING_KEY), BYTES), (arm.model.sent, DOUBLE)):
            for name in names:
                response.inputs.add(name=name, datatype=datatype, shape=[-1])
        response.outputs.add(name=SCORE, datatype=DOUBLE, shape=[-1])
        response.outputs.add(name=PREDICTION_ID, datatype=BYTES, shape=[-1])
        return response

    async def infer(self, request: oip.ModelInferRequest, _: object) -> oip.ModelInferResponse:
        """Answer a request by the arms that its keys belong to; while a canary is on trial, both score keyed rows."""
        namespace = caller().namespace
        asked = read_request(request, self._most_rows)
        served = await self._routes.served(namespace, asked.model)
        now = self._clock()
        numbers = [new_id(now) for _ in range(asked.rows)]
        try:
            planned = plan(asked, served, namespace, [str(number) for number in numbers])
            planned, online = await self._looked_up(namespace, asked, planned)
            columns = asked.numbers | online
            if asked.rows > INLINE_ROWS:
                scored = await asyncio.to_thread(score, asked.model, planned, columns)
            else:
                scored = score(asked.model, planned, columns)
        finally:
            for arm in served.arms.values():
                self._routes.trip_if_broken(namespace, asked.model, arm)
        for arm in dict.fromkeys(scored.arms):
            link(arm.deployment.traceparent)
        self._log(asked, scored, columns, numbers)
        self._observe(namespace, asked, planned, scored)
        return _response(asked, served, scored, numbers)

    async def _looked_up(self, namespace: str, asked: Asked, planned: Plan) -> tuple[Plan, dict[str, Floats]]:
        """Return the online features, and who answers now that they are known.

        Where only the canary's views cannot be read, the arm in use answers all, and the canary is to blame.
        """
        try:
            return planned, await self._read(namespace, asked, planned)
        except MillraceError:
            alone = planned.without_canary()
            if planned.canary is None or alone.views() == planned.views():
                raise
            found = await self._read(namespace, asked, alone)
            planned.canary.note(0, asked.rows)
            return alone, found

    async def _read(self, namespace: str, asked: Asked, planned: Plan) -> dict[str, Floats]:
        names = planned.looked_up()
        if not names:
            return {}
        return await self._features.columns(namespace, planned.views(), names, asked.entities(planned.entity()))

    def _log(self, asked: Asked, scored: Scored, columns: Mapping[str, Floats], numbers: Sequence[UUID]) -> None:
        trace_id = current_trace_id()
        for row, (arm, number) in enumerate(zip(scored.arms, numbers, strict=True)):
            names = arm.model.names
            self._teller.answers.add(
                Answer(
                    deployment=arm.deployment,
                    number=number,
                    request_key=asked.routing_keys[row] or asked.request_id,
                    score=float(scored.scores[row]),
                    names=names,
                    values=np.array([columns[name][row] for name in names]),
                    texts={name: asked.texts[name][row] for name in arm.model.entity},
                    trace_id=trace_id,
                )
            )

    def _observe(self, namespace: str, asked: Asked, planned: Plan, scored: Scored) -> None:
        """Keep what both arms said of each keyed row: what a judge compares once its label comes."""
        if planned.canary is None:
            return
        who = planned.canary.deployment.deployment_id
        in_use = scored.by_arm[planned.arms[0].deployment.deployment_id]
        for row in np.flatnonzero(planned.mirrored & np.isfinite(in_use)):
            said = float(scored.by_arm[who][row])
            canary = said if np.isfinite(said) else None
            key = asked.routing_keys[row]
            self._teller.observations.add(Observation(namespace, who, key, float(in_use[row]), canary))


def _response(asked: Asked, served: Served, scored: Scored, numbers: Sequence[UUID]) -> oip.ModelInferResponse:
    first = scored.arms[0].deployment
    # Rows of one request may have different arms: the first row's stands for all here, and each id tells its own.
    about: dict[str, str | int] = {"deployment_id": str(first.deployment_id), "generation": served.route.generation}
    ids = [
        prediction_id(arm.deployment.deployment_id, number) for arm, number in zip(scored.arms, numbers, strict=True)
    ]
    return write_response(asked, first.version, about, scored.scores, ids)


def _serialise(message: oip.ModelInferResponse) -> bytes:
    return message.SerializeToString()
