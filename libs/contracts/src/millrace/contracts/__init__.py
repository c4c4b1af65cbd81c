"""What Millrace services say to one another: events and gRPC stubs."""

SERVICES = ("control", "data", "feature", "training", "inference", "lineage", "observability")
"""The seven: folder, package, topic prefix, consumer group (and `.foreign`), database, `service.name`."""
