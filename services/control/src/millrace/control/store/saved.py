"""Runs and their tasks as they are saved: new ones, what was decided on them, and what they are to be told."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from millrace.control.domain.mail import mail_of, read_mail
from millrace.control.domain.runs import KeptRun
from millrace.control.store.rows import attempt_row, columns, json_of, place_of, run_row, size_of, task_row
from millrace.control.store.runs import Runs
from millrace.core.state import AttemptEnded, Decision, Input, Start

ADD_RUNS = """
INSERT INTO run (run_id, namespace, workflow, sha256, state, outcome, cause, principal, trigger_name, place, trigger,
    traceparent, created_at, started_at, ended_at, due_at, output, parent_run_id, parent_task, parent_task_id, depth,
    rerun_of, refresh, deadline_at, missed_at)
SELECT n.run_id, n.namespace, n.workflow, n.sha256, n.state, n.outcome, n.cause, n.principal, n.trigger_name, n.place,
    n.trigger::jsonb, n.traceparent, n.created_at, n.started_at, n.ended_at, n.due_at, n.output::jsonb,
    n.parent_run_id, n.parent_task, n.parent_task_id, n.depth, n.rerun_of, n.refresh, n.deadline_at, n.missed_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::bigint[], $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[],
    $16::timestamptz[], $17::text[], $18::uuid[], $19::text[], $20::uuid[], $21::int[], $22::uuid[], $23::bool[],
    $24::timestamptz[], $25::timestamptz[])
    AS n(run_id, namespace, workflow, sha256, state, outcome, cause, principal, trigger_name, place, trigger,
        traceparent, created_at, started_at, ended_at, due_at, output, parent_run_id, parent_task, parent_task_id,
        depth, rerun_of, refresh, deadline_at, missed_at)
"""
# Where a run was not locked, nobody must have changed it since, nor a replica of a former version, which counts no
# changes, have locked it.
SAME = "run.run_id = n.run_id AND (n.locker IS NULL OR (run.version = n.version AND run.xmax::text::bigint = n.locker))"
SAVE_RUNS = f"""
UPDATE run SET version = run.version + 1, state = n.state, outcome = n.outcome, cause = n.cause,
    started_at = n.started_at, ended_at = n.ended_at,
    due_at = n.due_at, output = n.output::jsonb, signals = n.signals::jsonb,
    planned_sha256 = n.planned_sha256, pause = n.pause::jsonb, deadline_at = n.deadline_at, missed_at = n.missed_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[], $14::int[], $15::bigint[])
    AS n(run_id, state, outcome, cause, started_at, ended_at, due_at, output, signals, planned_sha256, pause,
        deadline_at, missed_at, version, locker)
WHERE {SAME} RETURNING run.run_id
"""
COUNT_CHANGES = f"""
UPDATE run SET version = run.version + 1 FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS n(run_id, version, locker)
WHERE {SAME} RETURNING run.run_id
"""
SAVE_TASKS = """
INSERT INTO task AS t (run_id, name, task_id, state, began_at, attempt, token, failures, losses, dispatched_at,
    started_at, seen_at, ended_at, due_at, output, failure, fraction, message, outcome, inner_state, carried,
    deadline_at, missed_at)
SELECT n.run_id, n.name, n.task_id, n.state, n.began_at, n.attempt, n.token, n.failures, n.losses, n.dispatched_at,
    n.started_at, n.seen_at, n.ended_at, n.due_at, n.output::jsonb, n.failure::jsonb, n.fraction, n.message, n.outcome,
    n.inner_state::jsonb, n.carried::jsonb, n.deadline_at, n.missed_at
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::timestamptz[], $6::int[], $7::uuid[], $8::int[],
    $9::int[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[],
    $15::text[], $16::text[], $17::float[], $18::text[], $19::text[], $20::text[], $21::text[], $22::timestamptz[],
    $23::timestamptz[])
    AS n(run_id, name, task_id, state, began_at, attempt, token, failures, losses, dispatched_at, started_at, seen_at,
        ended_at, due_at, output, failure, fraction, message, outcome, inner_state, carried, deadline_at, missed_at)
ON CONFLICT (run_id, name) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, token = excluded.token,
    failures = excluded.failures, losses = excluded.losses, dispatched_at = excluded.dispatched_at,
    started_at = excluded.started_at, seen_at = excluded.seen_at, ended_at = excluded.ended_at,
    due_at = excluded.due_at, output = excluded.output, failure = excluded.failure, fraction = excluded.fraction,
    message = excluded.message, outcome = excluded.outcome, inner_state = excluded.inner_state,
    carried = excluded.carried, deadline_at = excluded.deadline_at, missed_at = excluded.missed_at
