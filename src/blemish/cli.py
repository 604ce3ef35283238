"""The command line: thin over the library, and the only file that prints."""

import functools
import signal
from collections.abc import Callable, Iterator
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
app.add_typer(data_app, name="data", help="Make data sets.")
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
                log_console.print("interrupted")
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


Model = Annotated[
    Path, typer.Argument(help="Model file made by `blemish train`, or exported to ONNX.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Processor threads for an ONNX file. None: one a core.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one setting, e.g. --set train.epochs=100; may be repeated.", metavar="NAME=VALUE"
    ),
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
        "false alarms": f"at most {header.max_false_alarm_rate:.2%} of new good images, on average, if like these",
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
    form: Annotated[Literal["table", "json", "csv"], typer.Option("--format", help="What to print.")] = "table",
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
) -> None:
    """Judge images. Exit code 0: all good; 1: one at least is anomalous; 2: an error."""
    from blemish.inspection import inspect_images, to_csv, to_json, write_rows
    from blemish.predictor import Predictor

    if threshold is not None and max_false_alarm_rate is not None:
        raise SettingsError("--threshold and --max-false-alarm-rate: give one of them, not both")
    predictor = Predictor.load(model, device, threads)
    if threshold is not None:
        predictor = predictor.with_threshold(threshold)
    if max_false_alarm_rate is not None:
        predictor = predictor.with_false_alarm_rate(max_false_alarm_rate)
    with _progress() as report:
        found = inspect_images(predictor, images, out, skip_bad, _counter(report, "inspecting"))
    if out is not None:
        write_rows(found.rows, out, form)
    _say_skipped(found.skipped)
    if form == "table":
        _print_rows(found.rows)
    else:
        typer.echo((to_json if form == "json" else to_csv)(found.rows), nl=False)
    raise typer.Exit(int(found.is_any_anomalous))


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


def _say_skipped(skipped: dict[str, str]) -> None:
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
        interval = "" if low_high is None else " to ".join(_figure(value) for value in low_high)
        table.add_row(name, values[0], interval, *values[1:])
    out_console.print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print_rows(rows: Any) -> None:
    table = Table(box=None, pad_edge=False)
    for name, justify in (("verdict", "left"), ("score", "right"), ("p-value", "right"), ("path", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        verdict = "ANOMALOUS" if row["is_anomalous"] else "good"
        table.add_row(verdict, f"{row['score']:.5g}", f"{row['p_value']:.4f}", row["path"])
    out_console.print(table)
    flagged = sum(bool(row["is_anomalous"]) for row in rows)
    if rows:
        out_console.print(f"{flagged} of {len(rows)} anomalous at threshold {rows[0]['threshold']:.6g}")
