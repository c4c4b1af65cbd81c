"""Places where a test may have a process die: what is promised must hold at each of them."""

import os
import signal

_DIES_AT = os.environ.get("MILLRACE_FAILPOINT", "")


def failpoint(name: str) -> None:
    """Die here, as by `kill -9`, when the environment's MILLRACE_FAILPOINT names this place; else do nothing."""
    if _DIES_AT and name == _DIES_AT:
        os.kill(os.getpid(), signal.SIGKILL)
