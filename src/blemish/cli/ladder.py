"""The last lines of `blemish train`: which false-alarm rate was chosen, and what others would take and give."""

from pathlib import Path
from typing import TYPE_CHECKING

from blemish.cli.console import counter, new_table, out_console, progress, say

if TYPE_CHECKING:
    from blemish.evaluation.challenge.quick import Peaks
    from blemish.inference.artifact import ArtifactHeader
    from blemish.inference.ladder import Rung

MAX_PHOTO_S = 1.5
"""Where a photo takes longer, no synthetic defects are tried for the ladder; else they take a minute at most."""


def print_ladder(model: Path, header: "ArtifactHeader", device: str) -> None:
    """A table of rates, and a sentence on the one that was chosen."""
    from blemish.evaluation.challenge.quick import share_found
    from blemish.inference.ladder import threshold_ladder
    from blemish.inference.score import score_text
    from blemish.stats.conformal import promised_percent

    rungs, peaks = threshold_ladder(header), find_peaks(model, device)
    unit = "groups" if header.calibration.by_group else "good images"
    columns = {
        "rate": [f"{'* ' if rung.is_chosen else ''}{promised_percent(rung.rate)}" for rung in rungs],
        "threshold": [f"too few {unit}" if rung.threshold is None else score_text(rung.threshold) for rung in rungs],
    }
    if not header.calibration.folds:
        columns[f"{unit} to hold out"] = [_needed(rung, header) for rung in rungs]
    if peaks:
        shares = [None if rung.threshold is None else share_found(peaks, rung.threshold) for rung in rungs]
        columns[f"finds of {len(peaks)}"] = ["" if share is None else f"{100 * share:.0f} %" for share in shares]
    table = new_table(*columns, left=(), title="false-alarm rates")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    out_console.print(table)
    out_console.print(_chosen(header))
    if peaks:
        out_console.print(
            "finds: synthetic defects on held-out good images, a fiftieth to an eighth of the shorter side long and a "
            "fifth of the range from black to white different; real ones: blemish evaluate, blemish challenge"
        )


def find_peaks(model: Path, device: str) -> "list[Peaks]":
    """What synthetic defects reach on the good images in the model file; none where that would take too long."""
    from blemish.evaluation.challenge.quick import MIN_DEFECTS, quick_peaks
    from blemish.inference.artifact import read_artifact, split_fixtures
    from blemish.inference.parity import fixture_predictor
    from blemish.inference.runtime import open_model

    opened = open_model(model, device)
    predictor = fixture_predictor(opened.header, opened.runtimes)  # photos as the model sees them, reduced and cut out
    fixtures = split_fixtures(read_artifact(model)[1])[1]
    photos = [fixtures[name] for name in sorted(fixtures)]  # a model file keeps no order
    with progress() as report:
        peaks = quick_peaks(predictor, photos, MAX_PHOTO_S, counter(report, "trying defects")) if photos else []
    if len(peaks) < MIN_DEFECTS:
        say("note", "no synthetic defects were tried, which would take too long here")
        return []
    return peaks


def _needed(rung: "Rung", header: "ArtifactHeader") -> str:
    from blemish.training.job import images_in_all

    if rung.images_needed is None:
        return ""
    return f"{rung.images_needed} (of {images_in_all(rung.rate, header.run)} in all)"


def _chosen(header: "ArtifactHeader") -> str:
    """How the rate came about, and how to have another."""
    from blemish.inference.calibration import DEFAULT_RATE
    from blemish.stats.conformal import promised_percent
    from blemish.training.job import images_in_all

    rate = promised_percent(header.max_false_alarm_rate)
    if header.run.score.max_false_alarm_rate is not None:
        return "* as set (score.max_false_alarm_rate); move it with --max-false-alarm-rate or `blemish certify`"
    if header.max_false_alarm_rate <= DEFAULT_RATE:
        return f"* {rate} is the default; move it with --max-false-alarm-rate or `blemish certify`"
    more = "more good images"
    if not header.calibration.folds:
        unit = "groups" if header.calibration.by_group else "good images"
        more = f"{images_in_all(DEFAULT_RATE, header.run)} {unit} in all"
    return (
        f"* {rate} is the smallest rate that the good images held out can promise{_more_held_out(header)}; with "
        f"{more} it would be {100 * DEFAULT_RATE:g} %"
    )


def _more_held_out(header: "ArtifactHeader") -> str:
    """The rate that the same good images can promise with more of them held out, where that is less."""
    from blemish.data.split import least_rate
    from blemish.stats.conformal import promised_percent, rounded_up

    certificate, card = header.certificate, header.data_card
    if header.run.data.calibration_fraction is not None or certificate.kind != "average":
        return ""
    found = certificate.groups or certificate.n
    units = found + (len(set(card.fit_groups)) if certificate.groups else card.fit_images)
    rate = rounded_up(least_rate(found, units))
    if rate >= header.max_false_alarm_rate:
        return ""
    return f" ({promised_percent(rate)} with more of them held out: score.max_false_alarm_rate={rate:g})"
