"""Tuning, evaluation, the model registry."""
