"""Runs workflows in this process: the decisions that control makes, and Python functions as workers."""

from millrace.sdk.local.bodies import LocalBody, Lost
from millrace.sdk.local.run import Call, Line, LocalRun, RunFailed

__all__ = ["Call", "Line", "LocalBody", "LocalRun", "Lost", "RunFailed"]
