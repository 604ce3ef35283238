"""The command line: thin over the library, and the only file that prints."""

import functools
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from blemish.errors import BlemishError, SettingsError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data", help="Make data sets, and look through them.")
sweep_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(sweep_app, name="sweep", help="Turn one thing through its values: the threshold, or a setting.")

out_console = Console(soft_wrap=True, highlight=False)
log_console = Console(stderr=True, soft_wrap=True, highlight=False)

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130


def command(typer_app: typer.Typer, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A command whose errors are one line on stderr and exit code 2, and whose interruption is exit code 130."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except BlemishError as error:
                log_console.print(f"{type(error).__name__}: {error}", markup=False)
                raise typer.Exit(2) from None
            except KeyboardInterrupt:
                log_console.print("interrupted; the same command goes on from here" + _how_to_go_on(name))
                raise typer.Exit(INTERRUPTED) from None
            except ModuleNotFoundError as error:
                log_console.print(
                    f"blemish {name} needs the package '{error.name}'; "
                    "install what training and reports need with: pip install 'blemish[train]'",
                    markup=False,
                )
                raise typer.Exit(2) from None

        typer_app.command(name)(run)
        return run

    return decorate


def _how_to_go_on(name: str) -> str:
    return ", with --resume" if name == "train" else " where it keeps what is finished, else anew"


Model = Annotated[
    Path, typer.Argument(help="Model file made by `blemish train`, or exported to ONNX.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Processor threads that work on an image. Else one a core.", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one setting, e.g. --set train.epochs=100; may be repeated.", metavar="NAME=VALUE"
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        help="What tells the images that belong together: a regular expression on the name, with one group in "
        "brackets, or a CSV file with the columns image and group."
    ),
]
State = Annotated[
    Path | None,
    typer.Option(help="File of the watch that `blemish monitor` keeps. None: beside the model.", show_default=False),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out unreadable images and say so, instead of stopping.")
]


@command(app, "train")
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
    from blemish.train import make_settings, train_model

    assignments = [*(set_ or []), *(["data.skip_bad=true"] if skip_bad else [])]
    run = make_settings(detector, settings, assignments)
    with _progress() as report:
        header = train_model(data, out, run, device, resume, report)
    card = header.data_card
    _say_skipped(card.skipped)
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
    _print_table("trained", rows)


@command(app, "inspect")
def inspect(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for overlays, defect masks and the rows.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="A threshold of your own.")] = None,
    max_false_alarm_rate: Annotated[
        float | None, typer.Option(help="The share of good images that may be flagged, e.g. 0.05.")
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(
            help="Judge the images as one batch: of those called anomalous, at most this share is good, on average."
        ),
    ] = None,
    form: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="What to print.")] = "table",
    state: State = None,
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
) -> None:
    """Judge images. Exit code 0: all good; 1: one at least is anomalous; 2: an error."""
    from blemish.inspection import inspect_images, to_csv, to_json, write_rows
    from blemish.monitor_state import withdrawal, withdrawn_words
    from blemish.predictor import Predictor

    if sum(option is not None for option in (threshold, max_false_alarm_rate, fdr)) > 1:
        raise SettingsError("--threshold, --max-false-alarm-rate and --fdr: give one of them")
    predictor = Predictor.load(model, device, threads)
    if threshold is not None:
        predictor = predictor.with_threshold(threshold)
    if max_false_alarm_rate is not None:
        predictor = predictor.with_false_alarm_rate(max_false_alarm_rate)
    with _progress() as report:
        found = inspect_images(predictor, images, out, skip_bad, _counter(report, "inspecting"), fdr)
    if out is not None:
        write_rows(found.rows, out, form)
    _say_skipped(found.skipped)
    if form == "table":
        _print_rows(found.rows)
    else:
        typer.echo((to_json if form == "json" else to_csv)(found.rows), nl=False)
    if found.fewest > 1:
        log_console.print(
            f"note: with so few calibration images, {found.fewest} of this batch must stand out for any to be selected"
        )
    if (alarm := withdrawal(model, predictor.header, state)) is not None:
        log_console.print(f"warning: {withdrawn_words(alarm)}", markup=False)
    raise typer.Exit(int(found.is_any_anomalous))


@command(app, "certify")
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
    with _progress() as report:
        found = certify_model(model, asked, state, device, threads, _counter(report, "calibrating"))
    _say_skipped(found.skipped)
    for warning in found.warnings:
        log_console.print(f"warning: {warning}", markup=False)
    if form == "json":
        typer.echo(to_json(found))
    else:
        _print_certificate(found, model)


