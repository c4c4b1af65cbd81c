"""Runs as this process has committed them, so that a decision in hope need not read them."""

import time
from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from millrace.control.domain.runs import KeptRun

MOST_BYTES = 128 * 1024 * 1024
PAUSE_S = 1.0


class HotRuns:
    """Runs as this process has committed them, those that changed last, up to so many bytes.

    Another replica may have changed one since. Whoever takes it from here has its version checked by the statement that
    saves; where that has failed, nothing is taken from here for a second.

    Args:
        most_bytes: Of all together, about; one may have a quarter of it.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._runs: OrderedDict[UUID, KeptRun] = OrderedDict()
        self._taken: dict[UUID, int] = {}
        self._again_at = 0.0

    def take(self, run_ids: Iterable[UUID]) -> list[KeptRun]:
        """Return those of the runs that are here; they are no more, until they are put here again."""
        if time.monotonic() < self._again_at:
            return []
        taken = [kept for run_id in run_ids if (kept := self.drop(run_id)) is not None]
        self._taken = {kept.run.run_id: kept.version for kept in taken}
        return taken

    def put(self, kept: KeptRun) -> None:
        """Put a run here as it was committed; not one that has ended, or is too large."""
        self.drop(kept.run.run_id)
        if kept.run.state.ended or kept.size_bytes > self._most_bytes // 4:
            return
        self._runs[kept.run.run_id] = kept.copy()
        self._bytes += kept.size_bytes
        while self._bytes > self._most_bytes:
            _, oldest = self._runs.popitem(last=False)
            self._bytes -= oldest.size_bytes

    def drop(self, run_id: UUID) -> KeptRun | None:
        """Forget a run that was changed otherwise; return it as it was here."""
        kept = self._runs.pop(run_id, None)
        if kept is not None:
            self._bytes -= kept.size_bytes
        return kept

    def compare(self, held: Iterable[KeptRun]) -> None:
        """See from runs as they are whether those that were taken last were others."""
        for kept in held:
            if self._taken.pop(kept.run.run_id, kept.version) != kept.version:
                self._again_at = time.monotonic() + PAUSE_S
