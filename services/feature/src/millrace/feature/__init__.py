"""Feature views, point-in-time training sets and the online table."""
