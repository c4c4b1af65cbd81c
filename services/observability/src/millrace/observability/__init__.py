"""How well and at what cost: durations, outcomes, lag, cost, audit."""