@command(app, "monitor")
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

    stream = (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
    found = monitor_images(
        Predictor.load(model, device, threads),
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
    )
    _say_skipped(found.skipped)
    if form == "json":
        typer.echo(to_json(found))
    else:
        _print_watch(found)
    raise typer.Exit(int(bool(found.alarms)))


@command(app, "export")
def export(
    model: Annotated[Path, typer.Argument(help="Model file made by `blemish train`.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write.", show_default=False)],
    precision: Annotated[
        Literal["fp32", "int8"], typer.Option(help="int8: convolutions in 8 bits, with a threshold of their own.")
    ] = "fp32",
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 23; lower for an older onnxruntime.")] = 18,
    good: Annotated[
        Path | None,
        typer.Option(
            help="Good images to compare on, beside those in the model file. int8 needs the folder trained on.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a trained model as an ONNX file that needs no torch, if it judges as the trained model does."""
    from blemish.export import ExportSettings, export_model
    from blemish.settings import validate

    settings = validate(ExportSettings, {"precision": precision, "opset": opset}, prefix="--")
    with _progress() as report:
        card = export_model(model, out, settings, good, _counter(report, "comparing"))
    _print_export("exported", card, out)


@command(app, "verify")
def verify(
    model: Annotated[Path, typer.Argument(help="ONNX file made by `blemish export`.", show_default=False)],
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Judge the images in an exported file here, and compare with what the trained model said of them."""
    from blemish.parity import verify as verify_file

    found = verify_file(model, device, threads)
    ties = sum(not check.is_same for check in found.checks)
    rows = {
        "images": f"{len(found.checks)}, all within {found.export.tolerance:.0e} of value or threshold",
        "worst": f"{found.worst.name}, {found.worst.difference:.2g}",
        "p-values and verdicts": "the same" + (f" but for {ties} ties" if ties else ""),
    }
    _print_table(f"{model} judges here as where it was made", rows)


@command(app, "evaluate")
def evaluate(
    model: Model,
    data: Annotated[
        Path, typer.Argument(help="Folder with test/good, test/<type> and ground_truth.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for results.json and report.html.", show_default=False)
    ],
    device: Device = "auto",
    skip_bad: SkipBad = False,
) -> None:
    """Judge a model on test images: results.json, and report.html to look at."""
    from blemish.data.folder import read_folder
    from blemish.evaluate import evaluate_model
    from blemish.predictor import Predictor
    from blemish.results import EvaluateSettings

    predictor, folder = Predictor.load(model, device), read_folder(data)
    with _progress() as report:
        settings = EvaluateSettings(skip_bad=skip_bad)
        found = evaluate_model(predictor, folder, out, settings, _counter(report, "evaluating"))
    _say_skipped(found.results["data"]["skipped"])
    _print_measures(found.results)
    out_console.print(f"written: {found.results_path} and {found.report_path}", markup=False)


@command(app, "challenge")
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
        "defect_types": [name.strip() for name in types.split(",")] if types else list(DEFECTS),
        "contrasts": [value.strip() for value in contrasts.split(",")],
        "defects": defects,
        "smallest_px": smallest_px,
        "largest_px": largest_px,
        "seed": seed,
        "skip_bad": skip_bad,
    }
    settings = validate(ChallengeSettings, asked)
    with _progress() as report:
        found = challenge_model(
            Predictor.load(model, device), read_folder(good), out, settings, _counter(report, "challenging")
        )
    results = found.results
    _say_skipped(results["data"]["skipped"])
    for photo in results["suspicious"]:
        log_console.print(
            f"warning: {photo['path']} was given as good, but is flagged as it is: p-value {photo['p_value']:.3f}",
            markup=False,
        )
    for note in results["notes"]:
        log_console.print(f"note: {note}", markup=False)
    _print_curves(results["curves"])
    out_console.print(f"written: {found.results_path} and {found.report_path}", markup=False)


@command(app, "compare")
def compare(
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders with train/good, test/good, test/<type> and ground_truth.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the comparison and its cells.")],
    detectors: Annotated[
        str, typer.Option(help="Detectors or presets, with commas between; see `blemish detectors`.")
    ] = "seed,ae_l2,ae_ssim,vae,anogan,feature_dictionary",
    seeds: Annotated[int, typer.Option(help="Runs of each, with the seeds 0, 1, ...")] = 3,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings, for all.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change one setting for all, or with a name and a colon in front for one detector alone, "
            "e.g. --set train.epochs=100 --set seed:model.latent=100; may be repeated.",
            metavar="[DETECTOR:]NAME=VALUE",
        ),
    ] = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
) -> None:
    """Compare detectors: comparison.json, .csv and .html. Exit code 0: all cells finished; 1: some failed; 2: an error.

    Each detector is trained, calibrated and evaluated on each folder with each seed. Run again after an interruption
    or with more detectors, folders or seeds, it goes on: what is finished, with the same settings and images, is kept.
    """
    from blemish.compare import Plan, compare
    from blemish.results import EvaluateSettings

    plan = Plan(
        data=data,
        detectors=[name.strip() for name in detectors.split(",") if name.strip()],
        seeds=seeds,
        settings=settings,
        assignments=[*(set_ or []), *(["data.skip_bad=true"] if skip_bad else [])],
        evaluate=EvaluateSettings(skip_bad=skip_bad),
    )
    with _progress() as report:
        found = compare(plan, out, device, report, _say_cell)
    _print_comparison(found.content)
    out_console.print(f"written: {out / 'comparison.html'}, and .json and .csv beside it", markup=False)
    raise typer.Exit(int(found.failed > 0))


@command(sweep_app, "threshold")
def sweep_threshold(
    evaluation: Annotated[
        Path,
        typer.Argument(help="Folder that `blemish evaluate` wrote, or a cell of a comparison.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for threshold.json, .csv and .html.")],
    tau: Annotated[str, typer.Option(help="Thresholds to show one image at, with commas between.")] = "0.7,0.2,0.1",
    image: Annotated[
        str | None, typer.Option(help="Which test image, e.g. test/cut/003.png. Left out: one of the examples.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="With --data: score the image anew, where the evaluation did not keep its map.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The folder that was evaluated; goes with --model.")] = None,
    device: Device = "auto",
) -> None:
    """Precision, recall and F1 over the threshold, from an evaluation: nothing is trained, nothing scored anew."""
    from blemish.report.sweep_page import table_rows
    from blemish.sweep_threshold import Source, sweep_threshold

    if (model is None) != (data is None):
        raise SettingsError("--model and --data: give both of them, or none")
    source = None if model is None or data is None else Source(model, data, device)
    content = sweep_threshold(evaluation, out, _numbers("--tau", tau), image, source)
    table = Table(box=None, pad_edge=False)
    for name in ("threshold", "", "precision", "recall", "F1"):
        table.add_column(name, justify="right" if name else "left")
    for threshold, name, row in table_rows(content, "all"):
        rates = (f"{row[rate]:.3f}" for rate in ("precision", "recall", "f1"))
        table.add_row(f"{threshold:.4g}", name, *rates)
    out_console.print(table)
    if content["image"]["scored_anew"]:
        log_console.print(f"note: {content['image']['name']} was scored anew, nothing else", markup=False)
    out_console.print(f"written: {out / 'threshold.html'}, and .json and .csv beside it", markup=False)


@command(sweep_app, "setting")
def sweep_setting(
    data: Annotated[
        Path, typer.Argument(help="Folder with train/good, test/good, test/<type>, ground_truth.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sweep.json, .csv, .html and the runs.")],
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="One setting with several values, e.g. --set model.latent=8,32,100; others as for `blemish train`.",
            metavar="NAME=VALUE,VALUE",
            show_default=False,
        ),
    ],
    detector: Annotated[str, typer.Option(help="Detector or preset; see `blemish detectors`.")] = "seed",
    seeds: Annotated[int, typer.Option(help="Runs of each value, with the seeds 0, 1, ...")] = 1,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
) -> None:
    """One setting at several values, one run each. Exit code 0: all runs finished; 1: some failed; 2: an error.

    Run again after an interruption or with more values it goes on: finished runs are kept.
    """
    from blemish.results import EvaluateSettings
    from blemish.sweep import SettingSweep, sweep_setting

    plan = SettingSweep(
        data=data,
        detector=detector,
        assignments=[*set_, *(["data.skip_bad=true"] if skip_bad else [])],
        seeds=seeds,
        settings=settings,
        evaluate=EvaluateSettings(skip_bad=skip_bad),
    )
    with _progress() as report:
        found = sweep_setting(plan, out, device, report, _say_cell)
    for claim in found.content["claims"]:
        verdict = {True: "holds", False: "does not hold", None: "cannot be told"}[claim["holds"]]
        out_console.print(f"{verdict}: {claim['claim']} {claim['evidence']}", markup=False)
    out_console.print(f"written: {out / 'sweep.html'}, and .json and .csv beside it", markup=False)
    raise typer.Exit(int(found.failed > 0))


@command(app, "detectors")
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


@command(data_app, "check")
def check(
    data: Annotated[Path, typer.Argument(help="Folder with train/good, or of good images only.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for check.json and check.html.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: SetOption = None,
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="What to print.")] = "table",
) -> None:
    """Look through images before training. Exit code 0: nothing stands out; 1: look at something; 2: an error.

    Found are unreadable and odd files, mixed sizes, duplicates, blur, bad light, and good images that look like a
    defect. Sizes and the region of interest are those of training: --set data.size_px, --set data.roi.
    """
    import json

    from blemish.check import check_data, to_content, write_check
    from blemish.train import make_settings

    run = make_settings(None, settings, set_ or [])
    with _progress() as report:
        checked = check_data(data, run, _counter(report, "looking"))
    written = write_check(checked, run, out) if out is not None else ()
    if form == "json":
        typer.echo(json.dumps(to_content(checked, run), indent=2, allow_nan=False))
    else:
        _print_findings(checked.findings)
        out_console.print("".join(f"written: {path}\n" for path in written), markup=False, end="")
    raise typer.Exit(int(checked.must_look))


@command(data_app, "synth")
def synth(
    kind: Annotated[Literal["hazelnuts"], typer.Argument(help="What to draw.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.", show_default=False)],
    good: Annotated[int, typer.Option(help="Good images to train on.")] = 60,
    defects: Annotated[int, typer.Option(help="Test images of each defect type.")] = 10,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Draw a data set in MVTec's layout: good hazelnuts, and ones with a crack, a cut, a hole or a print."""
    from blemish.data.synthetic import write_hazelnuts

    with _progress() as report:
        write_hazelnuts(out, good=good, defects=defects, size_px=size, seed=seed, on_image=_counter(report, "drawing"))
    out_console.print(f"{kind} written to {out}", markup=False)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    """Find defective pixels in product images after training on good images only."""
    if version:
        import blemish

        out_console.print(blemish.__version__)
        raise typer.Exit


@contextmanager
def _progress() -> Iterator[Callable[[Any], None]]:
    """A bar on stderr with an estimate of the time left; Ctrl-C stops between two steps, twice stops at once."""
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

    with Bar(*columns, console=log_console, transient=False) as bar:
        tasks: dict[str, Any] = {}

        def report(progress: Any) -> None:
            what, done, total, note = progress
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, note=note)
            if done < bar.tasks[tasks[what]].completed:  # the same work anew, on other images
                bar.reset(tasks[what])
            bar.update(tasks[what], completed=done, total=total, note=note)
            if asked_to_stop:
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield report
        finally:
            signal.signal(signal.SIGINT, before)


def _counter(report: Callable[[Any], None], what: str) -> Callable[[int, int], None]:
    return lambda done, total: report((what, done, total, ""))


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(f"{option} {text}: expected numbers with commas between, e.g. 0.7,0.2,0.1") from None


def _say_cell(outcome: Any) -> None:
    cell = outcome.cell
    what = {"kept": "finished before, kept", "finished": "finished"}.get(outcome.status, f"FAILED: {outcome.error}")
    log_console.print(f"{cell.path.relative_to(cell.path.parents[2])}: {what}", markup=False)


def _print_comparison(content: Any) -> None:
    measures = {"image AUROC": "image.auroc", "pixel AUROC": "pixel.auroc", "AUPRO": "pixel.aupro"}
    measures |= {"F1": "calibrated.f1", "oracle F1": "oracle_f1.f1", "ms": "latency_ms"}
    for category in content["plan"]["categories"]:
        table = Table(title=Text(category), title_justify="left", box=None, pad_edge=False)
        table.add_column("detector", no_wrap=True)
        for name in ("seeds", "failed", *measures):
            table.add_column(name, justify="right")
        for row in content["summary"]:
            if row["category"] == category:
                spreads = [row["scopes"].get("all", {}).get(name) for name in measures.values()]
                values = ["-" if part is None else f"{part['mean']:.3f}" for part in spreads]
                table.add_row(row["detector"], str(row["seeds"]), str(row["failed"] or ""), *values)
        out_console.print(table)


def _say_skipped(skipped: Mapping[str, str]) -> None:
    for reason in skipped.values():
        log_console.print(f"skipped: {reason}", markup=False)


def _print_table(title: str, rows: dict[str, str]) -> None:
    table = Table(title=title, box=None, pad_edge=False, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, value)
    out_console.print(table)


MEASURES = {
    "image AUROC": "image.auroc",
    "good images accepted": "image.ok_rate",
    "defective images found": "image.defect_rate",
    "pixel AUROC": "pixel.auroc",
    "AUPRO at 0.3": "pixel.aupro",
    "AUPIMO": "pixel.aupimo",
    "pixel precision": "pixel.precision",
    "pixel recall": "pixel.recall",
    "pixel F1": "pixel.f1",
    "best pixel F1, with hindsight": "pixel.oracle_f1",
}


def _print_export(title: str, card: Any, out: Path) -> None:
    exact = card.precision == "fp32"
    rows = {
        "graph": f"{card.precision}, opset {card.opset}",
        "compared": f"{card.checked} images with the trained model",
        "maps" if exact else "scores": f"differ by {card.worst:.2g} at most ({card.worst_image})",
        "tolerance": f"{card.tolerance:.0e} of value or threshold, for `blemish verify`",
    }
    if exact:
        rows["p-values and verdicts"] = "the same" + (f" but for {card.ties} ties" if card.ties else "")
    else:
        rows["verdicts"] = f"{card.agreement:.1%} the same, each at its own threshold"
        rows["AUROC"] = "{:.4f} before, {:.4f} after".format(*card.auroc)
    rows["file"] = f"{out} ({out.stat().st_size / 1e6:.1f} MB)"
    _print_table(title, rows)


def _print_certificate(found: Any, model: Path) -> None:
    header = found.header
    out_console.print(header.certificate.promise)
    rows = {
        "threshold": f"{header.threshold:.6g}",
        "certificate": "stands" if found.withdrawn is None else "WITHDRAWN",
        "model file": "written anew" if found.is_written else "left as it is",
    }
    _print_table(str(model), rows)
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
        log_console.print(f"note: {found.passed_over} files that were watched before were passed over")
    if found.open_group is not None:
        log_console.print(f"note: group '{found.open_group}' counts when the next one begins", markup=False)


def _print_measures(results: dict[str, Any]) -> None:
    """The headline figures, with their intervals and for each defect type."""
    types = sorted(results["by_type"])
    table = Table(box=None, pad_edge=False)
    for name in ("", "all", "95 % interval", *types):
        table.add_column(name, justify="right" if name else "left")
    for name, key in MEASURES.items():
        room, measure = key.split(".")
        parts = [results, *(results["by_type"][kind] for kind in types)]
        values = [_figure(part[room][measure]) for part in parts]
        low_high = results["intervals"][room][measure]
        interval = (
            ""
            if low_high is None or parts[0][room][measure] is None
            else " to ".join(_figure(value) for value in low_high)
        )
        table.add_row(name, values[0], interval, *values[1:])
    out_console.print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


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


def _print_findings(findings: Any) -> None:
    most = 4
    for one in findings:
        paths = ", ".join(one.paths[:most]) + (f" and {len(one.paths) - most} more" if len(one.paths) > most else "")
        where = f"{paths}: " if paths else ""
        out_console.print(
            f"{one.severity.upper() if one.severity == 'look' else 'note'}  {one.kind}  {where}{one.message}",
            markup=False,
        )
    looks = sum(one.severity == "look" for one in findings)
    out_console.print(f"{looks} to look at" if looks else "nothing stands out")


def _print_rows(rows: Any) -> None:
    table = Table(box=None, pad_edge=False)
    for name, justify in (("verdict", "left"), ("score", "right"), ("p-value", "right"), ("path", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        verdict = "ANOMALOUS" if row["is_anomalous"] else "good"
        table.add_row(verdict, f"{row['score']:.5g}", f"{row['p_value']:.4f}", Text(row["path"]))
    out_console.print(table)
    flagged = sum(bool(row["is_anomalous"]) for row in rows)
    if rows:
        out_console.print(f"{flagged} of {len(rows)} anomalous at threshold {rows[0]['threshold']:.6g}")
