"""Printing of the command line: text and JSON without control characters.

Apart from the commands, because ruff bans click.echo everywhere else.
"""

import json
import sys

import click
import msgspec

from presets.safe_text import visible, visible_json


def say(text: str, *, err: bool = False) -> None:
    """Print lines, on standard error if `err`, with control characters replaced by visible ones."""
    text = visible(text)
    stream = sys.stderr if err else sys.stdout
    if not text.isascii() and stream.isatty():  # a pipe is given names as they are
        from tui.terminal.streams import ascii_only, in_ascii

        text = in_ascii(text) if ascii_only(stream) else text
    click.echo(text, err=err)  # noqa: TID251


def say_json(content: object, *, indent: int = 2) -> None:
    """Print JSON, indented for people; on one line if `indent` is 0."""
    try:
        encoded = msgspec.json.encode(content)
        text = (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
    except UnicodeEncodeError:  # a file name that is not UTF-8: only escapes can say it
        text = json.dumps(msgspec.to_builtins(content), indent=indent or None)
    click.echo(visible_json(text))  # noqa: TID251
