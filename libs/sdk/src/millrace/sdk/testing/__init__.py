"""Workflows under test: the decisions that control makes, on a clock that stands until it is moved on."""

from millrace.sdk.local import Call, Lost, RunFailed
from millrace.sdk.testing.durations import seconds_of
from millrace.sdk.testing.environment import START, Environment
from millrace.sdk.testing.run import RunUnderTest

__all__ = ["START", "Call", "Environment", "Lost", "RunFailed", "RunUnderTest", "seconds_of"]
