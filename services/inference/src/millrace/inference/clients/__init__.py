"""What inference asks of other services."""
