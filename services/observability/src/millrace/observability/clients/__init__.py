"""What observability asks of other services."""
