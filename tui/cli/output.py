"""Printing of the command line: the one way by which its text reaches a terminal, a pipe or a file."""

import json

import click
import msgspec

from presets.safe_text import visible, visible_json


def say(text: str, *, err: bool = False) -> None:
    """Print lines, on standard error if `err`; what a terminal would obey in them is shown by signs."""
    click.echo(visible(text), err=err)  # noqa: TID251


def say_json(content: object, *, indent: int = 2) -> None:
    """Print what a program is to read, indented for people; 0 prints it on one line."""
    try:
        encoded = msgspec.json.encode(content)
        text = (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
    except UnicodeEncodeError:  # a file name that is not UTF-8: only escapes can say it
        text = json.dumps(msgspec.to_builtins(content), indent=indent or None)
    click.echo(visible_json(text))  # noqa: TID251
