"""How a command ends: errors as one line and exit code 2, an interruption with 130, a pipe nobody reads with 141."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from blemish.cli.console import log_console
from blemish.data.files import reason
from blemish.errors import BlemishError

P = ParamSpec("P")
R = TypeVar("R")

STATION_PACKAGES = {
    "alembic",
    "fastapi",
    "prometheus_client",
    "psycopg",
    "pwdlib",
    "sqlalchemy",
    "starlette",
    "uvicorn",
}
EXTRAS = {"train": "training and reports need", "station": "a station needs"}

INTERRUPTED, NOBODY_READS = 130, 141

HOW_TO_GO_ON = {
    "train": "the same command with --resume goes on from the last state that was kept, if training had begun",
    "inspect": "what went into -o OUT, if you gave one, is kept; the same command with --resume goes on from there",
}
OTHERWISE = "the same command goes on from here where it keeps what is finished, else from the start"


def ending(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """The command, with errors in one line and how to go on after an interruption."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BlemishError as error:
            log_console.print(f"{type(error).__name__}: {error}", markup=False)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            log_console.print(f"interrupted; {HOW_TO_GO_ON.get(name, OTHERWISE)}")
            raise typer.Exit(INTERRUPTED) from None
        except ModuleNotFoundError as error:
            extra = "station" if str(error.name).partition(".")[0] in STATION_PACKAGES else "train"
            log_console.print(
                f"blemish {name} needs the package '{error.name}'; "
                f"install what {EXTRAS[extra]} with: pip install 'blemish[{extra}]'",
                markup=False,
            )
            raise typer.Exit(2) from None
        except BrokenPipeError:
            raise typer.Exit(NOBODY_READS) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else "standard output: "
            log_console.print(f"{where}{reason(error)}", markup=False)
            raise typer.Exit(2) from None

    return run
