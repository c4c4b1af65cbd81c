"""The peers there are, those nearest to us first."""

from argparse import ArgumentTypeError

from tests.benchmarks.peers.airflow.peer import AIRFLOW
from tests.benchmarks.peers.dagster.peer import DAGSTER
from tests.benchmarks.peers.dbos.peer import DBOS
from tests.benchmarks.peers.peer import Peer
from tests.benchmarks.peers.prefect.peer import PREFECT
from tests.benchmarks.peers.restate.peer import RESTATE
from tests.benchmarks.peers.temporal.peer import TEMPORAL

PEERS = {peer.name: peer for peer in (RESTATE, DBOS, TEMPORAL, DAGSTER, PREFECT, AIRFLOW)}


def named(names: str) -> tuple[Peer, ...]:
    """Return the peers of these names, with commas between; of all, for `all`.

    Raises:
        ArgumentTypeError: There is none of such a name.
    """
    asked = list(PEERS) if names == "all" else names.split(",")
    if unknown := [name for name in asked if name not in PEERS]:
        raise ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(PEERS)}")
    return tuple(PEERS[name] for name in asked)
