"""Runs one service: `python -m millrace.runtime training`, or only its migrations with `--migrate`."""

import argparse
import asyncio
import sys
from importlib import import_module

import uvloop
from millrace.contracts import SERVICES
from millrace.runtime.command import faults
from millrace.runtime.errors import MillraceError
from millrace.runtime.migrate import migrate
from pydantic import ValidationError


def main() -> int:
    """Read the service's settings from the environment and run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m millrace.runtime", description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument(
        "--migrate", action="store_true", help="apply all migrations, those for after a roll-out too, and exit"
    )
    arguments = parser.parse_args()
    settings_class = import_module(f"millrace.{arguments.service}.settings").Settings
    try:
        settings = settings_class()
    except ValidationError as error:
        prefix = settings_class.model_config["env_prefix"]
        sys.stderr.write(f"{arguments.service} cannot start; settings come from {prefix}…: {faults(error)}\n")
        return 2
    if arguments.migrate:
        applied = asyncio.run(migrate(settings.postgres_dsn.get_secret_value(), arguments.service, post=True))
        sys.stdout.write("".join(f"{name}\n" for name in applied))
        return 0
    run = import_module(f"millrace.{arguments.service}.app").main
    try:
        uvloop.run(run(settings))
    except MillraceError as error:
        sys.stderr.write(f"{arguments.service} stopped: {error}\n")
        return 1
    except BaseExceptionGroup as failed:
        # Each of them is a log line already, without the text that may quote what it was given.
        names = ", ".join(type(error).__name__ for error in failed.exceptions)
        sys.stderr.write(f"{arguments.service} stopped: {names}; its log has more\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
