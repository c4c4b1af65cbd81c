"""The workflow IR and its decisions, pure."""
