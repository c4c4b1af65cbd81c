"""What a service reads: one poll of all its topics is one transaction, and so is one of all foreign ones."""

from millrace.runtime.consume.consumer import Consumer
from millrace.runtime.consume.items import Foreign, Listener, Readers
from millrace.runtime.consume.replay import Replay

__all__ = ["Consumer", "Foreign", "Listener", "Readers", "Replay"]
