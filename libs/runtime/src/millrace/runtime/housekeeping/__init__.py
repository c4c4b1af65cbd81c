"""Housekeeping: what is past its time goes, in small batches, in one replica at a time."""

from millrace.runtime.housekeeping.artifacts import ClocksApart, Referred, Unreferenced
from millrace.runtime.housekeeping.keeper import Keeper
from millrace.runtime.housekeeping.rules import Rule, older_than, runtime_rules

__all__ = ["ClocksApart", "Keeper", "Referred", "Rule", "Unreferenced", "older_than", "runtime_rules"]
