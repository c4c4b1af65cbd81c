"""What people do with many runs at once: a page of them in one transaction."""

from collections.abc import Sequence
from uuid import UUID

from millrace.control.commands.operations import ChangeRuns
from millrace.control.domain.changes import Outcome, changes
from millrace.control.domain.runs import KeptRun
from millrace.control.handlers.deciding import advance, begin_runs
from millrace.control.handlers.operations import again, by, cancelled, unbegun
from millrace.control.store import Store
from millrace.core.decide import decide
from millrace.core.state import Input, PauseRequested, Refused, ResumeRequested, Signalled, Start
from millrace.runtime.errors import Conflict, NotFound


async def change_runs(command: ChangeRuns, tx: Store) -> tuple[Sequence[Outcome], UUID | None]:
    """Do one thing with a page of the runs of a filter, the newest first.

    Returns:
        What became of each, and the run before which the next page begins; None after the last page.
    """
    run_ids, next_before = await tx.runs_matching(command)
    held = sorted(await tx.hold_runs_anywhere(run_ids), key=lambda kept: kept.run.run_id, reverse=True)
    wanted = [kept for kept in held if kept.run.state in command.wanted]
    done = await (_rerun if command.action == "rerun" else _tell)(command, wanted, tx)
    told = {one.kept.run.run_id: one for one in done}
    return [told.get(kept.run.run_id) or _meanwhile(kept) for kept in held], next_before


def _meanwhile(kept: KeptRun) -> Outcome:
    """Return that a run has changed between being found and being held."""
    return Outcome(kept, "refused", reason=f"run {kept.run.run_id} is {kept.run.state} by now")


async def _tell(command: ChangeRuns, runs: Sequence[KeptRun], tx: Store) -> list[Outcome]:
    before = {kept.run.run_id: kept.run for kept in runs}
    # One wish for each, so that it can be told whose was refused.
    told: list[tuple[KeptRun, Sequence[Input], None]] = [(kept, [_wish(command)], None) for kept in runs]
    found = _tried(told, tx) if command.dry_run else await advance(told, tx)
    refused = {id(one.input): one.reason for one in found}
    outcomes = []
    for kept, (wish,), _ in told:
        reason = refused.get(id(wish), "")
        lines = changes(before[kept.run.run_id], kept.run)
        outcomes.append(Outcome(kept, "refused", reason=reason) if reason else _changed(command, kept, lines))
    return outcomes


async def _rerun(command: ChangeRuns, runs: Sequence[KeptRun], tx: Store) -> list[Outcome]:
    reruns = await tx.reruns(kept.run.run_id for kept in runs)
    outcomes: list[Outcome] = []
    begun: list[tuple[KeptRun, KeptRun]] = []
    for origin in runs:
        if (up := origin.parent) is not None:
            outcomes.append(Outcome(origin, "refused", reason=f"task {up.task} of run {up.run_id} started it"))
            continue
        if (other := reruns.get(origin.run.run_id)) is not None:
            outcomes.append(Outcome(origin, "refused", reason=f"run {other} does it again already"))
            continue
        try:
            asked = (command.principal, command.from_task, command.version)
            begun.append((origin, await again(origin, *asked, tx, refresh=command.refresh)))
        except (Conflict, NotFound) as error:
            outcomes.append(Outcome(origin, "refused", reason=str(error)))
    news = [new for _, new in begun]
    if command.dry_run:
        _tried([(new, [Start()], None) for new in news], tx)
    else:
        await begin_runs(news, news, tx)
    for origin, new in begun:
        lines = changes(unbegun(new.run), new.run)
        outcomes.append(_changed(command, origin, lines, None if command.dry_run else new.run.run_id))
    return outcomes


def _tried(told: Sequence[tuple[KeptRun, Sequence[Input], None]], tx: Store) -> Sequence[Refused]:
    """Decide as `advance` does, and keep nothing of it; return what was refused."""
    refused: list[Refused] = []
    for kept, inputs, _ in told:
        decision = decide(kept.run, kept.plan, inputs, tx.now, tx.new_id)
        kept.run = decision.run
        refused += decision.refused
    return refused


def _changed(command: ChangeRuns, kept: KeptRun, lines: tuple[str, ...], rerun: UUID | None = None) -> Outcome:
    return Outcome(kept, "would_change" if command.dry_run else "changed", lines, rerun_run_id=rerun)


def _wish(command: ChangeRuns) -> Input:
    match command.action:
        case "pause":
            return PauseRequested(by(command))
        case "resume":
            return ResumeRequested(by(command))
        case "signal":
            return Signalled(command.signal or "", command.data)
    return cancelled(command)
