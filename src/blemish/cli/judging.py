"""`blemish inspect`: what a model says of images."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from blemish.cli.options import Device, Model, SkipBad, State, Threads
from blemish.cli.screen import counter, log_console, out_console, progress, say_skipped
from blemish.errors import SettingsError


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
    with progress() as report:
        found = inspect_images(predictor, images, out, skip_bad, counter(report, "inspecting"), fdr)
    if out is not None:
        write_rows(found.rows, out, form)
    say_skipped(found.skipped)
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
