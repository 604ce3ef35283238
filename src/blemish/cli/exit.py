"""How a command ends: errors as one line and exit code 2, an interruption with 130, a pipe nobody reads with 141."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import typer
from typer.models import OptionInfo

from blemish.cli.console import log_console, prepare_streams, say
from blemish.cli.stopping import when_asked_to_end
from blemish.errors import BlemishError, CalibrationError, SettingsError, reason

P = ParamSpec("P")
R = TypeVar("R")

ERROR, INTERRUPTED, NOBODY_READS = 2, 130, 141

HOW_TO_GO_ON = {
    "train": "the same command with --resume goes on from the last state kept, or from the start if there is none",
    "inspect": "what went into -o OUT, if you gave one, is kept; the same command with --resume goes on from there",
    "watch": "every decision is kept; the same command goes on with the images that are not in its record",
    "compare": "finished runs are kept; the same command goes on with the others",
    **dict.fromkeys(
        (
            *("evaluate", "challenge", "data check", "data convert", "data synth", "certify", "export", "verify"),
            *("station backup", "station restore"),
        ),
        "nothing of it is kept; the same command starts from the beginning",
    ),
}
OTHERWISE = "the same command goes on from here where it keeps what is finished, else from the start"


def ending(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """The command, with errors in one line and how to go on after an interruption."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        prepare_streams()
        try:
            with _interruptible():
                return function(*args, **kwargs)
        except KeyboardInterrupt as where:  # which may say itself how to go on
            log_console.print(f"interrupted; {str(where) or HOW_TO_GO_ON.get(name, OTHERWISE)}")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(NOBODY_READS) from None
        except (BlemishError, ImportError, MemoryError, OSError) as error:
            kind, message = _kind_and_message(name, error)
            if isinstance(error, SettingsError | CalibrationError):
                message = _as_typed(message, function, kwargs)
            say(kind, message)
            raise typer.Exit(ERROR) from None

    return run


@contextmanager
def _interruptible() -> Iterator[None]:
    """What asks to end raises KeyboardInterrupt, and so does the error that an import makes of it."""
    came = False

    def interrupt(_signal: int, _frame: object) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    try:
        with when_asked_to_end(interrupt):
            yield
    except typer.Exit:
        raise
    except Exception:
        if came:
            raise KeyboardInterrupt from None
        raise


def _as_typed(message: str, function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """A message that begins with settings, with the options in their place that they were given by, if they were."""
    parameters = inspect.signature(function).parameters
    head = re.match(r"[\w.]+( and [\w.]+)*(?=:)", message)
    for setting in head[0].split(" and ") if head else ():
        name = re.sub(r"\.\d+$", "", setting).rpartition(".")[2]
        if name not in parameters or ("set_" in given and given[name] == parameters[name].default):
            continue
        for one in getattr(parameters[name].annotation, "__metadata__", ()):
            if isinstance(one, OptionInfo):
                flags = (one.default, *(one.param_decls or ()), f"--{name.replace('_', '-')}")  # Typer's order
                option = next(str(flag) for flag in flags if str(flag).startswith("--"))
                message = re.sub(rf"{re.escape(setting)}(?=[:=]| and )", option, message)
    return message


def _kind_and_message(command: str, error: Exception) -> tuple[str, str]:
    """Whose an error is, and what it says."""
    match error:
        case ModuleNotFoundError():
            extra, what = (
                ("station", "a station needs") if "station" in command else ("train", "training and reports need")
            )
            return f"blemish {command}", (
                f"needs the package '{error.name}'; install what {what} with: pip install 'blemish[{extra}]'"
            )
        case ImportError():
            return (
                f"blemish {command}",
                f"a package cannot be loaded ({error}); install blemish again, or what it needs",
            )
        case MemoryError():
            return f"blemish {command}", "the memory does not suffice; use smaller images, or fewer at once"
        case OSError(filename=None):
            return "standard output", reason(error)
        case OSError():
            return "DataError", f"{error.filename}: {reason(error)}"
    return type(error).__name__, str(error)
