"""Runs declared SQL in a sandbox and joins what it gives as it was known."""
