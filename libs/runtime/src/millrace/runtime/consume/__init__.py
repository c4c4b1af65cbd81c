"""One consumer per service: one poll of all its topics is one transaction."""

from millrace.runtime.consume.consumer import Consumer
from millrace.runtime.consume.items import Foreign, Listener

__all__ = ["Consumer", "Foreign", "Listener"]
