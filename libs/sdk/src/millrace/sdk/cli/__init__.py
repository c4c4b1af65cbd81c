"""The `millrace` command: one module for each noun, each with its commands in `app`."""

import logging
from typing import Any

import typer
from millrace.sdk.cli import (
    apply,
    explain,
    held,
    lineage,
    observability,
    people,
    pools,
    predict,
    publish,
    runs,
    schedules,
    stack,
    triggers,
    worker,
    workflows,
)
from millrace.sdk.cli import operations as operations  # its commands are among those of `run`
from millrace.sdk.cli.connection import one_line_errors
from typer.core import TyperGroup


class _OneLineErrors(TyperGroup):
    """The commands, with their errors told in one line."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # noqa: ANN401 - what a command returns
        """Run the command that was named."""
        with one_line_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_OneLineErrors,
    help="Millrace: machine learning run by events. Start with `millrace up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for noun in (
    *(stack, publish, apply, workflows, triggers, schedules, runs, explain, people, worker, pools),
    *(predict, lineage, held, observability),
):
    app.add_typer(noun.app)


def main() -> None:
    """Run the command line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that a broker is not there is ours to say
    app()
