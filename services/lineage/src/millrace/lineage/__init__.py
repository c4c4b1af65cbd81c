"""Assembles who made what from what, down to one prediction."""
