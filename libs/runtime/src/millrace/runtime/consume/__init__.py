"""What a service reads: polls of all its topics, and of all foreign ones, each in a few transactions."""

from millrace.runtime.consume.consumer import Consumer
from millrace.runtime.consume.items import Foreign, Listener, Readers
from millrace.runtime.consume.replay import Replay

__all__ = ["Consumer", "Foreign", "Listener", "Readers", "Replay"]
