"""Tests that cross all services."""
