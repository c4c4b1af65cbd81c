"""The errors a service raises; the same classes are raised again on the caller's side of gRPC."""


class MillraceError(Exception):
    """Something went wrong, in words that name the thing by its id and say what would be right."""


class Preempted(BaseException):
    """Raised in work whose worker has to go: it goes on elsewhere, from what it has kept, as if it had been lost.

    It is no `Exception`, so that work which goes on after errors does not go on after this.
    """


class InvalidInput(MillraceError):
    """What was asked can never succeed as it stands."""


class NotFound(MillraceError):
    """The thing named does not exist, or not yet."""


class Conflict(MillraceError):
    """The present state forbids it; look again."""


class Unavailable(MillraceError):
    """A dependency is down; try again."""


class Denied(MillraceError):
    """The caller is unknown or may not do this.

    Attributes:
        authenticated: Whether the caller is known.
    """

    def __init__(self, message: str, *, authenticated: bool = True) -> None:
        super().__init__(message)
        self.authenticated = authenticated


class Overloaded(MillraceError):
    """There is too much to do; try again later.

    Attributes:
        retry_after_s: When to try again, seconds.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
