"""The command line, called in this process."""

from collections.abc import Iterable
from typing import Any

from typer.testing import CliRunner, Result

from blemish.cli import app


def run(*arguments: object, **options: Any) -> Result:
    """What a command printed and how it ended; `options` are those of `CliRunner.invoke`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def sets(assignments: Iterable[str]) -> list[str]:
    """Settings as the command line takes them."""
    return [word for assignment in assignments for word in ("--set", assignment)]
