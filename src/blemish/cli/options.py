"""Arguments and options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blemish.errors import SettingsError

if TYPE_CHECKING:
    from blemish.inference.predictor import Predictor

Model = Annotated[
    Path, typer.Argument(help="Model file made by `blemish train`, or exported to ONNX.", show_default=False)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps or openvino.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Processor threads per image. Default: one per core.", show_default=False),
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
    """The same model with the threshold that was asked for, if any."""
    if max_false_alarm_rate is not None:
        return predictor.with_false_alarm_rate(max_false_alarm_rate)
    return predictor if threshold is None else predictor.with_threshold(threshold)
