"""`blemish certify`: what a model promises, and another promise without training."""

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
)
from blemish.cli.options import Device, Groups, Model, SkipBad, State, TableOrJson, Threads

if TYPE_CHECKING:
    from blemish.inspection.certify import Certified


def certify(
    model: Model,
    max_false_alarm_rate: Annotated[
        float | None, typer.Option(help="The share of new good images that may be flagged, e.g. 0.01.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="How surely this threshold keeps it, e.g. 0.95. Default: on average.")
    ] = None,
    good: Annotated[
        Path | None, typer.Option(help="Folder of new good images to calibrate on; nothing is trained.")
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add them to the images calibrated on before, instead of replacing those.")
    ] = False,
    groups: Groups = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be promised, and write nothing.")] = False,
    form: TableOrJson = "table",
    state: State = None,
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
) -> None:
    """Show what a model promises about false alarms, or change it. Options write another promise into the file."""
    from blemish.inspection.certify import CertifyRequest, certify_model, to_json

    asked = CertifyRequest(max_false_alarm_rate, confidence, good, add, groups, skip_bad, dry_run)
    with progress() as report:
        found = certify_model(model, asked, state, device, threads, counter(report, "calibrating"))
    say_skipped(found.skipped, found.new_images)
    say_unread([] if good is None else [good])
    for warning in found.warnings:
        say("warning", warning)
    if form == "json":
        typer.echo(to_json(found))
    else:
        _print_certificate(found, model)


def _print_certificate(found: "Certified", model: Path) -> None:
    header = found.header
    if found.withdrawn is not None:
        out_console.print("WITHDRAWN, until it is calibrated on images of after the change:")
    out_console.print(header.certificate.promise)
    rows = {
        "threshold": f"{header.threshold:.6g}",
        "certificate": "stands" if found.withdrawn is None else "WITHDRAWN",
        "model file": "written again" if found.is_written else "left as it is",
    }
    print_table(str(model), rows)
    what = "good images" if header.certificate.groups is None else "groups of good images"
    title = f"{what} {'to add' if found.withdrawn is None else 'of after the change'} for a promise of"
    if header.certificate.kind == "cross":
        title = "good images to add, and to train with as many folds as images, for a promise of"
    table = new_table("", "on average", f"with {100 * found.needs_confidence:.12g} % confidence", title=title)
    for need in found.needs:
        rate, *counts = (f"{100 * need.max_false_alarm_rate:g} %", need.on_average, need.with_confidence)
        table.add_row(str(rate), *("-" if count is None else str(count or "enough") for count in counts))
    out_console.print(table)
