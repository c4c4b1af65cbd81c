"""How long a task waits before it is tried again."""

import zlib
from uuid import UUID

from millrace.core.parts import Backoff

#: By then the longest wait is reached with any factor that makes a difference, and no float is too large.
MOST_DOUBLINGS = 60


def backoff_s(policy: Backoff, failures: int, key: UUID, attempt: int) -> float:
    """Return the wait before the next attempt, with a jitter that is the same whenever it is asked."""
    longest_s = max(policy.max_backoff_s, policy.backoff_s)
    wait_s = min(longest_s, policy.backoff_s * policy.factor ** min(MOST_DOUBLINGS, max(0, failures - 1)))
    spread = zlib.crc32(key.bytes + attempt.to_bytes(4, "big")) / 0xFFFFFFFF
    return wait_s * (1 + policy.jitter * (2 * spread - 1))
