"""What inference asks of feature: the newest values of some entities, kept for a moment."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import grpc
import numpy as np
import numpy.typing as npt
from millrace.contracts.rpc.feature.v1 import feature_pb2 as pb
from millrace.contracts.rpc.feature.v1.feature_pb2_grpc import FeatureServiceStub

Entity = dict[str, str]
Key = tuple[str, tuple[str, ...], str]
MOST_KEPT = 50_000


class OnlineFeatures:
    """Values of the online table, asked for once per request and remembered for `ttl_s`.

    Args:
        channel: Returns a channel to feature that goes on with the current call's deadline and caller.
        ttl_s: How long a value may be old beyond what the table has, seconds; 0 remembers nothing.
        timeout_s: The longest an answer is waited for, seconds; the current call's deadline may be nearer.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        ttl_s: float,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._kept: OrderedDict[Key, tuple[float, dict[str, float]]] = OrderedDict()

    async def columns(
        self, namespace: str, views: Sequence[str], names: Sequence[str], entities: Sequence[Entity]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Return the features named, each a column of one value per entity; NaN where nothing is known.

        Raises:
            Unavailable: Feature does not answer.
        """
        asked = [json.dumps(entity, sort_keys=True) for entity in entities]
        found = {one: values for one in dict.fromkeys(asked) if (values := self._remembered(namespace, views, one))}
        missing = [one for one in dict.fromkeys(asked) if one not in found]
        if missing:
            found |= await self._fetch(namespace, views, missing)
        return {name: np.array([found[one].get(name, np.nan) for one in asked], np.float64) for name in names}

    async def _fetch(self, namespace: str, views: Sequence[str], missing: Sequence[str]) -> dict[str, dict[str, float]]:
        request = pb.GetOnlineRequest(namespace=namespace, views=views, entities_json=missing)
        answer = await FeatureServiceStub(self._channel()).GetOnline(request, timeout=self._timeout_s)
        found = {
            one: dict(zip(answer.features, row.values, strict=True))
            for one, row in zip(missing, answer.rows, strict=True)
        }
        until = self._clock() + self._ttl_s
        for one, values in found.items():
            self._kept[(namespace, tuple(views), one)] = (until, values)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    def _remembered(self, namespace: str, views: Sequence[str], one: str) -> dict[str, float] | None:
        key = (namespace, tuple(views), one)
        until, values = self._kept.get(key, (0.0, None))
        if values is not None and until <= self._clock():
            del self._kept[key]
            return None
        return values
