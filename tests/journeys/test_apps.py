"""What an app and an operator do with a model in use: by the documents' own snippets, and by the command line."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import FEBRUARY, JANUARY, LABELS, Journey
from tests.journeys.orders import basket
from tests.journeys.shop import MODEL

PREDICT = Path(__file__).resolve().parents[2] / "docs/predict.md"
MILLRACE = Path(sys.executable).with_name("millrace")


async def run(journey: Journey, command: Sequence[str], folder: Path) -> str:
    """Run a program that knows where the journey's services are; return what it prints."""
    deployment = journey.deployment
    ours = {
        "COLUMNS": "300",
        "MILLRACE_ENDPOINTS": json.dumps({name: one.target for name, one in deployment.services.items()}),
        "MILLRACE_TOKEN": deployment.authority.token("shopkeeper"),
        "MILLRACE_KAFKA_SERVERS": journey.shop.servers,
        "MILLRACE_NAMESPACE": "shop",
    }
    pipe = subprocess.PIPE
    started = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=os.environ | ours, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(started.communicate(), 60)
    assert started.returncode == 0, err.decode()
    return out.decode()


async def told(journey: Journey, folder: Path, *arguments: str) -> Any:
    return json.loads(await run(journey, (str(MILLRACE), *arguments, "--json"), folder))


@pytest.fixture
def orders_csv(journey: Journey, tmp_path: Path) -> Path:
    """The first orders that the shop asked about, each with its routing key."""
    rows = [{"customer": one.customer, **basket(one), "routing_key": one.order_no} for one in journey.asked[:3]]
    lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
    file = tmp_path / "orders.csv"
    file.write_text("\n".join(lines))
    return file


async def test_the_snippets_of_the_page_on_predictions_do_what_it_says(journey: Journey, tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PREDICT.read_text(), re.DOTALL)
    assert LABELS in snippets[2]

    printed = (await run(journey, (sys.executable, "-c", "\n".join(snippets)), tmp_path)).splitlines()

    assert re.fullmatch(r"0\.\d{3} by version 2: p[a-z2-7]{52}", printed[0])
    assert printed[1].startswith("{'basket.price': 4.2")
    assert any(line.split()[:1] == ["file"] for line in printed[2:])


async def test_the_command_line_asks_and_explains_as_the_app_does(journey: Journey, orders_csv: Path) -> None:
    answers = await told(journey, orders_csv.parent, "predict", MODEL, "--rows", orders_csv.name)
    asked = {"prediction": answers[0]["prediction_id"]}
    explained = await told(journey, orders_csv.parent, "lineage", "explain", asked["prediction"])
    tree = await run(journey, (str(MILLRACE), "lineage", "explain", asked["prediction"]), orders_csv.parent)

    assert [one["version"] for one in answers] == [2, 2, 2]
    assert explained["complete"]
    for month in (JANUARY, FEBRUARY):
        assert f"file:sha256:{journey.landed[month].sha256}" in {hop["node"]["id"] for hop in explained["hops"]}
        assert f"sha256:{journey.landed[month].sha256}" in tree
        assert journey.runs[month].run_id in tree
    assert "complete: every hop down to a file is known" in tree


async def test_an_operator_sees_who_changed_what_and_what_a_run_cost(journey: Journey, tmp_path: Path) -> None:
    run_id = journey.runs[JANUARY].run_id

    audit = await told(journey, tmp_path, "audit")
    cost = await told(journey, tmp_path, "cost", run_id)
    table = await run(journey, (str(MILLRACE), "cost", run_id), tmp_path)

    assert audit["unreachable"] == []
    assert {one["principal"] for one in audit["entries"]} == {"shopkeeper"}
    assert {"control", "data", "feature"} <= {one["service"] for one in audit["entries"]}
    assert cost["state"] == "succeeded"
    assert {"ingest", "tune"} <= {step["task"] for step in cost["steps"]}
    assert 0 < cost["cost"] < 1
    assert "tune" in table
