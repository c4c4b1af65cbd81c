"""The `millrace` command: one module for each noun, each with its commands in `app`."""

import logging
import sys

import typer
from millrace.sdk.cli import apply, held, lineage, observability, predict, publish, runs, stack
from millrace.sdk.cli.connection import one_line_errors

app = typer.Typer(
    help="Millrace: machine learning run by events. Start with `millrace up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for noun in (stack, publish, apply, runs, predict, lineage, held, observability):
    app.add_typer(noun.app)


def main() -> None:
    """Run the command line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that a broker is not there is ours to say
    with one_line_errors():
        sys.exit(app())
