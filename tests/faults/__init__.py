"""Faults that take longer than a test may: one command each."""
