"""Workers of a team's own: its `@task` functions, done for control with leases, heartbeats and cancels."""

from millrace.sdk.worker.bodies import kinds_of
from millrace.sdk.worker.leasing import lease
from millrace.sdk.worker.ordinal import ordinal
from millrace.sdk.worker.serve import WorkerSettings, serve

__all__ = ["WorkerSettings", "kinds_of", "lease", "ordinal", "serve"]
