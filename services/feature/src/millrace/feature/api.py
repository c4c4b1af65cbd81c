"""gRPC in: translate, hand over, translate back."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from millrace.contracts.rpc.feature.v1 import feature_pb2 as pb
from millrace.feature.commands import ApplyViews, Compute, ListViews, ReadOnline, View, parse_views
from millrace.feature.domain import AppliedView
from millrace.feature.engine.compute import compute
from millrace.feature.engine.sandbox import Bounds
from millrace.feature.engine.views import check_view
from millrace.feature.handlers import apply_views, list_views, read_online
from millrace.feature.store import Store
from millrace.runtime.errors import InvalidInput

MAX_ENTITY_CHARACTERS = 8192


class FeatureApi:
    """The FeatureService.

    Args:
        bounds: What one view's SQL may take in a call.
        concurrent_computes: Most calls that compute at once.
    """

    def __init__(self, bounds: Bounds, concurrent_computes: int) -> None:
        self._bounds = bounds
        self._slots = asyncio.Semaphore(concurrent_computes)

    async def ApplyViews(
        self, request: pb.ApplyViewsRequest, begin: Callable[[], AbstractAsyncContextManager[Store]]
    ) -> pb.ApplyViewsResponse:
        views = await asyncio.to_thread(_checked_views, request.views_yaml)
        command = ApplyViews(namespace=request.namespace, views=tuple(views))
        async with begin() as tx:
            return pb.ApplyViewsResponse(views=map(_view, await apply_views(command, tx)))

    async def GetView(self, request: pb.GetViewRequest, tx: Store) -> pb.GetViewResponse:
        return pb.GetViewResponse(view=_view((await tx.views(request.namespace, [request.view]))[0]))

    async def ListViews(self, request: pb.ListViewsRequest, tx: Store) -> pb.ListViewsResponse:
        command = ListViews(namespace=request.namespace, limit=request.limit, after=request.after)
        page, after = await list_views(command, tx)
        return pb.ListViewsResponse(views=map(_view, page), next_after=after)

    async def GetOnline(self, request: pb.GetOnlineRequest, tx: Store) -> pb.GetOnlineResponse:
        entities = _entities(request.entities_json)
        command = ReadOnline(namespace=request.namespace, views=tuple(request.views), entities=entities)
        found = await read_online(command, tx)
        rows = [pb.FeatureRow(values=row) for row in found.rows]
        return pb.GetOnlineResponse(features=found.features, rows=rows, generations=found.generations)

    async def Compute(
        self, request: pb.ComputeRequest, begin: Callable[[], AbstractAsyncContextManager[Store]]
    ) -> pb.ComputeResponse:
        command = Compute(namespace=request.namespace, views=tuple(request.views))
        async with begin() as tx:
            views = [applied.view for applied in await tx.views(command.namespace, command.views)]
        async with self._slots:
            found = await asyncio.to_thread(
                compute, views, request.spine_arrow, dict(request.sources_arrow), self._bounds
            )
        return pb.ComputeResponse(features_arrow=found)

    async def GetTrainingSet(self, request: pb.GetTrainingSetRequest, tx: Store) -> pb.GetTrainingSetResponse:
        found = await tx.training_set(request.namespace, request.training_set_id)
        built_at = Timestamp()
        if found.built_at:
            built_at.FromDatetime(found.built_at)
        return pb.GetTrainingSetResponse(
            training_set_id=found.training_set_id,
            sha256=found.sha256,
            spine_rows=found.spine_rows,
            features=found.features,
            version_ids=found.version_ids,
            view_hashes=[applied.view_hash for applied in found.views],
            request_features=found.request_features,
            online_views=[_view(applied) for applied in found.views if applied.view.online],
            built_at=built_at,
        )


def _checked_views(views_yaml: str) -> list[View]:
    views = parse_views(views_yaml)
    for view in views:
        check_view(view)
    return views


def _view(applied: AppliedView) -> pb.View:
    view = applied.view
    return pb.View(
        view=view.name,
        view_hash=applied.view_hash,
        entity=view.entity,
        features=view.features,
        sources=[source.dataset for source in view.sources],
        online=view.online,
        declaration_yaml=yaml.safe_dump(view.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        generation=applied.generation,
    )


def _entities(texts: Sequence[str]) -> tuple[dict[str, Any], ...]:
    entities = []
    for place, text in enumerate(texts):
        try:
            entity = json.loads(text[:MAX_ENTITY_CHARACTERS])
            json.dumps(entity, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError):
            entity = None
        if not isinstance(entity, dict):
            raise InvalidInput(f"entity {place} is no JSON object of at most {MAX_ENTITY_CHARACTERS} characters")
        entities.append(entity)
    return tuple(entities)
