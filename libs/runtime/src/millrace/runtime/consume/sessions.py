"""Incremental fetches (KIP-227): a broker remembers what a consumer reads, and is told only what has changed."""

from collections import defaultdict
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

SESSIONS_SINCE = 7
"""The first version of the request that names a session."""
MAX_EPOCH = 2**31 - 1

Asked = dict[tuple[str, int], tuple[int, int]]
"""By topic and partition: from which offset on, and how many bytes at most."""


class FetchSession:
    """What one broker remembers of one consumer's fetches.

    A request takes the session with it and its answer brings it back, so that after a request that got none the broker
    is told everything again.
    """

    def __init__(self) -> None:
        self._id = 0
        self._epoch = 0
        self._told: Asked = {}

    def request(self, whole: FetchRequest) -> "SessionRequest":
        """Return the request that asks the same as one that names everything."""
        asked = {(topic, n): (offset, most) for topic, places in whole.topics for n, offset, most in places}
        changed = [place for place, what in asked.items() if self._told.get(place) != what]
        made = SessionRequest(whole, self._id, self._epoch, asked, changed, self._told.keys() - asked.keys())
        self.forget()
        return made

    def answered(self, request: "SessionRequest", answer: Any) -> bool:  # noqa: ANN401 - aiokafka has no types
        """Take the session back; return whether the answer is one, rather than that the broker has forgotten."""
        if answer.API_VERSION < SESSIONS_SINCE:
            return True
        if answer.error_code:
            return False
        # Without an id the broker keeps no session: there is no room for it.
        if answer.session_id:
            self._id, self._epoch, self._told = answer.session_id, request.epoch % MAX_EPOCH + 1, request.asked
        return True

    def forget(self) -> None:
        """Tell everything next time, under the same id: the broker then ends that session as it begins another."""
        self._epoch, self._told = 0, {}


class SessionRequest(FetchRequest):  # type: ignore[misc] # aiokafka publishes no types
    """A fetch that names what has changed since the session's last one.

    Attributes:
        epoch: Its number in the session; 0 begins one.
        asked: All that it asks for.
    """

    def __init__(
        self,
        whole: FetchRequest,
        session: int,
        epoch: int,
        asked: Asked,
        changed: list[tuple[str, int]],
        forgotten: set[tuple[str, int]],
    ) -> None:
        self.__dict__.update(vars(whole))
        self._topics = _by_topic({place: (place[1], *asked[place]) for place in changed})
        self.epoch = epoch
        self.asked = asked
        self._whole = whole
        self._session = session
        self._forgotten = _by_topic({place: place[1] for place in forgotten})

    def build(self, request_struct_class: Any) -> Any:  # noqa: ANN401 - aiokafka's
        """Return the request in a version that the broker has."""
        if request_struct_class.API_VERSION < SESSIONS_SINCE:
            return self._whole.build(request_struct_class)
        made = super().build(request_struct_class)
        made.session_id, made.session_epoch, made.forgotten_topics_data = self._session, self.epoch, self._forgotten
        return made


def _by_topic(what: dict[tuple[str, int], Any]) -> list[tuple[str, list[Any]]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for (topic, _), value in what.items():
        found[topic].append(value)
    return list(found.items())
