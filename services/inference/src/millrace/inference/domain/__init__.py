"""What is decided here, without input or output."""