"""
ADD_MAIL = "INSERT INTO mail (run_id, told) VALUES ($1, $2)"
TAKE_MAIL = """
WITH taken AS (DELETE FROM mail WHERE run_id = ANY($1) RETURNING mail_id, run_id, told)
SELECT run_id, told FROM taken ORDER BY mail_id
"""
PUT_PLAN = """
INSERT INTO run_plan (run_id, sha256, document) VALUES ($1, $2, $3)
ON CONFLICT (run_id) DO UPDATE SET sha256 = excluded.sha256, document = excluded.document
"""
RETIRE = """
WITH gone AS (
    DELETE FROM task t USING unnest($1::uuid[], $2::text[]) AS n(run_id, name)
    WHERE t.run_id = n.run_id AND t.name = n.name RETURNING t.*
)
INSERT INTO task_past SELECT * FROM gone
"""
ADD_ATTEMPT = """
INSERT INTO attempt (task_id, attempt, run_id, name, error, message, lost, dispatched_at, started_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING
"""


class SavedRuns(Runs):
    """Runs that are saved, under their locks or in hope."""

    def add_child(self, kept: KeptRun) -> None:
        """Keep a new run that begins when its mail is read."""
        self.add_runs([kept])
        self.add_mail(kept.run.run_id, Start())

    def add_mail(self, run_id: UUID, told: Input) -> None:
        """Keep what a run is to be told under its own lock, by whoever looks for what is due."""
        self.write(ADD_MAIL, run_id, mail_of(told))
        self.on_commit(lambda: self.signals.due_in(0.0))

    async def take_mail(self, run_ids: Iterable[UUID]) -> dict[UUID, list[Input]]:
        """Return what some locked runs are to be told, in order; it is told once."""
        found: dict[UUID, list[Input]] = {}
        for row in await self.fetch(TAKE_MAIL, list(run_ids)):
            found.setdefault(row["run_id"], []).append(read_mail(row["told"]))
        return found

    def add_runs(self, runs: Sequence[KeptRun]) -> None:
        """Keep new runs."""
        if runs:
            rows = [
                (
                    *(kept.run.run_id, kept.namespace, kept.workflow, kept.sha256, kept.run.state, kept.run.outcome),
                    *(kept.run.cause, kept.principal, kept.trigger_name, kept.place, json.dumps(kept.run.trigger)),
                    *(kept.traceparent, kept.created_at, kept.run.started_at, kept.run.ended_at, kept.run.due_at),
                    json_of(kept.run.output),
                    *((up.run_id, up.task, up.task_id, up.depth) if (up := kept.parent) else (None, None, None, 0)),
                    *(kept.rerun_of, kept.run.refresh, kept.run.deadline_at, kept.run.missed_at),
                )
                for kept in runs
            ]
            self.write_last(ADD_RUNS, *columns(rows))

    def save_decisions(self, decided: Sequence[tuple[KeptRun, Decision]], *, new: bool = False) -> None:
        """Keep what was decided; the rows of `new` runs themselves are kept by `add_runs`."""
        if not new:
            for ours in (True, False):
                some = [(kept, d) for kept, d in decided if kept.ours is ours]
                self._save(SAVE_RUNS, [run_row(kept) for kept, d in some if d.run_changed], ours=ours)
                self._save(COUNT_CHANGES, [place_of(kept) for kept, d in some if not d.run_changed], ours=ours)
        tasks = [task_row(d.run.run_id, task) for _, d in decided for task in d.changed.values()]
        retired = [(d.run.run_id, name) for _, d in decided for name in d.retired]
        if retired:
            self.write(SAVE_TASKS, *columns(tasks))
            self.write(RETIRE, *columns(retired))
        elif tasks:
            self.write_last(SAVE_TASKS, *columns(tasks))
        for _, decision in decided:
            if (planned := decision.planned) is not None:
                self.write(PUT_PLAN, decision.run.run_id, planned.sha256, json.dumps(planned.document()))
            for effect in decision.effects:
                if isinstance(effect, AttemptEnded):
                    self.write(ADD_ATTEMPT, *attempt_row(decision.run.run_id, effect))
        for kept, decision in decided:
            kept.version += not new
            kept.size_bytes += sum(map(size_of, decision.changed.values()))
        self.on_commit(lambda: self._know(decided))
        self.on_commit(lambda: self._tell(decided))

    def _save(self, sql: str, rows: Sequence[tuple[Any, ...]], *, ours: bool) -> None:
        if rows and ours:
            self.write_last(sql, *columns(rows))
        elif rows:
            self.hope(sql, *columns(rows), rows=len(rows))

    def _know(self, decided: Sequence[tuple[KeptRun, Decision]]) -> None:
        for kept, _ in decided:
            if kept.locker is None:
                self.hot.drop(kept.run.run_id)
            else:
                kept.locker, kept.written_here = 0, False
                self.hot.put(kept)

    def _tell(self, decided: Sequence[tuple[KeptRun, Decision]]) -> None:
        self.signals.changed(kept.run.run_id for kept, _ in decided)
        for kept, decision in decided:
            if kept.place is not None and decision.run.state.ended:
                self.signals.due_in(0.0)
            dues = [due for task in decision.changed.values() for due in (task.due_at, task.deadline_at)]
            for due_at in (decision.run.deadline_at, *dues):
                if due_at is not None:
                    self.signals.due_in((due_at - self.now).total_seconds())
