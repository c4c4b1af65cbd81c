"""What events say of who made what from what, how it adds up, and how it is walked; no I/O."""
