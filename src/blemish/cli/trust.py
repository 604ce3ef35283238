"""`blemish certify`, `monitor` and `challenge`: how far a model may be trusted."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from blemish.cli.options import Device, Groups, Model, SkipBad, State, Threads
from blemish.cli.screen import counter, log_console, out_console, print_table, progress, say_skipped, say_withdrawn

if TYPE_CHECKING:
    from blemish.artifact import ArtifactHeader


def certify(
    model: Model,
    max_false_alarm_rate: Annotated[
        float | None, typer.Option(help="The share of new good images that may be flagged, e.g. 0.01.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="How surely this very threshold keeps it, e.g. 0.95. None: on average.")
    ] = None,
    good: Annotated[
        Path | None, typer.Option(help="Folder of new good images to calibrate on; nothing is trained.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add them to the images calibrated on before, instead of replacing those.")
    ] = False,
    groups: Groups = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be promised, and write nothing.")] = False,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="What to print.")] = "table",
    state: State = None,
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
) -> None:
    """What a model promises of false alarms; with options, another promise, which is written into the model file."""
    from blemish.certify import Asked, certify_model, to_json

    asked = Asked(max_false_alarm_rate, confidence, good, add, groups, skip_bad, dry_run)
    with progress() as report:
        found = certify_model(model, asked, state, device, threads, counter(report, "calibrating"))
    say_skipped(found.skipped)
    for warning in found.warnings:
        log_console.print(f"warning: {warning}", markup=False)
    if form == "json":
        typer.echo(to_json(found))
    else:
        _print_certificate(found, model)


def monitor(
    model: Model,
    images: Annotated[
        Path,
        typer.Argument(
            help="Folder of images, watched in the order they were last changed; - reads paths from standard input.",
            show_default=False,
        ),
    ],
    max_false_alarm_probability: Annotated[
        float | None, typer.Option(help="The chance that a false alarm is ever raised. None: 0.01.")
    ] = None,
    groups: Groups = None,
    state: State = None,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="What to print.")] = "table",
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
) -> None:
    """Watch for change. Exit code 0: none noticed; 1: something has changed, the certificate is withdrawn; 2: an error.

    Watched are the score, brightness, contrast, sharpness and position. Run again it goes on with what is new.
    """
    import sys

    import numpy as np

    from blemish.monitor import monitor_images, to_json
    from blemish.monitor_state import default_state_path
    from blemish.predictor import Predictor

    predictor = Predictor.load(model, device, threads)
    stream = (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
    found = monitor_images(
        predictor,
        stream if images == Path("-") else images,
        state or default_state_path(model),
        np.random.default_rng(),
        max_false_alarm_probability=max_false_alarm_probability,
        groups=groups,
        skip_bad=skip_bad,
        on_alarm=lambda alarm: log_console.print(
            f"ALARM: {alarm.stream} has changed, {alarm.usual:.3g} when calibrated, {alarm.now:.3g} now; noticed after "
            f"{alarm.images} images, at {alarm.image}",
            markup=False,
        ),
        is_current=_is_current(model, predictor.header),
    )
    say_skipped(found.skipped)
    if form == "json":
        typer.echo(to_json(found))
    else:
        _print_watch(found)
    raise typer.Exit(int(bool(found.alarms)))


def challenge(
    model: Model,
    good: Annotated[
        Path, typer.Argument(help="Folder of good photos the model was not fitted on.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for challenge.json and challenge.html.", show_default=False)
    ],
    types: Annotated[str | None, typer.Option(help="Types of defects, with commas between. Else all.")] = None,
    contrasts: Annotated[
        str, typer.Option(help="Mean change of a defect's pixels, with commas between; 1 is from black to white.")
    ] = "0.05,0.1,0.2",
    defects: Annotated[int, typer.Option(help="Defects of each type and contrast.")] = 60,
    smallest_px: Annotated[
        float | None, typer.Option(help="Smallest extent, in the photos' own pixels. Else a hundredth of their side.")
    ] = None,
    largest_px: Annotated[float | None, typer.Option(help="Largest extent. Else a fifth of their side.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed puts the same defects.")] = 0,
    device: Device = "auto",
    skip_bad: SkipBad = False,
) -> None:
    """Put synthetic defects of graded size and contrast on good photos, and see which the model misses."""
    from blemish.challenge import ChallengeSettings, challenge_model
    from blemish.data.defects import DEFECTS
    from blemish.data.folder import read_folder
    from blemish.predictor import Predictor
    from blemish.settings import validate

    asked = {
        "defect_types": list(DEFECTS) if types is None else [name.strip() for name in types.split(",")],
        "contrasts": [value.strip() for value in contrasts.split(",")],
        "defects": defects,
        "smallest_px": smallest_px,
        "largest_px": largest_px,
        "seed": seed,
        "skip_bad": skip_bad,
    }
    settings = validate(ChallengeSettings, asked)
    predictor = Predictor.load(model, device)
    say_withdrawn(model, predictor.header)
    with progress() as report:
        found = challenge_model(predictor, read_folder(good), out, settings, counter(report, "challenging"))
    results = found.results
    say_skipped(results["data"]["skipped"])
    for photo in results["suspicious"]:
        log_console.print(
            f"warning: {photo['path']} was given as good, but is flagged as it is: p-value {photo['p_value']:.3f}",
            markup=False,
        )
    for note in results["notes"]:
        log_console.print(f"note: {note}", markup=False)
    _print_curves(results["curves"])
    out_console.print(f"written: {found.results_path} and {found.report_path}", markup=False)


def _is_current(model: Path, header: "ArtifactHeader") -> Callable[[], bool]:
    """Whether the model file is still calibrated on the same images; it is read again only when it has changed."""
    from blemish.monitor_state import calibration_id
    from blemish.runtime import header_of

    seen_ns, is_same = model.stat().st_mtime_ns, True

    def ask() -> bool:
        nonlocal seen_ns, is_same
        now_ns = model.stat().st_mtime_ns
        if now_ns != seen_ns:
            seen_ns, is_same = now_ns, calibration_id(header_of(model)) == calibration_id(header)
        return is_same

    return ask


def _print_certificate(found: Any, model: Path) -> None:
    header = found.header
    if found.withdrawn is not None:
        out_console.print("WITHDRAWN, until it is calibrated on images of after the change:")
    out_console.print(header.certificate.promise)
    rows = {
        "threshold": f"{header.threshold:.6g}",
        "certificate": "stands" if found.withdrawn is None else "WITHDRAWN",
        "model file": "written anew" if found.is_written else "left as it is",
    }
    print_table(str(model), rows)
    title = f"{'good images' if header.certificate.groups is None else 'groups of good images'} to add for a promise of"
    if header.certificate.kind == "cross":
        title = "good images to add, and to train with as many folds as images, for a promise of"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for name in ("", "on average", f"with {100 * found.needs_confidence:g} % confidence"):
        table.add_column(name, justify="right" if name else "left")
    for need in found.needs:
        rate, *counts = (f"{100 * need.max_false_alarm_rate:g} %", need.on_average, need.with_confidence)
        table.add_row(str(rate), *("-" if count is None else str(count or "enough") for count in counts))
    out_console.print(table)


def _print_watch(found: Any) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("", "when calibrated", "now", "evidence of change"):
        table.add_column(name, justify="right" if name else "left")
    for name, stream in found.streams.items():
        now = "-" if stream.now is None else f"{stream.now:.4g}"
        evidence = f"{stream.log10_peak / found.log10_limit:.0%}"
        table.add_row(name, f"{stream.usual:.4g}", now, evidence)
    out_console.print(table)
    chance = f"{100 * found.max_false_alarm_probability:g} %"
    verdict = f"CHANGED: {', '.join(alarm.stream for alarm in found.alarms)}" if found.alarms else "no change noticed"
    out_console.print(
        f"{verdict} in {found.images} images, {found.new_images} of them new (chance of ever a false alarm: {chance})"
    )
    if found.is_restarted:
        log_console.print("note: the model was calibrated anew since, so the watch began anew")
    if found.passed_over:
        log_console.print(
            f"note: {found.passed_over} files that were watched before, or calibrated on, were passed over"
        )
    if "score" not in found.streams:
        log_console.print("note: calibrated fold by fold, the score itself is not watched; the photo's values are")
    if found.open_group is not None:
        log_console.print(f"note: group '{found.open_group}' counts when the next one begins", markup=False)


def _print_curves(curves: Any) -> None:
    """How many defects of each type and contrast were found, and from which size on."""
    table = Table(box=None, pad_edge=False)
    for name in ("defect", "contrast", "found", "of", "a50", "a90", "a90/95", "largest missed"):
        table.add_column(name, justify="left" if name == "defect" else "right")
    for curve in curves:
        sizes = [_extent(curve[name]) for name in ("a50", "a90", "a90_95")] if curve["fit"] else ["", "", ""]
        missed = "" if curve["largest_missed_px"] is None else f"{curve['largest_missed_px']:.0f} px"
        cells = [curve["defect_type"], f"{curve['contrast']:g}", str(curve["found"]), str(curve["defects"])]
        table.add_row(*cells, *sizes, missed)
    out_console.print(table)


def _extent(size: Any) -> str:
    words = {"never": "never", "above_range": "larger", "below_range": "smaller"}
    return words.get(size["status"]) or f"{size['px']:.0f} px"
