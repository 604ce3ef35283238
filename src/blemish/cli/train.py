"""`blemish train`, `evaluate` and `detectors`: make a model, and judge it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import (
    counter,
    new_table,
    out_console,
    print_table,
    progress,
    say,
    say_skipped,
    say_unread,
    say_withdrawn,
)
from blemish.cli.ladder import print_ladder
from blemish.cli.options import (
    Device,
    MaxFalseAlarmRate,
    Model,
    SetOption,
    Sha256,
    SignedBy,
    SkipBad,
    Threads,
    Threshold,
    at_threshold,
    check_one_threshold,
)
from blemish.errors import plural

if TYPE_CHECKING:
    from blemish.evaluation.measures import Measure
    from blemish.evaluation.results import Results, Section
    from blemish.inference.artifact import ArtifactHeader
    from blemish.inference.predictor import Predictor
    from blemish.settings import RunSettings


def train(
    data: Annotated[Path, typer.Argument(help="Folder with train/good, or of good images only.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.", show_default=False)],
    detector: Annotated[str | None, typer.Option(help="Detector or preset; see `blemish detectors`.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, as --set seed=1. Default: 0.")] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Train a detector on good images, into one model file. Its threshold is calibrated on held-out ones."""
    from blemish.training.memory import keep_freed_memory
    from blemish.training.settings import make_settings
    from blemish.training.train import train_model

    keep_freed_memory()
    shorthands = [*([] if seed is None else [f"seed={seed}"]), *(["data.skip_bad=true"] if skip_bad else [])]
    assignments = [*(set_ or []), *shorthands]
    run = make_settings(detector, settings, assignments)
    header: ArtifactHeader | None = None
    try:
        with progress() as report:
            header = train_model(data, out, run, device, resume, report)
        _print_trained(header, data, out)
        print_ladder(out, header, device)
        _print_other_speed(header, run)
    except KeyboardInterrupt:
        if header is None:
            raise
        raise KeyboardInterrupt(
            f"the model is written and complete: {out}; the same command with --resume prints what it says of it"
        ) from None


def _print_trained(header: "ArtifactHeader", data: Path, out: Path) -> None:
    card = header.data_card
    read = {*card.fit_ids, *header.calibration.image_ids}
    say_skipped(card.skipped, len(read), "left out")  # copies, too
    say_unread([data])
    for note in card.notes:
        say("note", note)
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


def _print_other_speed(header: "ArtifactHeader", run: "RunSettings") -> None:
    from blemish.training.policy import say_other_speed

    if header.data_card.photo_px:
        height, width = header.policy.seen_px(header.data_card.photo_px)
        if other := say_other_speed((round(height), round(width)), run):
            out_console.print(other)


def evaluate(
    model: Model,
    data: Annotated[
        Path, typer.Argument(help="Folder with test/good, test/<type> and ground_truth.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for results.json and report.html.", show_default=False)
    ],
    threshold: Threshold = None,
    max_false_alarm_rate: MaxFalseAlarmRate = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change how it is judged, e.g. --set aupro_limit=0.05; may be repeated. All are in "
            "docs/reference/results.md.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="mvtec_ad_2: write maps and masks of the private test images as its server takes them, and no report.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
    sha256: Sha256 = None,
    signed_by: SignedBy = None,
) -> None:
    """Measure how good a model is on test images. Writes results.json and report.html."""
    from blemish.data.folder import read_folder
    from blemish.evaluation.evaluate import KNOWN, evaluate_model
    from blemish.evaluation.results import AS_READ, EvaluateSettings
    from blemish.inference.predictor import Predictor
    from blemish.settings import merge, parse_assignment, validate

    check_one_threshold(threshold=threshold, max_false_alarm_rate=max_false_alarm_rate)
    assignments = [*(set_ or []), *(["skip_bad=true"] if skip_bad else [])]
    settings = validate(EvaluateSettings, merge(*map(parse_assignment, assignments)))

    predictor = Predictor.load(model, device, threads, sha256=sha256, signed_by=signed_by)
    predictor = at_threshold(predictor, threshold, max_false_alarm_rate)
    say_withdrawn(predictor.withdrawal)
    if benchmark is not None:
        _write_submission(predictor, data, out, benchmark)
        return
    folder = read_folder(data)
    with progress(at_once=True) as report:
        found = evaluate_model(predictor, folder, out, settings, counter(report, "evaluating"))
    count = found.results.count
    say_skipped(found.results.data.skipped, count.images)
    bad = found.results.data.bad_masks
    say_skipped(bad, count.images - len(bad), "judged by score alone, for want of a mask that can be used")
    say_unread([data])
    for name, note in found.results.notes.items():
        if name in KNOWN or name in ("layout", *AS_READ):
            say("warning" if name in KNOWN else "note", note)
    _print_measures(found.results)
    _print_ladder(found.results)
    out_console.print(f"written: {found.results_path} and {found.report_path}")


