"""Decides what runs next: triggers, workflows, runs."""
