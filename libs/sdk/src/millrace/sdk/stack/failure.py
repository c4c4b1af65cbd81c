"""What the stack says when it cannot start."""


class CannotStart(Exception):
    """The stack or a part of it cannot start; the text says why and what to do."""
