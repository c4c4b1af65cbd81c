"""Peers beside ourselves: what each costs over what we cost, and whether that is as much as is claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from tests.benchmarks.peers.environment import NotRun
from tests.benchmarks.peers.peer import Found, Peer


def bars(peers: Sequence[Peer]) -> dict[str, float]:
    """Return how much each peer's processor time per step is over ours, at least, by the name of the figure."""
    return {_ratio_of(peer.name): peer.bar for peer in peers}


def figures(found: Mapping[str, Found | NotRun], ours: Found) -> dict[str, Any]:
    """Return what was found of each peer, and over ours where it ran.

    One that did not run has no figure, so that its bar is missed.
    """
    ran = {name: it for name, it in found.items() if isinstance(it, Found)}
    return {
        **{_ratio_of(name): round(it.cpu_ms_per_step / ours.cpu_ms_per_step, 3) for name, it in ran.items()},
        **({"peers": {name: _told(it) for name, it in found.items()}} if found else {}),
    }


def shown(peers: Sequence[Peer], found: Mapping[str, Found | NotRun], ours: Found) -> Group:
    """Return the figures of peers beside ours, a row each, and below how each ran or why it did not."""
    told = figures(found, ours)
    table = Table("", "version", "runs/s", "CPU ms per step", "over ours", "bar")
    table.add_row("millrace", ours.version, *_rates(ours), "1", "", style="bold")
    for peer in peers:
        it = found[peer.name]
        if isinstance(it, Found):
            over = f"{told[_ratio_of(peer.name)]:.2f}"
            table.add_row(peer.name, it.version, *_rates(it), over, f">= {peer.bar:g}")
        else:
            table.add_row(peer.name, "", "not run", "", "", f">= {peer.bar:g}")
    return Group(table, *(f"{peer.name}: {_how(peer, found[peer.name])}" for peer in peers))


def _how(peer: Peer, found: Found | NotRun) -> str:
    if isinstance(found, NotRun):
        return f"not run: {found}"
    return f"{peer.setup}; on the disk when a step is done: {peer.flushes}"


def _ratio_of(name: str) -> str:
    return f"{name}_cpu_ratio"


def _rates(found: Found) -> tuple[str, str]:
    return f"{found.runs_per_s:.1f}", f"{found.cpu_ms_per_step:.3f}"


def _told(found: Found | NotRun) -> dict[str, Any]:
    if isinstance(found, NotRun):
        return {"not_run": str(found)}
    return {
        "version": found.version,
        "runs_per_s": round(found.runs_per_s, 1),
        "cpu_ms_per_step": round(found.cpu_ms_per_step, 3),
    }
