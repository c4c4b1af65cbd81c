"""Control, a broker and workers in one process: what fails, and when, is chosen by a seed.

`make verify SEEDS=10000` runs that many seeds; a seed that breaks an invariant is printed with the shortest choices
that break it too. Each seed is one workflow. Control reads, decides, commits, sends and acknowledges, and may die
between any two of these; what it reads comes at least once, late, and in order only within one chain; workers answer,
fail, fall silent or die, and orders may be lost. Other runs take slots of the same pools, and give them back; those
that tasks have started end as they like, and are told to stop. Events that tasks wait for come in time, late or never.
"""

import argparse
import sys
from multiprocessing import Pool
from uuid import UUID

from choices import Choices, shrunk
from millrace.core.draft import CHILD
from millrace.core.state import (
    CACHE,
    SET_BY,
    CancelRequested,
    Dispatch,
    ResumeRequested,
    RunState,
    Start,
)
from simulated_control import BY_HAND, Faults
from simulated_system import System
from simulation import RUN_ID

CHAOS_STEPS = 120
QUIET_STEPS = 5_000
NO_FAULTS = Faults()


def play(choices: Choices, faults: Faults) -> System:
    """Run one system through its faults and then to its end.

    Raises:
        AssertionError: An invariant does not hold.
    """
    system = System(choices, faults)
    system.ask(Start())
    for _ in range(CHAOS_STEPS):
        if system.kept.run.state.ended and not system.unread():
            break
        choices.pick(system.happenings())()
        if choices.pick(range(200)) == 199:
            system.ask(CancelRequested("enough", force=choices.pick([False, True])))
    system.leave()
    for _ in range(QUIET_STEPS):
        if not _goes_on(system):
            break
    _judge(system)
    return system


def _goes_on(system: System) -> bool:
    """Let happen what happens when nothing fails any more; return whether anything did."""
    if system.kept.mail:
        system.read_mail()
    elif untaken := system.untaken():
        system.take_order(untaken[0])
    elif system.kept.awaited:
        system.hand_out()
    elif system.jobs:
        system.work(next(iter(system.jobs.values())), "goes on with the next")
    elif system.unread():
        system.control()
    elif system.kept.asked:
        system.look_up()
    elif system.going_children():
        system.end_child()
    elif system.kept.run.state is RunState.PAUSED:
        system.ask(ResumeRequested("ada"))
    elif not system.kept.run.state.ended:
        system.pass_time()
    else:
        return False
    return True


def _judge(system: System) -> None:
    kept = system.kept
    assert kept.run.state.ended, "the run has not ended"
    assert not kept.lines.leases, "slots were never given back"
    assert not kept.lines.waiters, "a place in a line was never given up"
    assert kept.ends == 1, f"its end was told {kept.ends} times"
    said = {one.message_id for some in system.reports.values() for one in some}
    assert kept.inbox >= said, "something that was said was never handled"
    assert set(kept.applied.values()) <= {1}, "something that was said was handled twice"
    assert set(kept.results.values()) <= {1}, "an attempt has had two results"
    ordered = [one for some in system.orders.values() for one in some if isinstance(one.what, Dispatch)]
    tokens = {(one.what.task_id, one.what.attempt): one.what.token for one in ordered}
    assert len({one.what.token for one in ordered}) == len(tokens), "an attempt was ordered with two tokens"
    for child in kept.children.values():
        subflow = system.plan.step(child.started.name).task.subflow
        known = child.heard or child.told_to_stop or (subflow is not None and subflow.on_stop == "abandon")
        assert known, f"the run of {child.started.name} goes on, and nobody waits for it"
    assert not kept.cache.waits(), "somebody waits for a result of a run that has ended"
    for name, task in (kept.past | kept.run.tasks).items():
        if task.attempt:
            by_itself = any(begun[:2] == (task.task_id, task.attempt) for begun in system.begun)
            assert by_itself or (task.task_id, task.attempt) in tokens, (
                f"{name} was never ordered, and not begun either"
            )
        child = kept.children.get(UUID((task.inner or {}).get(CHILD, str(RUN_ID))))
        if child is not None and SET_BY not in (task.inner or {}):
            told = child.ended.output if child.ended is not None else None
            assert task.state != "succeeded" or task.output == told, f"{name} has another output than its run"
        if "event" in (task.inner or {}) and SET_BY not in (task.inner or {}):
            own = system.kept.events.get(task.task_id)
            assert task.state != "succeeded" or task.output == own, f"{name} has another output than its event"
        if SET_BY in (task.inner or {}):
            assert task.state != "succeeded" or task.output == BY_HAND, f"{name} has another output than was set"
        elif (task.inner or {}).get(CACHE, {}).get("found") == "hit":
            assert not task.attempt, f"{name} was given its result and done besides"
            assert task.output in system.effects.values(), f"{name} was given what no work has come to"
        elif task.attempt and task.state == "succeeded" and "plan" not in (task.inner or {}):
            assert task.output == system.effects[task.task_id], f"{name} has another output than its work"


def broken(choices: Choices, faults: Faults) -> Exception | None:
    """Return what one run of choices breaks: an invariant, or the program; None when nothing."""
    try:
        play(choices, faults)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is found and shortened
        return error
    return None


def failure_of(choices: Choices, faults: Faults) -> str:
    """Return what one run of choices breaks, in words; empty when nothing."""
    match broken(choices, faults):
        case None:
            return ""
        case AssertionError() as error:
            return str(error) or "an assertion"
        case error:
            return f"{type(error).__name__}: {error}"


def found(seed: int, faults: Faults = NO_FAULTS) -> str:
    """Return what a seed breaks, with the shortest choices that break it too; empty when nothing."""
    choices = Choices(seed)
    if (first := broken(choices, faults)) is None:
        return ""
    best = shrunk(choices.taken, lambda given: type(broken(Choices(given=given), faults)) is type(first))
    return f"seed {seed}: {failure_of(Choices(given=best), faults)}\nchoices: {best}"


def main() -> int:
    """Run many seeds on all processors; return 1 when one broke something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    asked = parser.parse_args()
    with Pool() as pool:
        for done, broken in enumerate(pool.imap(found, range(asked.first, asked.first + asked.seeds), 50), 1):
            if broken:
                sys.stdout.write(f"\n{broken}\n")
                return 1
            if sys.stdout.isatty():
                sys.stdout.write(f"\r{done} of {asked.seeds} seeds")
                sys.stdout.flush()
    sys.stdout.write(f"\n{asked.seeds} seeds, from {asked.first} on: every invariant held\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
