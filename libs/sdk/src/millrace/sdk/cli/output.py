"""What commands print: tables for people, JSON for programs."""

import json

from millrace.sdk.rendering import console, duration, moment, plain, state_text, table, took, whole
from rich.markup import escape
from rich.text import Text

__all__ = [
    "console",
    "duration",
    "moment",
    "plain",
    "print_json",
    "printable",
    "say",
    "state_text",
    "table",
    "took",
    "whole",
]


def say(words: str, **values: object) -> None:
    """Print words, with markup, and values in them, whose brackets are no markup."""
    console.print(Text.from_markup(words.format(**{name: escape(str(value)) for name, value in values.items()})))


def printable(text: str) -> str:
    """Return a text from anywhere without what would steer a terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)


def print_json(found: object) -> None:
    """Print what was found: messages, and what holds some, with their own field names."""
    print(json.dumps(plain(found), indent=2))
