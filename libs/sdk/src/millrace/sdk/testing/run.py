"""A run under test, and what can be done to it."""

from typing import TYPE_CHECKING, Any

from millrace.core.approvals import form_problem, objection
from millrace.core.parts import Approve
from millrace.core.plan import Plan
from millrace.core.state import CancelRequested, Input, Run, Signalled, Voted
from millrace.runtime.errors import Denied, InvalidInput, NotFound
from millrace.sdk.local import LocalRun

if TYPE_CHECKING:
    from millrace.sdk.testing.environment import Environment


class RunUnderTest(LocalRun):
    """A run in an environment, as it stands now, and what can be done to it."""

    def __init__(self, environment: "Environment", plan: Plan, run: Run, principal: str) -> None:
        super().__init__(plan, run, principal)
        self._environment = environment

    def finish(self) -> "RunUnderTest":
        """Let time go by until it has ended, and return it; what nobody answers is waited for until its time is up."""
        while not self.run.state.ended and self._environment.skip():
            pass
        return self

    def signal(self, name: str, data: Any = None) -> None:  # noqa: ANN401 - a JSON value
        """Send it a signal.

        Raises:
            Conflict: It takes none any more.
        """
        self._tell(Signalled(name, {} if data is None else data))

    def event(self, trigger: str, data: Any = None, *, key: str = "") -> None:  # noqa: ANN401 - a JSON value
        """Let an event come that a trigger takes: each task of it gets it that waits for one under the key.

        Args:
            trigger: As the tasks name it.
            data: The event's.
            key: What the trigger's `key` leads to in it; empty for a trigger without one.

        Raises:
            NotFound: None does.
        """
        wanted = {"event": trigger, "key": key}
        waiting = [name for name in self.waiting if self.run.tasks[name].inner == wanted]
        if not waiting:
            known = {name: self.run.tasks[name].inner for name in self.waiting}
            raise NotFound(f"no task waits for an event of {trigger} under key {key!r}; those that wait are {known}")
        for name in waiting:
            self._tell(self.event_for(name, {} if data is None else data, self._environment.now))

    def approve(
        self,
        task: str,
        *,
        by: str = "approver",
        role: str = "MANAGE",
        comment: str = "",
        form: Any = None,  # noqa: ANN401
    ) -> None:
        """Approve what a task of it waits for.

        Args:
            task: The task's path.
            by: Who approves.
            role: What they may do in the namespace: READ, EDIT, MANAGE, or nothing.
            comment: Why.
            form: What the task asks for, as a dict.

        Raises:
            NotFound: No such task waits to be decided.
            Denied: They may not.
            InvalidInput: The form is not filled in as the task asks.
            Conflict: They have decided already.
        """
        asked = self._asked(task, by, role)
        if (problem := form_problem(asked, form)) is not None:
            raise InvalidInput(problem)
        self._tell(Voted(task, by, approves=True, comment=comment, form=form))

    def reject(self, task: str, *, by: str = "approver", role: str = "MANAGE", comment: str = "") -> None:
        """Reject what a task of it waits for; raises as `approve` does."""
        self._asked(task, by, role)
        self._tell(Voted(task, by, approves=False, comment=comment))

    def cancel(self, reason: str = "cancelled by the test") -> None:
        """Ask it to stop.

        Raises:
            Conflict: It has ended, or is stopping.
        """
        self._tell(CancelRequested(reason))

    def _asked(self, task: str, by: str, role: str) -> Approve:
        approve = self.plan.step(task).task.approve if task in self.waiting else None
        if approve is None:
            raise NotFound(f"no task {task!r} waits to be decided; waiting are {', '.join(self.waiting) or 'none'}")
        if (why := objection(approve, task, principal=by, role=role, author=self.principal)) is not None:
            raise Denied(why)
        return approve

    def _tell(self, happened: Input) -> None:
        self._environment.tell(self, happened)
