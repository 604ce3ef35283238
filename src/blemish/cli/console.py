"""What the commands print with: results on standard output, all else on standard error."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

if TYPE_CHECKING:
    from blemish.inference.monitor_state import Alarm


@final
class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more. Rich would end with exit code 1, which says something about images."""
        _write_nowhere()
        raise BrokenPipeError


out_console = _Console(soft_wrap=True, highlight=False)
log_console = _Console(stderr=True, soft_wrap=True, highlight=False)


def emit(text: str) -> None:
    """Text as it is, seen at once also where standard output is a file or a pipe.

    Raises:
        OSError: nobody reads it, or the disk is full; what is printed after that goes nowhere.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        _write_nowhere()
        raise


def _write_nowhere() -> None:
    """Standard output leads nowhere from now on, so that what is still in its buffer raises no second error."""
    with suppress(OSError, ValueError):  # not a file at all
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def progress() -> Iterator[Callable[[Any], None]]:
    """A bar on stderr with an estimate of the time left; Ctrl-C stops between two steps, twice stops at once.

    What is printed meanwhile goes above it, but only where standard output is the same terminal: rich would lead it to
    standard error, away from a file or a pipe.
    """
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    asked_to_stop = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal asked_to_stop
        if asked_to_stop:
            raise KeyboardInterrupt
        asked_to_stop = True

    with Bar(*columns, console=log_console, redirect_stdout=sys.stdout.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def report(progress: Any) -> None:
            what, done, total, note = progress
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, note=note)
            if done < bar.tasks[tasks[what]].completed:  # the same work again, on other images
                bar.reset(tasks[what])
            bar.update(tasks[what], completed=done, total=total, note=note)
            if asked_to_stop:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield report
        finally:
            signal.signal(signal.SIGINT, before)


def counter(report: Callable[[Any], None], what: str) -> Callable[[int, int], None]:
    return lambda done, total: report((what, done, total, ""))


def say_skipped(skipped: Mapping[str, str]) -> None:
    for reason in skipped.values():
        log_console.print(f"skipped: {reason}", markup=False)


def say_unread(folders: Iterable[Path]) -> None:
    """A note on images that are passed over: what was not judged must not seem to be good."""
    from blemish.data.folder import unread_images
    from blemish.errors import plural

    names = [str(path) for folder in folders if folder.is_dir() for path in unread_images(folder)]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        log_console.print(
            f"note: {plural(len(names), 'image')} not read, as only PNG, JPEG, BMP, TIFF and WebP are, and "
            f"links to folders are not followed: {', '.join(names[:3])}{more}",
            markup=False,
        )


def say_withdrawn(alarm: "Alarm | None") -> None:
    """A warning, where a watch over the line has withdrawn the model's certificate."""
    from blemish.inference.monitor_state import withdrawn_message

    if alarm is not None:
        log_console.print(f"warning: {withdrawn_message(alarm)}", markup=False)


def print_table(title: str, rows: dict[str, str]) -> None:
    table = Table(title=title, box=None, pad_edge=False, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    out_console.print(table)
