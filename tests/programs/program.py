"""Programs over keyed counters: commands, and what a whole program is."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

#: What programs may count.
COUNTERS = ("a", "b", "c", "d")
#: What teardowns count; no command asks for it.
TIDIED = "tidied"
MOST_COMMANDS = 20
#: Whose worker takes its tasks from Kafka, and whose leases them from control.
TAKEN, LEASED = "programs", "loans"


@dataclass(frozen=True)
class Add:
    """Add to a counter.

    Attributes:
        fails: So many attempts fail before one does not.
        late: Those that fail have added before.
        slot: It takes a slot of a pool.
        undo: It is taken back when what it is in fails.
        tidy: Something is counted behind it, whatever becomes of the rest.
        takes_s: How long an attempt works.
    """

    counter: str
    amount: int
    queue: str = TAKEN
    fails: int = 0
    late: bool = False
    slot: bool = False
    undo: bool = False
    tidy: bool = False
    takes_s: float = 0.0


@dataclass(frozen=True)
class Fail:
    """Fail for good, each attempt after or before it has added.

    Attributes:
        recovered: What follows goes on, and what it is in fails at its end.
    """

    counter: str
    amount: int
    late: bool = False
    recovered: bool = False


@dataclass(frozen=True)
class Once:
    """Add to a counter, unless the same was added so before: the result is taken from the cache then."""

    counter: str
    amount: int


@dataclass(frozen=True)
class Together:
    """Several adds side by side."""

    adds: tuple[Add, ...]


@dataclass(frozen=True)
class Guard:
    """An add when its counter is large enough, else nothing."""

    least: int
    add: Add


@dataclass(frozen=True)
class End:
    """End the run when a counter is large enough."""

    counter: str
    least: int
    state: str


@dataclass(frozen=True)
class Choose:
    """One body or another, by a counter's value."""

    counter: str
    least: int
    enough: "Body"
    otherwise: "Body" = ()


@dataclass(frozen=True)
class Each:
    """An add and a body for each item of a list; items that fail are tolerated.

    Attributes:
        amounts: What the items add; None where the list is made at run time, of the counter's value.
    """

    counter: str
    amounts: tuple[int, ...] | None
    concurrency: int
    body: "Body" = ()


@dataclass(frozen=True)
class Repeat:
    """Add until a counter is large enough; it fails when it is not after so many times."""

    counter: str
    amount: int
    least: int
    most: int


@dataclass(frozen=True)
class Branches:
    """Bodies side by side, which touch different counters."""

    bodies: tuple["Body", ...]


@dataclass(frozen=True)
class Race:
    """A body beside one that never ends, of which one must succeed."""

    body: "Body"


@dataclass(frozen=True)
class Attempt:
    """A body, what is done when it fails, and what is done last.

    Attributes:
        catches: Whether the catch applies to how it fails.
    """

    do: "Body"
    catch: "Body"
    catches: bool
    last: "Body" = ()


@dataclass(frozen=True)
class Call:
    """A run of another workflow, which is the body."""

    body: "Body"


@dataclass(frozen=True)
class Planned:
    """A task that plans the body."""

    body: "Body"


@dataclass(frozen=True)
class Signal:
    """Wait for a signal, and add what comes with it."""

    name: str
    counter: str
    amount: int


@dataclass(frozen=True)
class Wait:
    """Wait a moment."""

    for_s: float


@dataclass(frozen=True)
class Cancel:
    """Wait for what never comes: the run is cancelled there."""


@dataclass(frozen=True)
class Mended:
    """Fail until somebody has mended what is broken, and add when the run is done again."""

    counter: str
    amount: int


Command = (
    Add | Fail | Once | Together | Guard | End | Choose | Each | Repeat | Branches | Race | Attempt | Call | Planned
) | (Signal | Wait | Cancel | Mended)
Body = tuple[Command, ...]


@dataclass(frozen=True)
class Program:
    """What one run does.

    Attributes:
        plain: It has only what the previous build knows, so that this may decide on it.
        paused: The run is paused and resumed while it goes on.
    """

    commands: Body
    plain: bool = False
    paused: bool = False
    every: Body = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", tuple(_every(self.commands)))

    def has(self, kind: type) -> bool:
        """Whether a command of a kind is anywhere in it."""
        return any(isinstance(command, kind) for command in self.every)

    def text(self) -> str:
        """Return it as people read it, a line each command."""
        told = [name for name in ("plain", "paused") if getattr(self, name)]
        return "\n".join([f"program{' (' + ', '.join(told) + ')' if told else ''}", *_lines(self.commands, 1)])


def bodies(command: Command) -> Iterator[tuple[str, Body]]:
    """Yield what a command has in it, and what that is called."""
    if isinstance(command, Branches):
        yield from ((f"branch {n}", body) for n, body in enumerate(command.bodies))
    elif isinstance(command, Together):
        yield "adds", command.adds
    elif isinstance(command, Guard):
        yield "add", (command.add,)
    else:
        for one in fields(command):
            value = getattr(command, one.name)
            if isinstance(value, tuple) and one.name != "amounts" and value:
                yield one.name, value


def _every(body: Body) -> Iterator[Command]:
    for command in body:
        yield command
        for _, inner in bodies(command):
            yield from _every(inner)


def _lines(body: Body, depth: int) -> Iterator[str]:
    for command in body:
        yield f"{'  ' * depth}{type(command).__name__.lower()} {_told(command)}".rstrip()
        for name, inner in bodies(command):
            yield f"{'  ' * (depth + 1)}{name}:"
            yield from _lines(inner, depth + 2)


def _told(command: Command) -> str:
    values = ((one, getattr(command, one.name)) for one in fields(command))
    return " ".join(
        f"{one.name}={value}"
        for one, value in values
        if value != one.default
        and not isinstance(value, Add)
        and (not isinstance(value, tuple) or one.name == "amounts")
    )
