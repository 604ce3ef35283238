"""`blemish inspect`: what a model says of images."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import counter, emit, progress, say, say_masks, say_skipped, say_unread, say_withdrawn
from blemish.cli.options import (
    Device,
    DoubtRate,
    MaxFalseAlarmRate,
    Model,
    Sha256,
    SignedBy,
    SkipBad,
    State,
    Threads,
    Threshold,
    at_threshold,
    check_one_threshold,
)
from blemish.errors import SettingsError, nearest, plural
from blemish.inspection.rows import FORMATS

if TYPE_CHECKING:
    from blemish.inspection.inspect import Inspection
    from blemish.inspection.rows import Row

UNREADABLE = 3
"""Exit code."""

MANY = 8
"""Where so many images are all anomalous, it may not be the parts."""


Images = Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for overlays, defect masks and the rows.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with what is in that folder: images with the same content are not judged again, told by their "
        "SHA-256. Refused after another model, threshold or rate.",
    ),
]
Fdr = Annotated[
    float | None,
    typer.Option(
        help="Judge the images as one batch: of those called anomalous, at most this share is good, on average."
    ),
]
Form = Annotated[str, typer.Option("--format", metavar="|".join(FORMATS), help="What to print.")]


def inspect(
    model: Model,
    images: Images,
    out: Out = None,
    resume: Resume = False,
    threshold: Threshold = None,
    max_false_alarm_rate: MaxFalseAlarmRate = None,
    fdr: Fdr = None,
    doubt_rate: DoubtRate = None,
    form: Form = "table",
    state: State = None,
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
    sha256: Sha256 = None,
    signed_by: SignedBy = None,
) -> None:
    """Judge images, with a row for each as soon as it is judged.

    Exit code 0: all good; 1: at least one is anomalous; 2: an error; 3: none is anomalous, but at least one could not
    be read and was left out (--skip-bad).
    """
    from blemish.inference.predictor import Predictor
    from blemish.inference.runtime import is_onnx
    from blemish.inspection.index_page import INDEX
    from blemish.inspection.inspect import Request, inspect_images
    from blemish.inspection.pipeline import threads_each, worker_count

    check_one_threshold(threshold=threshold, max_false_alarm_rate=max_false_alarm_rate, fdr=fdr)
    check_one_threshold(fdr=fdr, doubt_rate=doubt_rate)  # of a batch the threshold is known at its end
    if form not in FORMATS:
        raise SettingsError(f"--format {form}: unknown; {nearest(form, FORMATS)}")
    each = threads_each(images) if threads is None and device in ("auto", "cpu") and is_onnx(model) else threads
    predictor = Predictor.load(model, device, each, state=state, sha256=sha256, signed_by=signed_by)
    predictor = at_threshold(predictor, threshold, max_false_alarm_rate)
    request = Request(model, out, form, skip_bad, fdr, resume, worker_count(threads), doubt_rate)
    say_withdrawn(predictor.withdrawal)
    verdicts: Counter[str] = Counter()
    with progress() as report:
        count = counter(report, "inspecting")
        found = inspect_images(predictor, images, request, count, lambda text: say("note", text))
        for text in FORMATS[form].printed(_counted(found.rows(), verdicts)):
            emit(text)
    judged = verdicts["good"] + verdicts["anomalous"]
    say_skipped(found.skipped, None if form == "table" else judged)  # a table ends with it
    say_unread(images)
    say_masks(images)
    _say_notes(found)
    if threshold is None and verdicts["anomalous"] == judged >= MANY:
        say(
            "note",
            "every image is anomalous; where some show good parts, they differ from those trained on: in light, focus, "
            "position or compression, or the parts themselves do",
        )
    if out is not None:
        say("written", f"{out / INDEX}, and the rows, heat maps and defect masks beside it")
    raise typer.Exit(1 if verdicts["anomalous"] else UNREADABLE if verdicts["unreadable"] else 0)


def _counted(rows: "Iterable[Row]", verdicts: Counter[str]) -> "Iterator[Row]":
    for row in rows:
        verdicts[row["verdict"]] += 1
        yield row


def _say_notes(found: "Inspection") -> None:
    if found.fewest > 1:
        say(
            "note",
            f"with so few calibration images, {found.fewest} of this batch must stand out for any to be selected",
        )
    if found.twice:
        say("note", f"{plural(found.twice, 'image')} given more than once, each judged once")
    for note in found.readings.notes:
        say("note", note)
    if found.paged:
        say("note", f"of {plural(found.paged, 'image')} with several pages only page 1 was judged; split the files")
