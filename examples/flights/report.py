"""What the demo found, and whether all of it is as expected."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from millrace.contracts.rpc.control.v1 import control_pb2 as control
from millrace.contracts.rpc.data.v1 import data_pb2 as data
from millrace.contracts.rpc.data.v1.data_pb2_grpc import DataServiceStub
from millrace.contracts.rpc.inference.v1 import inference_pb2 as inference
from millrace.contracts.rpc.lineage.v1 import lineage_pb2 as lineage
from millrace.contracts.rpc.training.v1 import training_pb2 as training
from millrace.contracts.rpc.training.v1.training_pb2_grpc import TrainingServiceStub
from millrace.sdk.client import Client
from millrace.sdk.connection import Connection
from millrace.sdk.predictions import Prediction
from rich.console import Console
from rich.table import Table

from examples.flights.passengers import MODEL, Flight

#: Rows of the months' files, cancelled flights and diverted ones; of the damaged month only those that pass count.
ROWS = {
    "2013-01": (27_004, 521, 85),
    "2013-02": (24_951, 1_261, 79),
    "2013-03": (28_834, 861, 71),
    "2013-04": (28_330, 668, 98),
}
DAMAGED, DAMAGED_GOOD = "2013-05", 27_913
STAGES = (1, 5, 25, 50, 100)
SOURCE = "/flights/upstream"
SHOWN = 8
MIN_SCORED = 300


def output_of(run: control.Run, task: str) -> dict[str, Any]:
    """Return what a task of a run handed on; nothing when it has not."""
    for each in run.tasks:
        if each.name == task and each.output_json:
            found: dict[str, Any] = json.loads(each.output_json)
            return found
    return {}


@dataclass(frozen=True)
class Asked:
    """A flight, and what the model said of it."""

    flight: Flight
    answer: Prediction


@dataclass(frozen=True)
class Findings:
    """All that the demo looks at in the end.

    Attributes:
        runs: By month.
        deliveries: How often January's event came.
        base_rate: Share of late arrivals in the months that landed.
    """

    runs: Mapping[str, control.Run]
    deliveries: int
    versions: Sequence[data.Version]
    models: Sequence[training.ModelVersion]
    route: inference.GetRouteResponse
    canaries: Mapping[str, inference.GetCanaryResponse]
    asked: Sequence[Asked]
    explained: lineage.ExplainResponse
    base_rate: float
    took_s: float

    @classmethod
    async def gather(
        cls,
        client: Client,
        to: Connection,
        runs: Mapping[str, control.Run],
        asked: Sequence[Asked],
        explained: lineage.ExplainResponse,
        base_rate: float,
        began: float,
    ) -> Self:
        """Ask the services for what is not known yet."""
        by_month = {event_id.split(" ")[0]: run for event_id, run in sorted(runs.items())}
        january = min(runs)
        channels = to.channels()
        try:
            versions = await DataServiceStub(channels.to("data")).ListVersions(
                data.ListVersionsRequest(namespace=client.namespace, dataset="flights", limit=100)
            )
            models = await TrainingServiceStub(channels.to("training")).ListModelVersions(
                training.ListModelVersionsRequest(namespace=client.namespace, model=MODEL)
            )
        finally:
            await channels.close()
        deployments = {month: output_of(run, "deploy").get("deployment_id", "") for month, run in by_month.items()}
        return cls(
            runs=by_month,
            deliveries=(await client.explain_event(SOURCE, january)).deliveries,
            versions=sorted(versions.versions, key=lambda version: version.partition),
            models=sorted(models.versions, key=lambda version: version.version),
            route=await client.route(MODEL),
            canaries={
                month: await client.canary(deployment) for month, deployment in deployments.items() if deployment
            },
            asked=asked,
            explained=explained,
            base_rate=base_rate,
            took_s=time.monotonic() - began,
        )


def report(found: Findings, console: Console, state: Path) -> bool:
    """Print what was found; return whether all of it is as expected."""
    _print_rows(found, console)
    _print_models(found, console)
    _print_canaries(found, console)
    _print_predictions(found, console)
    _print_lineage(found, console)
    checks = expectations(found)
    console.rule("As expected?")
    for claim, holds in checks.items():
        console.print(f"{'[green]yes[/]' if holds else '[red bold]NO [/]'} {claim}", highlight=False)
    console.rule("And now")
    console.print(
        f"It took {found.took_s:.0f} s. Data is in {state}, logs are in {state / 'logs'}.\n"
        f"Look around:  .venv/bin/millrace up --state {state.name}, then\n"
        f"              .venv/bin/millrace runs --state {state.name}\n"
        f"              .venv/bin/millrace lineage explain {found.asked[0].answer.prediction_id} --state {state.name}\n"
        f"              .venv/bin/millrace down --state {state.name}\n"
        f"Your own job: docs/publish.md, docs/predict.md and examples/flights/ show every part of it.",
        highlight=False,
        soft_wrap=True,
    )
    return all(checks.values())


def expectations(found: Findings) -> dict[str, bool]:
    """Return each claim of the demo, and whether it holds."""
    brier, guess = scores(found)
    months = sorted(ROWS)
    rows = {version.partition: version for version in found.versions}
    champions = [model.version for model in found.models if "champion" in model.aliases]
    files = {hop.node.id for hop in found.explained.hops if hop.node.kind == "file"}
    landed = {f"file:sha256:{version.source_sha256}" for version in found.versions}
    return {
        "every month has one run, though January's event came twice": len(found.runs) == len(months) + 1
        and found.deliveries == 2,  # noqa: PLR2004 - twice
        "the four whole months' runs succeeded": all(found.runs[month].state == "succeeded" for month in months),
        "the damaged month was refused by its gate": found.runs[DAMAGED].state == "refused"
        and output_of(found.runs[DAMAGED], "evaluate").get("verdict") == "failed",
        "each month's cancelled and diverted flights were quarantined, and only they": all(
            (rows[month].good_rows, rows[month].quarantined_rows)
            == (total - cancelled - diverted, cancelled + diverted)
            for month, (total, cancelled, diverted) in ROWS.items()
        ),
        f"{DAMAGED_GOOD:,} rows of the damaged month satisfy the contract": rows[DAMAGED].good_rows == DAMAGED_GOOD,
        "the first version took all traffic, the next three by canary, each stage passed": all(
            [(v.weight, v.verdict) for v in found.canaries[month].verdicts] == [(stage, "pass") for stage in STAGES]
            for month in months[1:]
        )
        and not found.canaries[months[0]].verdicts,
        "April's version is in use": champions == [output_of(found.runs[months[-1]], "tune").get("version")]
        and [(arm.version, arm.weight) for arm in found.route.arms if arm.weight] == [(champions[0], 100)],
        f"on {len(found.asked)} flights of May it scores better than the base rate": len(found.asked) >= MIN_SCORED
        and brier < guess,
        "a prediction can be followed back to the SHA-256 of the file that upstream landed": found.explained.complete
        and bool(files & landed),
    }


def scores(found: Findings) -> tuple[float, float]:
    """Return the Brier scores of the model and of the base-rate guess: mean squared error, 0 is best."""
    late = [each.flight.late for each in found.asked]
    brier = sum((each.answer.score - each.flight.late) ** 2 for each in found.asked) / len(late)
    return brier, sum((found.base_rate - truth) ** 2 for truth in late) / len(late)


def _print_rows(found: Findings, console: Console) -> None:
    table = Table("month", "good rows", "set aside", "why", "version", title="Ingested under the contract")
    for version in found.versions:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(version.rows_by_reason.items()))
        table.add_row(
            version.partition, f"{version.good_rows:,}", f"{version.quarantined_rows:,}", why, version.version_id[:12]
        )
    console.print(table)


def _print_models(found: Findings, console: Console) -> None:
    table = Table(
        "month", "tuned", "gate", "AUC", "skill (lower bound)", "loss against use (upper)", "why", title="Models"
    )
    for month, run in found.runs.items():
        tuned, judged = output_of(run, "tune"), output_of(run, "evaluate")
        measures = judged.get("measures", {})
        params = ", ".join(
            f"{name} {value:.3g}" for name, value in tuned.get("params", {}).items() if _is_number(value)
        )
        table.add_row(
            month,
            f"version {tuned.get('version')}: {params}",
            judged.get("verdict", ""),
            f"{measures.get('auc', 0):.3f}",
            f"{measures.get('skill', 0):.3f} ({measures.get('skill_lower', 0):.3f})",
            f"{measures.get('regression_upper', 0):+.4f}",
            judged.get("reason", ""),
        )
    console.print(table)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _print_canaries(found: Findings, console: Console) -> None:
    table = Table("version", "its way", title="Traffic")
    ways: dict[int, list[str]] = {}
    for shift in reversed(found.route.history):
        ways.setdefault(shift.version, []).append(f"{shift.weight}%")
    judged = {output_of(found.runs[month], "tune").get("version"): canary for month, canary in found.canaries.items()}
    for version, way in sorted(ways.items()):
        verdicts = judged[version].verdicts if version in judged else ()
        said = ", ".join(f"{v.weight}%: {v.verdict} on {v.answers} (d {v.mean_difference:+.4f})" for v in verdicts)
        table.add_row(str(version), " → ".join(way) + (f"\n{said}" if said else ""))
    console.print(table)


def _print_predictions(found: Findings, console: Console) -> None:
    table = Table("flight of May", "late?", "in truth", "prediction", title="Asked over gRPC")
    for each in found.asked[:SHOWN]:
        truth = "late" if each.flight.late else "in time"
        table.add_row(each.flight.key, f"{each.answer.score:.0%}", truth, each.answer.prediction_id)
    console.print(table)
    brier, guess = scores(found)
    console.print(
        f"Brier score on {len(found.asked)} flights: {brier:.4f}; of the base-rate guess "
        f"({found.base_rate:.1%} late): {guess:.4f}; skill {1 - brier / guess:.2f}\n"
    )


def _print_lineage(found: Findings, console: Console) -> None:
    hops = {hop.node.id: hop for hop in found.explained.hops}
    way = way_back(hops)
    first = found.asked[0]
    console.print("Where the first of them comes from, hop by hop:")
    console.print(f"  prediction {first.answer.prediction_id}  ({first.flight.key})", highlight=False, soft_wrap=True)
    for depth, node in enumerate(way, 2):
        hop = hops[node]
        kind, _, identifier = node.partition(":")
        made = f"  [dim]made by {hop.made_by} in run {hop.made_by_run}[/]" if hop.made_by else ""
        line = f"{'  ' * depth}← [bold]{kind}[/] {identifier}  {hop.node.name}{made}"
        console.print(line, highlight=False, soft_wrap=True)
        if views := sorted(hops[each].node.name for each in hop.made_from if each.startswith("feature.declaration:")):
            console.print(f"{'  ' * depth}  through the views {', '.join(views)}", highlight=False, soft_wrap=True)
    others = len(hops) - len(way)
    console.print(f"  and {others} others: more months, the weather, views; `millrace lineage explain` shows all\n")


def way_back(hops: Mapping[str, lineage.Hop]) -> list[str]:
    """Return one way from the deployment back to a file, the newest month's where there is a choice."""
    starts = sorted(hops.values(), key=lambda hop: hop.depth)
    way = [starts[0].node.id] if starts else []
    while way and hops[way[-1]].node.kind != "file":
        above = [node for node in hops[way[-1]].made_from if node in hops and node not in way]
        if not above:
            break
        way.append(max(above, key=lambda node: _nearness(hops[node])))
    return way


def _nearness(hop: lineage.Hop) -> tuple[bool, str]:
    return hop.node.name.startswith("flights "), hop.node.name
