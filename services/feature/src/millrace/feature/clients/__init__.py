"""What feature asks of other services."""
