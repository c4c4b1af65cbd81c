"""What a benchmark found beside what was asked of it."""

import json
from collections.abc import Mapping
from math import inf
from typing import Any


def tell(
    found: Mapping[str, Any],
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
) -> int:
    """Print figures as one line of JSON, `missed` naming the bars that were not reached; return the exit code.

    A bar whose figure was not found is not reached.
    """
    missed = [f"{name} >= {bar:g}" for name, bar in (at_least or {}).items() if not found.get(name, -inf) >= bar]
    missed += [f"{name} <= {bar:g}" for name, bar in (at_most or {}).items() if not found.get(name, inf) <= bar]
    print(json.dumps({**found, "held": not missed, "missed": missed}))
    return 1 if missed else 0
