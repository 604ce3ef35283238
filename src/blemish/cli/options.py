"""Arguments and options that several commands share."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blemish.cli.console import say
from blemish.errors import SettingsError, plural

if TYPE_CHECKING:
    from blemish.inference.predictor import Predictor

Model = Annotated[
    Path, typer.Argument(help="Model file made by `blemish train`, or exported to ONNX.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps or openvino.")]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1, max=1024, help="Processor threads per image. Default: one per core to use.", show_default=False
    ),
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
        help="Which images belong together: a regular expression on the name, with one group in "
        "brackets, or a CSV file with the columns image and group."
    ),
]
State = Annotated[
    Path | None,
    typer.Option(help="State file of `blemish monitor`. Default: beside the model.", show_default=False),
]
Sha256 = Annotated[
    str | None, typer.Option("--sha256", help="Refuse the model file unless it has this SHA-256.", show_default=False)
]
SignedBy = Annotated[
    Path | None,
    typer.Option(
        help="Refuse the model file unless MODEL.sig is its signature by this public key (PEM, ed25519).",
        show_default=False,
    ),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out unreadable images and name them, instead of stopping.")
]
TableOrJson = Annotated[Literal["table", "json"], typer.Option("--format", help="What to print.")]
Threshold = Annotated[float | None, typer.Option(help="A threshold of your own.")]
MaxFalseAlarmRate = Annotated[
    float | None, typer.Option(help="The share of good images that may be flagged, e.g. 0.05.")
]
DoubtRate = Annotated[
    float | None,
    typer.Option(
        help="What passes but at most this share of good images resembles is called doubtful, e.g. 0.2.",
        show_default=False,
    ),
]

FAR_ABOVE = 10.0
"""From so many times the highest score of good images on a threshold is hardly meant."""


def check_one_threshold(**options: float | None) -> None:
    """Refuse a threshold that is asked for in several ways, before the model is loaded.

    Raises:
        SettingsError: more than one of the options is given.

    >>> check_one_threshold(threshold=1.0, max_false_alarm_rate=0.05)
    Traceback (most recent call last):
    blemish.errors.SettingsError: --threshold and --max-false-alarm-rate: give one of them
    """
    if sum(value is not None for value in options.values()) > 1:
        *others, last = (f"--{name.replace('_', '-')}" for name in options)
        raise SettingsError(f"{', '.join(others)} and {last}: give one of them")


def at_threshold(predictor: "Predictor", threshold: float | None, max_false_alarm_rate: float | None) -> "Predictor":
    """The same model with the threshold that was asked for, if any; a note where it can hardly be meant."""
    if max_false_alarm_rate is not None:
        return predictor.with_false_alarm_rate(max_false_alarm_rate)
    if threshold is None:
        return predictor
    moved = predictor.with_threshold(threshold)
    if note := threshold_note(threshold, predictor.header.calibration_scores):
        say("note", note)
    return moved


def threshold_note(threshold: float, scores: Sequence[float]) -> str:
    """What is said of a threshold above or below all calibration scores of good images; else nothing.

    >>> threshold_note(1e9, [0.1, 0.4])
    '--threshold 1e+09: above all 2 calibration scores of good images (0.1 to 0.4), 2.5e+09 times the highest; hardly
    any image can be flagged'
    >>> threshold_note(0.05, [0.1, 0.4])
    '--threshold 0.05: below all 2 calibration scores of good images (0.1 to 0.4); nearly every image would be flagged'
    >>> threshold_note(0.1, [0.1, 0.4])
    ''
    """
    low, high = min(scores), max(scores)
    if low <= threshold <= high:
        return ""
    where = f"all {plural(len(scores), 'calibration score')} of good images ({low:.3g} to {high:.3g})"
    if threshold < low:
        return f"--threshold {threshold:.6g}: below {where}; nearly every image would be flagged"
    times = threshold / high if high else math.inf
    what = "hardly any image can be flagged" if times >= FAR_ABOVE else "only what scores higher still is flagged"
    return f"--threshold {threshold:.6g}: above {where}, {times:.2g} times the highest; {what}"
