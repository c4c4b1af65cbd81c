"""What a benchmark found beside what was asked of it."""

import json
from collections.abc import Mapping


def tell(
    found: Mapping[str, float],
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
) -> int:
    """Print figures as one line of JSON, `missed` naming the bars that were not reached; return the exit code."""
    missed = [f"{name} >= {bar:g}" for name, bar in (at_least or {}).items() if found[name] < bar]
    missed += [f"{name} <= {bar:g}" for name, bar in (at_most or {}).items() if found[name] > bar]
    print(json.dumps({**found, "held": not missed, "missed": missed}))
    return 1 if missed else 0
