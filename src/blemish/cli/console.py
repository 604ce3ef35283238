"""What the commands print with: results on standard output, all else on standard error."""

import io
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from blemish.cli.log_lines import LogLines
from blemish.cli.stopping import when_asked_to_end
from blemish.data.progress import OnStep, Progress, Report
from blemish.errors import DataError, join_names, plural, printable, unread

if TYPE_CHECKING:
    from blemish.inference.monitor_state import Alarm


class _Console(Console):
    """Prints text as it is: file names are no markup, and nothing in them reaches the terminal as a command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string passes here, those in tables too."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Nobody reads any more. Rich would end with exit code 1, which says something about images."""
        _write_nowhere()
        raise BrokenPipeError


@final
class _Log(_Console):
    """What is said on standard error; where it cannot be, on a full disk, the work and its exit code stay."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, but an error of standard error leads it nowhere from then on."""
        try:
            super().print(*objects, **options)
        except OSError:
            self._buffer.clear()  # rich keeps what it could not write
            _write_nowhere(sys.stderr)

    def on_broken_pipe(self) -> None:
        """Nobody reads any more, which stops nothing."""
        _write_nowhere(sys.stderr)


out_console = _Console()
log_console = _Log(stderr=True)


def prepare_streams() -> None:
    """Let characters that a terminal or a file's encoding does not have be printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(kind: str, text: str) -> None:
    """One line on standard error: what kind of message it is, and the message."""
    log_console.print(f"{kind}: {text}")


def emit(text: str) -> None:
    """Text as it is, seen at once also where standard output is a file or a pipe.

    On a terminal control characters are shown as escapes; a file or a pipe gets the text to the byte.

    Raises:
        OSError: nobody reads it, or the disk is full; what is printed after that goes nowhere.
    """
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        _write_nowhere()
        raise


def _write_nowhere(stream: TextIO | None = None) -> None:
    """Standard output, or the stream, leads nowhere from now on: what is still in its buffer raises no second error."""
    with suppress(OSError, ValueError):  # not a file at all
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, (stream or sys.stdout).fileno())
        os.close(nowhere)


@contextmanager
def progress(at_once: bool = False) -> Iterator[Report]:
    """A bar on a terminal's stderr with the time left, in a log a line now and then; Ctrl-C, or another signal that
    asks to end, stops between two steps, twice stops at once.

    Where no step comes any more it stops at the end of the block, so that nothing claims success after it. `at_once`
    is for work of which nothing is kept: there the first one stops it wherever it is.

    What is printed meanwhile goes above it, but only where standard output is the same terminal: rich would lead it to
    standard error, away from a file or a pipe.

    Raises:
        KeyboardInterrupt: it was asked to end, also where something made another error of it, or swallowed it.
    """
    columns = (
        TextColumn("{task.description:<14}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    asked_to_stop = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal asked_to_stop
        again, asked_to_stop = asked_to_stop, True
        if again or at_once:
            raise KeyboardInterrupt

    shown = log_console.is_terminal  # a file or a pipe would keep every state of the bar
    lines = LogLines(lambda line: say("progress", line))
    with Bar(*columns, console=log_console, redirect_stdout=sys.stdout.isatty(), disable=not shown) as bar:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            what, done, total, note = progress
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None, note=note)
            if done < bar.tasks[tasks[what]].completed:  # the same work again, on other images
                bar.reset(tasks[what])
            bar.update(tasks[what], completed=done, total=total or None, note=note)

        def report(progress: Progress) -> None:
            (show if shown else lines.report)(progress)
            if asked_to_stop:
                raise KeyboardInterrupt

        try:
            with when_asked_to_end(stop):
                yield report
        except Exception:
            if asked_to_stop:
                raise KeyboardInterrupt from None
            raise
        if asked_to_stop:
            raise KeyboardInterrupt


def counter(report: Report, what: str) -> OnStep:
    """What a library function calls with how much is done and how much there is."""
    return lambda done, total: report(Progress(what, done, total))


def say_skipped(skipped: Mapping[str, str], read: int | None = None, what: str = "could not be read") -> None:
    """Why images could not be read, and of how many in all, where `read` says how many could; `what` as in `unread`."""
    for reason in skipped.values():
        say("skipped", reason)
    if skipped and read is not None:
        say("skipped", unread(len(skipped), read + len(skipped), what))


def say_unread(folders: Iterable[Path]) -> None:
    """A note on images that are passed over: what was not judged must not seem to be good."""
    from blemish.data.image_files import unread_images

    names = list[str]()
    for folder in folders:
        try:
            names += map(str, unread_images(folder) if folder.is_dir() else ())
        except DataError as error:  # what was to be read has been read
            say("note", str(error))
    if names:
        what = (
            f"{plural(len(names), 'image')} not read, as only PNG, JPEG, BMP, TIFF and WebP are, and links to "
            "folders are not followed"
        )
        say("note", f"{what}: {join_names(names)}")


def say_masks(folders: Iterable[Path]) -> None:
    """A note on a data set's masks, which are no photos to judge, and on masks that were taken for photos."""
    from blemish.data.image_files import photos_and_masks
    from blemish.data.stray_masks import masks_among

    for folder in folders:
        photos, masks = photos_and_masks(folder, []) if folder.is_dir() else ([], [])
        if among := masks_among(photos, [folder]):
            looks = f"{plural(len(among), 'image')} among the photos named like masks and taken for photos"
            say("note", f"{looks}: {join_names(list(map(str, among)))}")
        if masks:
            say(
                "note",
                f"{plural(len(masks), 'image')} among a data set's masks left out, as they are no photos: {folder}",
            )


def say_withdrawn(alarm: "Alarm | None") -> None:
    """A warning, where a watch over the line has withdrawn the model's certificate."""
    from blemish.inference.monitor_state import withdrawn_message

    if alarm is not None:
        say("warning", withdrawn_message(alarm))


def new_table(*columns: str, left: Collection[str] = ("",), title: str | None = None) -> Table:
    """An empty table; columns are on the right, as numbers are, but for those of `left`."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", overflow="fold")
    return table


def print_table(title: str, rows: dict[str, str]) -> None:
    """Names and values in two columns."""
    table = Table(title=title, box=None, pad_edge=False, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    out_console.print(table)
