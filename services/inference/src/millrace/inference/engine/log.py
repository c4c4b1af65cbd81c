"""What was answered since it was last told: bounded, and what does not fit is counted."""

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

import numpy as np
from millrace.contracts.inference import Prediction, prediction_id, read_prediction_id
from millrace.inference.domain.routing import Deployment
from millrace.inference.engine.model import Floats

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered row.

    Attributes:
        number: A UUIDv7: when it was answered.
        values: What the model saw, in the order of `names`, shape (features,).
        texts: Whom the request was about, by name: the texts that the model takes.
    """

    deployment: Deployment
    number: UUID
    request_key: str
    score: float
    names: tuple[str, ...]
    values: Floats
    texts: dict[str, str]
    trace_id: str

    def prediction(self) -> Prediction:
        """Return it as it is logged."""
        text = prediction_id(self.deployment.deployment_id, self.number)
        return Prediction(
            prediction_id=text,
            request_key=self.request_key,
            time=read_prediction_id(text).answered_at,
            score=self.score,
            features={
                name: None if np.isnan(value) else float(value)
                for name, value in zip(self.names, self.values, strict=True)
            },
            inputs=self.texts,
            trace_id=self.trace_id,
        )


class Buffer(Generic[T]):
    """Entries that wait to be told, at most so many.

    Attributes:
        dropped: Entries that did not fit since they were last taken.
    """

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._most = most
        self._entries: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: T) -> None:
        """Add an entry, or count it where there is no room."""
        if len(self._entries) < self._most:
            self._entries.append(entry)
        else:
            self.dropped += 1

    def take(self, most: int) -> list[T]:
        """Return the oldest entries and forget them."""
        return [self._entries.popleft() for _ in range(min(most, len(self._entries)))]

    def give_back(self, entries: list[T]) -> None:
        """Put entries back that could not be told, the oldest first; what no longer fits is counted."""
        room = max(0, self._most - len(self._entries))
        self.dropped += max(0, len(entries) - room)
        self._entries.extendleft(reversed(entries[len(entries) - room :] if room < len(entries) else entries))
