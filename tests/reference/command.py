"""The command line, called in this process."""

from typing import Any

from typer.testing import CliRunner, Result

from blemish.cli import app


def run(*arguments: object, **options: Any) -> Result:
    """What a command printed and how it ended; `options` are those of `CliRunner.invoke`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
