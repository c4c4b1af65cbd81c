"""What control decides by itself: how events from outside read, and what a decision says to others."""