def _write_submission(predictor: "Predictor", data: Path, out: Path, benchmark: str) -> None:
    from blemish.evaluation.submission import write_submission

    with progress(at_once=True) as report:
        folders = write_submission(predictor, data, out, benchmark, counter(report, "judging"))
    for folder in folders:
        out_console.print(f"written: {folder}")


def detectors() -> None:
    """List the detectors, the default first, and presets. `blemish train --detector` takes their names."""
    from blemish.models import DETECTORS, PRESET_TITLES, PRESETS
    from blemish.settings import RunSettings

    table = new_table("name", "what it is", left=("name", "what it is"))
    default = RunSettings().detector
    for name, kind in sorted(DETECTORS.items(), key=lambda one: one[0] != default):
        what = (kind.__doc__ or "").strip().partition("\n")[0]
        table.add_row(name, f"The default. {what}" if name == default else what)
    for name, preset in PRESETS.items():
        table.add_row(name, f"{PRESET_TITLES[name]}; a preset of {preset['detector']}.")
    out_console.print(table)


BY_TYPE = ("image.auroc", "pixel.aupro", "pixel.f1", "pixel.oracle_f1")
"""What is printed of each defect type."""


def _print_measures(results: "Results") -> None:
    """Every measure that can be told, with its interval, and the headline ones for each defect type."""
    from blemish.evaluation.compared import describe_sizes
    from blemish.evaluation.measures import FOUND_AND_AUROC, MEASURES, falls_short

    table = new_table("", "all images", f"{100 * results.settings.confidence:.12g} % interval")
    reasons, by_type = list[str](), results.by_type.values()
    for measure in MEASURES.values():
        value = _value(results, measure)
        if value is None:
            reasons.append(results.notes[measure.key])
            continue
        interval = results.intervals[measure.group][measure.name]
        between = "" if interval is None else " to ".join(map(_figure, interval))
        table.add_row(measure.titled(results.settings), _figure(value), between)
    out_console.print(table)
    if reasons:
        why = dict.fromkeys("; ".join(reasons).split("; "))
        out_console.print(f"not computed: {plural(len(reasons), 'measure')} more; {'; '.join(why)}")
    if sizes := describe_sizes(results):
        out_console.print(sizes)
    rows = [row for row in map(MEASURES.__getitem__, BY_TYPE) if any(_value(one, row) is not None for one in by_type)]
    table = new_table("by type", "found", *(measure.titled(results.settings) for measure in rows), left=("by type",))
    for name, part in results.by_type.items():
        values = (_figure(_value(part, measure)) for measure in rows)
        table.add_row(name, f"{part.count.flagged_defective} of {part.count.defective}", *values)
    if results.by_type:
        out_console.print(table)
    if any(falls_short(part.image) for part in results.by_type.values()):
        out_console.print(FOUND_AND_AUROC)


def _value(part: "Section", measure: "Measure") -> float | None:
    found: float | None = getattr(part, measure.group)[measure.name]
    return found


def _print_ladder(results: "Results") -> None:
    """What is found for each false-alarm rate one may allow, and what to try next where little is found."""
    from blemish.evaluation.ladder import is_on_ladder
    from blemish.inference.score import score_text
    from blemish.stats.conformal import promised_percent

    if results.count.defective:
        interval = f"{100 * results.settings.confidence:.12g} % interval"
        table = new_table("false alarms", "threshold", "found", interval, "good flagged", left=("false alarms",))
        for rung in results.ladder:
            share = f"{'* ' if rung.is_chosen else ''}{promised_percent(rung.max_false_alarm_rate)}"
            if rung.threshold is None:
                table.add_row(share, "-", f"needs {rung.needed} held out" if rung.needed else "-", "-", "-")
                continue
            between = "-" if rung.interval is None else " to ".join(f"{100 * end:.0f} %" for end in rung.interval)
            counts = (f"{rung.found} of {rung.defective}", between, f"{rung.flagged} of {rung.good}")
            table.add_row(share, score_text(rung.threshold), *counts)
        out_console.print(table)
        if not is_on_ladder(results.threshold, results.ladder):
            out_console.print(f"all else is at the threshold {score_text(results.threshold)}, not at that of the *")
    if results.next_steps:
        out_console.print("less than half of the defective images is found; what to try next:")
    for step in results.next_steps:
        out_console.print(f"- {step}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
