import json
import re
from pathlib import Path
from typing import Any

import pytest
from millrace.contracts import SERVICES
from millrace.runtime import telemetry
from prometheus_client.metrics import MetricWrapperBase

INFRA = Path(__file__).parents[3] / "infra"
DASHBOARDS = sorted((INFRA / "grafana").glob("*.json"))
SUFFIXES: dict[str | None, tuple[str, ...]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
}
SCRAPED = {"instance", "job", "le"}
NAME = re.compile(r"\b(?:millrace|rpc)_[a-z_]+\b")
LABEL = re.compile(r"by \(([^)]*)\)|\{([^}]*)\}")


def metrics() -> dict[str, set[str]]:
    """Every series' name as it is scraped, with its labels."""
    found = {}
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase):
            for suffix in SUFFIXES[metric._type]:
                found[metric._name + suffix] = {*metric._labelnames} | SCRAPED
    return found


def queries(path: Path) -> list[str]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def labels_in(query: str) -> set[str]:
    groups = [part for found in LABEL.findall(query) for part in found if part]
    return {re.split(r"[!=~]", label)[0].strip() for group in groups for label in group.split(",")}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_each_query_names_metrics_and_labels_that_exist(path: Path) -> None:
    there = metrics()

    for query in queries(path):
        names = set(NAME.findall(query))
        assert names, query
        assert names <= there.keys(), query
        assert labels_in(query) <= set.intersection(*(there[name] for name in names)), query


def test_every_service_is_scraped() -> None:
    text = (INFRA / "prometheus" / "prometheus.yml").read_text()

    assert sorted(re.findall(r"- (\w+):\d+$", text, re.MULTILINE)) == sorted(SERVICES)
