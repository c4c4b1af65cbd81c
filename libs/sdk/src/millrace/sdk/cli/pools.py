"""`millrace pool` and `millrace quota`: how much is under way at once, and who waits for it."""

import re
from collections.abc import Sequence
from typing import Annotated

import typer
from millrace.contracts.rpc.control.v1 import control_pb2 as pb
from millrace.runtime.errors import InvalidInput
from millrace.sdk.cli.connection import FOLDER, NAMESPACE, Folder, Json, Namespace, asked
from millrace.sdk.cli.output import console, moment, print_json, say, table, whole

app = typer.Typer()
pool = typer.Typer(help="Pools, whose slots tasks take: apply, list, show and delete them.", no_args_is_help=True)
quota = typer.Typer(help="How many tasks of a namespace may hold slots at once, over all pools.", no_args_is_help=True)
app.add_typer(pool, name="pool")
app.add_typer(quota, name="quota")

RATE = re.compile(r"(\d+)/(\d+(?:\.\d+)?)?([smh])")
SECONDS = {"s": 1, "m": 60, "h": 3_600}
MOST = 1_000_000
"""The most of anything that is counted here."""

Name = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.")]


@pool.command()
def apply(
    name: Name,
    slots: Annotated[int, typer.Option("--slots", min=0, max=MOST, help="How many; with 0, nothing is let in.")],
    rate: Annotated[str, typer.Option("--rate", metavar="N/TIME", help="How many begin at most: 10/s, 100/5m.")] = "",
    burst: Annotated[int, typer.Option("--burst", min=0, max=MOST, help="How many begin at once after a pause.")] = 0,
    shares: Annotated[
        list[str] | None,
        typer.Option("--share", metavar="KEY=N", help="What a fairness key has as often as others have one."),
    ] = None,
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Have a pool, or another size, rate or other shares of one; it takes effect at once.

    Example: `millrace pool apply gpu --slots 4 --rate 100/m --share research=3`
    """
    if burst and not rate:
        raise InvalidInput("--burst is of a rate: say --rate too, such as --rate 10/s")
    limit, by_key = _rate(rate, burst), dict(map(_share, shares or ()))
    found = asked(state, namespace, lambda client: client.pools.apply(name, slots, rate=limit, shares=by_key))
    if as_json:
        return print_json(found)
    done = "is so already" if found.unchanged else "is in force"
    return say("pool [bold]{name}[/] {done}: {stands}", name=name, done=done, stands=_stands(found.pool))


@pool.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many to show.")] = 50,
    after: Annotated[str, typer.Option("--after", metavar="POOL", help="Those whose names come after.")] = "",
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Show the pools, how many of their slots are taken, and how many tasks wait.

    Example: `millrace pool list`
    """
    found = asked(state, namespace, lambda client: client.pools.list(limit=limit, after=after))
    if as_json:
        return print_json(found)
    shown = table("pool", "slots", "taken", "tasks", "waiting", "rate", "shares", "by")
    for one in found.pools:
        counts = (one.slots, one.taken, one.leases, one.waiting)
        shown.add_row(one.name, *map(str, counts), _rate_text(one), _shares_text(one), one.principal)
    console.print(shown if found.pools else f"no pool in namespace {namespace}: `millrace pool apply NAME --slots N`")
    if found.next_after:
        console.print(f"more with `--after {found.next_after}`")
    return None


@pool.command()
def show(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Show a pool: who holds slots of it, and who waits, in the order in which they would be let in.

    Example: `millrace pool show gpu`
    """
    found = asked(state, namespace, lambda client: client.pools.get(name))
    if as_json:
        return print_json(found)
    one = found.pool
    console.print(f"pool {one.name}   {_stands(one)}   by {one.principal}, {moment(one.applied_at)}")
    console.print(_uses("holds slots", found.holders) if found.holders else "nobody holds a slot")
    return console.print(_uses("waits", found.waiters) if found.waiters else "nobody waits")


@pool.command()
def delete(name: Name, state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Have a pool no more that no workflow in force names and nobody uses.

    Example: `millrace pool delete gpu`
    """
    asked(state, namespace, lambda client: client.pools.delete(name))
    if as_json:
        return print_json({"deleted": name})
    return say("pool [bold]{name}[/] is deleted", name=name)


@quota.command("apply")
def apply_quota(
    max_leases: Annotated[
        str, typer.Argument(metavar="N", help="How many tasks may hold slots at once; `none` for any number.")
    ],
    state: Folder = FOLDER,
    namespace: Namespace = NAMESPACE,
    as_json: Json = False,
) -> None:
    """Say how many tasks of the namespace may hold slots at once, over all its pools; it takes effect at once.

    Example: `millrace quota apply 20 -n research`
    """
    most = None if max_leases == "none" else _number(max_leases, f"N is {max_leases!r}: a whole number, or `none`")
    found = asked(state, namespace, lambda client: client.pools.apply_quota(most))
    return print_json(found) if as_json else console.print(_quota_text(namespace, found.quota))


@quota.command("show")
def show_quota(state: Folder = FOLDER, namespace: Namespace = NAMESPACE, as_json: Json = False) -> None:
    """Show the namespace's quota, and how many tasks hold slots and wait.

    Example: `millrace quota show -n research`
    """
    found = asked(state, namespace, lambda client: client.pools.quota())
    return print_json(found) if as_json else console.print(_quota_text(namespace, found))


def _rate(text: str, burst: int) -> pb.Rate | None:
    """Return the rate that `10/s` or `100/5m` says; None for none.

    Raises:
        InvalidInput: It says something else.
    """
    if not text:
        return None
    read = RATE.fullmatch(text)
    right = f"--rate is {text!r}: how many in how long, such as 10/s, 100/5m or 1000/h"
    if read is None:
        raise InvalidInput(right)
    count, number, unit = read.groups()
    return pb.Rate(count=_number(count, right), per_s=float(number or 1) * SECONDS[unit], burst=burst)


def _share(text: str) -> tuple[str, int]:
    key, _, number = text.rpartition("=")
    right = f"--share is {text!r}: a fairness key and a whole number, such as research=3"
    if not key:
        raise InvalidInput(right)
    return key, _number(number, right)


def _number(text: str, right: str) -> int:
    """Return the whole number in a text.

    Raises:
        InvalidInput: It is none, or too large; `right` says what would be right.
    """
    if not re.fullmatch(r"\d{1,7}", text, re.ASCII) or int(text) > MOST:
        raise InvalidInput(f"{right}, at most {MOST}")
    return int(text)


def _stands(one: pb.Pool) -> str:
    rate = f", at most {text}" if (text := _rate_text(one)) else ""
    shares = f", shares {text}" if (text := _shares_text(one)) else ""
    return f"{one.taken} of {one.slots} slots taken, {one.waiting} tasks wait{rate}{shares}"


def _rate_text(one: pb.Pool) -> str:
    if not one.HasField("rate"):
        return ""
    burst = f", {one.rate.burst} at once" if one.rate.burst else ""
    return f"{one.rate.count} in {one.rate.per_s:g} s{burst}"


def _shares_text(one: pb.Pool) -> str:
    return ", ".join(f"{key} {number}" for key, number in sorted(one.shares.items()))


def _uses(what: str, uses: Sequence[pb.PoolUse]) -> object:
    shown = table(whole(what), "task", "slots", "priority", "key", "since")
    for one in uses:
        shown.add_row(one.run_id, one.task, str(one.weight), str(one.priority), one.fairness_key, moment(one.since))
    return shown


def _quota_text(namespace: str, found: pb.Quota) -> str:
    most = f"at most {found.max_leases} tasks hold slots at once" if found.HasField("max_leases") else "no quota"
    return f"namespace {namespace}: {most}; {found.leases} do now, {found.waiting} wait"
