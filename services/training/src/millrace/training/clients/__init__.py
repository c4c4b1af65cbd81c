"""What training asks of other services."""
