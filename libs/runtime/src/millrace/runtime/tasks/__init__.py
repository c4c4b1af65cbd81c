"""Work that takes time: accepted and leased in one transaction, done outside any, finished in one."""

from millrace.runtime.tasks.job import Job
from millrace.runtime.tasks.workers import Workers

__all__ = ["Job", "Workers"]
