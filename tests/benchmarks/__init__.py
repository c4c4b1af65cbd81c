"""What things cost, side by side with the alternative, in one run."""
