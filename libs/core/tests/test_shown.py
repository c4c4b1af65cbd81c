"""What is said of a run for people."""

from typing import Any

from millrace.core.shown import skipped_because
from simulation import World, started

WORK: dict[str, Any] = {"kind": "data.x"}


def told(made: World) -> dict[str, str]:
    """Return why each task was skipped, of those that were."""
    said = {name: skipped_because(task, made.plan, made.run.tasks.get) for name, task in made.run.tasks.items()}
    return {name: why for name, why in said.items() if why}


def test_a_task_that_was_skipped_tells_whether_its_condition_or_which_of_its_needs_is_the_reason() -> None:
    made = started(
        a=WORK,
        b={**WORK, "retries": {"max_attempts": 1}},
        c={**WORK, "needs": ["a"], "when": "outputs.a.n > 1"},
        d={**WORK, "needs": ["a", "b", "c"], "when": "true"},
        e={**WORK, "needs": ["b"], "run_if": "settled", "when": "status.b == 'succeeded'"},
        f={**WORK, "needs": ["d"], "run_if": "settled"},
    )
    made.succeed("a", n=1)
    made.fail("b")

    assert told(made) == {
        "c": "its `when` was false: outputs.a.n > 1",
        "d": "it needs b, which failed and c, which was skipped",
        "e": "its `when` was false: status.b == 'succeeded'",
    }
    assert made.run.tasks["f"].state == "dispatched"
