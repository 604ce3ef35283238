"""`blemish train`, `evaluate` and `detectors`: make a model, and judge it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from blemish.cli.console import (
    counter,
    log_console,
    out_console,
    print_table,
    progress,
    say_skipped,
    say_unread,
    say_withdrawn,
)
from blemish.cli.options import Device, Model, SetOption, Sha256, SignedBy, SkipBad

if TYPE_CHECKING:
    from blemish.evaluation.results import Results


def train(
    data: Annotated[Path, typer.Argument(help="Folder with train/good, or of good images only.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.", show_default=False)],
    detector: Annotated[str | None, typer.Option(help="Detector or preset; see `blemish detectors`.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: SetOption = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Train a detector on good images, calibrate its threshold on held-out ones, write one model file."""
    from blemish.training.settings import make_settings
    from blemish.training.train import train_model

    assignments = [*(set_ or []), *(["data.skip_bad=true"] if skip_bad else [])]
    run = make_settings(detector, settings, assignments)
    with progress() as report:
        header = train_model(data, out, run, device, resume, report)
    card = header.data_card
    say_skipped(card.skipped)
    say_unread([data / "train" if (data / "train").is_dir() else data])
    for note in card.notes:
        log_console.print(f"note: {note}", markup=False)
    rows = {
        "detector": f"{header.detector}, {header.parameters:,} parameters",
        "image size": "{} x {} px (height x width), {} channel{}".format(
            *header.policy.size_px, header.policy.channels, "" if header.policy.channels == 1 else "s"
        ),
        "good images": f"{card.fit_images} fitted, {card.calibration_images} held out to calibrate",
        "threshold": f"{header.threshold:.6g}",
        "false alarms": header.certificate.promise,
        "fit": f"{header.fit_seconds:.1f} s",
        "model file": f"{out} ({out.stat().st_size / 1e6:.1f} MB)",
    }
    print_table("trained", rows)


def evaluate(
    model: Model,
    data: Annotated[
        Path, typer.Argument(help="Folder with test/good, test/<type> and ground_truth.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for results.json and report.html.", show_default=False)
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change how it is judged, e.g. --set aupro_limit=0.05; may be repeated. All are in "
            "docs/reference/results.md.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    sha256: Sha256 = None,
    signed_by: SignedBy = None,
) -> None:
    """Judge a model on test images: results.json, and report.html to look at."""
    from blemish.data.folder import read_folder
    from blemish.evaluation.evaluate import KNOWN, evaluate_model
    from blemish.evaluation.results import EvaluateSettings
    from blemish.inference.predictor import Predictor
    from blemish.settings import merge, parse_assignment, validate

    assignments = [*(set_ or []), *(["skip_bad=true"] if skip_bad else [])]
    settings = validate(EvaluateSettings, merge(*map(parse_assignment, assignments)))

    predictor, folder = Predictor.load(model, device, sha256=sha256, signed_by=signed_by), read_folder(data)
    say_withdrawn(predictor.withdrawal)
    with progress() as report:
        found = evaluate_model(predictor, folder, out, settings, counter(report, "evaluating"))
    say_skipped(found.results.data.skipped)
    for name, note in found.results.notes.items():
        if name in KNOWN:
            log_console.print(f"warning: {note}", markup=False)
    _print_measures(found.results)
    out_console.print(f"written: {found.results_path} and {found.report_path}", markup=False)


def detectors() -> None:
    """List the detectors and the presets that `blemish train --detector` takes."""
    from blemish.models import DETECTORS, PRESETS

    table = Table(box=None, pad_edge=False)
    table.add_column("name")
    table.add_column("what it is", overflow="fold")
    for name, kind in DETECTORS.items():
        table.add_row(name, (kind.__doc__ or "").strip().partition("\n")[0])
    for name, preset in PRESETS.items():
        table.add_row(name, f"preset of {preset['detector']}")
    out_console.print(table)


def _print_measures(results: "Results") -> None:
    """Every measure with its interval, and for each defect type."""
    from blemish.evaluation.measures import MEASURES

    table = Table(box=None, pad_edge=False)
    for name in ("", "all", f"{100 * results.settings.confidence:g} % interval", *results.by_type):
        table.add_column(name, justify="right" if name else "left")
    for measure in MEASURES.values():
        values = [_figure(getattr(part, measure.group)[measure.name]) for part in (results, *results.by_type.values())]
        interval = results.intervals[measure.group][measure.name]
        between = "" if interval is None or values[0] == "-" else " to ".join(map(_figure, interval))
        table.add_row(measure.titled(results.settings), values[0], between, *values[1:])
    out_console.print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
