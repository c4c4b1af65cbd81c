"""The flights example while every part of its stack is killed once: `make faults FLIGHTS=1`.

Each of the seven services and Kafka end by `kill -9`, PostgreSQL by an immediate stop, each as a step of a month has
just begun. The demo must end as it does undisturbed: it exits with 0 only when every run, every count, every canary and
the lineage of a prediction are as expected.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from millrace.sdk.stack.embedded import Embedded

#: The month, the step of it that has begun, and what dies then.
KILLS = (
    ("2013-01", "ingest_flights", "data"),
    ("2013-01", "training_set", "feature"),
    ("2013-01", "tune", "training"),
    ("2013-01", "evaluate", "control"),
    ("2013-01", "deploy", "lineage"),
    ("2013-02", "ingest_flights", "observability"),
    ("2013-02", "judge_1", "inference"),
    ("2013-02", "judge_5", "kafka"),
    ("2013-03", "judge_25", "postgres"),
)
STEP_S = 240.0
DEMO_S = 600.0
LOOK_S = 0.1


def main() -> int:
    """Run the demo, kill its parts, show what it printed; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path(".millrace-faults"), help="folder for data and logs")
    state = parser.parse_args().state.resolve()
    state.parent.mkdir(parents=True, exist_ok=True)
    printed = state.parent / f"{state.name}.log"
    command = [sys.executable, "-u", "-m", "examples.flights.demo", "--state", str(state)]
    with printed.open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as demo:
        for month, step, part in KILLS:
            if not began(printed, month, step, demo):
                break
            kill(Embedded(state), part)
        code = demo.wait(DEMO_S)
    print(printed.read_text())
    return code


def began(printed: Path, month: str, step: str, demo: "subprocess.Popen[bytes]") -> bool:
    """Wait until the demo has shown a step of a month; return False when it ended or took too long."""
    deadline = time.monotonic() + STEP_S
    while time.monotonic() < deadline and demo.poll() is None:
        if any(month in line and f" {step} " in line for line in printed.read_text().splitlines()):
            return True
        time.sleep(LOOK_S)
    return False


def kill(stack: Embedded, part: str) -> None:
    """End a part's process, once it has one."""
    deadline = time.monotonic() + STEP_S
    while not (pid := stack.pid(part)) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    number = signal.SIGQUIT if part == "postgres" else signal.SIGKILL
    os.kill(pid, number)
    print(f"{part} ({pid}) ended by {number.name}")


if __name__ == "__main__":
    sys.exit(main())
