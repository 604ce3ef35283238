"""`blemish monitor`: has the line changed?"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import (
    counter,
    log_console,
    new_table,
    out_console,
    progress,
    say,
    say_masks,
    say_skipped,
    say_unread,
)
from blemish.cli.inspect import UNREADABLE
from blemish.cli.options import Device, Groups, Model, Sha256, SignedBy, SkipBad, State, TableOrJson, Threads
from blemish.errors import join_names, plural

if TYPE_CHECKING:
    from blemish.inference.artifact import ArtifactHeader
    from blemish.inference.monitor_state import Alarm
    from blemish.inspection.monitor import Watched


def monitor(
    model: Model,
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of images, such as the one watched and the one rejects are moved to, watched in the order "
            "they were last changed; - reads paths from standard input.",
            show_default=False,
        ),
    ],
    max_false_alarm_probability: Annotated[
        float | None, typer.Option(help="The chance that a false alarm is ever raised. Default: 0.01.")
    ] = None,
    smallest_change: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.9,
            help="A change up to this share of the usual value does not count, e.g. 0.05; chosen before the first "
            "image. Default: 0.",
        ),
    ] = None,
    groups: Groups = None,
    state: State = None,
    form: TableOrJson = "table",
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
    sha256: Sha256 = None,
    signed_by: SignedBy = None,
) -> None:
    """Notice when the line has changed. By score, brightness, contrast, sharpness and position.

    Exit code 0: no change noticed; 1: something has changed, and the certificate is withdrawn; 2: an error; 3: no
    change noticed, but at least one image could not be read and was left out (--skip-bad). Run again, it goes on with
    the images that are new.
    """
    import sys

    import numpy as np

    from blemish.inference.monitor_state import default_state_path
    from blemish.inference.predictor import Predictor
    from blemish.inspection.monitor import monitor_images, to_json

    predictor = Predictor.load(model, device, threads, sha256=sha256, signed_by=signed_by)
    stream = (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
    is_stream = images == [Path("-")]
    with progress(at_once=is_stream) as report:  # a stream may never bring another path
        found = monitor_images(
            predictor,
            stream if is_stream else images[0],
            state or default_state_path(model),
            np.random.default_rng(),
            further=images[1:],
            max_false_alarm_probability=max_false_alarm_probability,
            smallest_change=smallest_change,
            groups=groups,
            skip_bad=skip_bad,
            on_alarm=_say_alarm,
            on_copies=_say_copies,
            on_image=counter(report, "watching"),
            is_current=_is_current(model, predictor.header),
        )
    _say_left_out(found, images)
    if form == "json":
        typer.echo(to_json(found))
    else:
        _print_watch(found)
    _say_nothing_new(found)
    raise typer.Exit(1 if found.alarms else UNREADABLE if found.skipped or found.still_unreadable else 0)


def _say_left_out(found: "Watched", images: list[Path]) -> None:
    say_skipped(found.skipped, found.new_images + found.passed_over + found.copies)
    if found.still_unreadable:
        files = plural(len(found.still_unreadable), "file")
        say("skipped", f"{files} left out before, and unchanged: {join_names(found.still_unreadable)}")
    say_unread(images)
    say_masks(images)


def _say_nothing_new(found: "Watched") -> None:
    if found.skipped and not found.new_images:
        which = "the only new image" if len(found.skipped) == 1 else f"each of the {len(found.skipped)} new images"
        say("warning", f"{which} could not be read; is the camera working?")
    elif found.copies and not found.new_images:
        say("warning", "no new image but copies of images watched before; is the camera working?")


def _say_alarm(alarm: "Alarm") -> None:
    from blemish.inference.score import score_text

    log_console.print(
        f"ALARM: {alarm.stream} has changed, {score_text(alarm.usual)} when calibrated, {score_text(alarm.now)} now; "
        f"noticed after {plural(alarm.images, 'image')}, at {alarm.image}"
    )


def _say_copies(count: int, last: str) -> None:
    say(
        "warning", f"the last {count} images, up to {last}, are copies of images watched before; is the camera working?"
    )


def _is_current(model: Path, header: "ArtifactHeader") -> Callable[[], bool]:
    """Whether the model file is still calibrated on the same images; it is read again only when it has changed."""
    from blemish.inference.monitor_state import calibration_id
    from blemish.inference.runtime import header_of

    seen_ns, is_same = model.stat().st_mtime_ns, True

    def ask() -> bool:
        nonlocal seen_ns, is_same
        now_ns = model.stat().st_mtime_ns
        if now_ns != seen_ns:
            seen_ns, is_same = now_ns, calibration_id(header_of(model)) == calibration_id(header)
        return is_same

    return ask


def _print_watch(found: "Watched") -> None:
    from blemish.inference.score import score_text

    table = new_table("", "when calibrated", "now", "evidence of change")
    for name, stream in found.streams.items():
        evidence = f"{100 * stream.log10_peak / found.log10_limit:.0f} %"
        table.add_row(name, score_text(stream.usual), score_text(stream.now), evidence)
    out_console.print(table)
    chance = f"{100 * found.max_false_alarm_probability:g} %"
    verdict = f"CHANGED: {', '.join(alarm.stream for alarm in found.alarms)}" if found.alarms else "no change noticed"
    out_console.print(
        f"{verdict} in {plural(found.images, 'image')}, {found.new_images} of them new (chance of ever a false alarm: "
        f"{chance})"
    )
    if found.is_restarted:
        say("note", "the model was calibrated again since, so the watch began again")
    if found.passed_over:
        passed = plural(found.passed_over, "file")
        say("note", f"{passed} passed over, watched before or trained or calibrated on")
    if found.copies:
        say("note", f"{plural(found.copies, 'file')} passed over as copies of images watched before, which count once")
    if "score" not in found.streams:
        say("note", "calibrated fold by fold, the score itself is not watched; the photo's values are")
    for note in found.notes:
        say("note", note)
    if found.open_group is not None:
        say("note", f"group '{found.open_group}' counts when the next one begins")
