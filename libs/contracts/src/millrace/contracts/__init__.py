"""What Millrace services say to one another: events and gRPC stubs."""

# Importing the package declares every event, so that `all_events` and the catalogue are complete.
from millrace.contracts import control, data, feature, held, inference, openlineage, tasks, training

SERVICES = ("control", "data", "feature", "training", "inference", "lineage", "observability")
"""The seven: folder, package, topic prefix, consumer group (and `.foreign`), database, `service.name`."""

__all__ = ["SERVICES", "control", "data", "feature", "held", "inference", "openlineage", "tasks", "training"]
