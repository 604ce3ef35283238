"""`blemish watch`: images judged as a camera writes them."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import emit, log_console, say
from blemish.cli.options import (
    Device,
    DoubtRate,
    MaxFalseAlarmRate,
    Model,
    Sha256,
    SignedBy,
    State,
    Threads,
    Threshold,
    at_threshold,
    check_one_threshold,
)
from blemish.cli.stopping import when_asked_to_end
from blemish.errors import DataError, SettingsError, plural, printable

if TYPE_CHECKING:
    from blemish.inference.predictor import Predictor
    from blemish.inspection.decisions import Decision
    from blemish.inspection.watch import WatchSettings


Folder = Annotated[
    Path, typer.Argument(help="Folder that images are written into, and the folders below it.", show_default=False)
]
To = Annotated[
    Path | None,
    typer.Option(
        help="Record of the decisions, .sqlite; or its export, .csv or .jsonl, with the record beside it. Default: "
        "FOLDER.decisions.csv, beside the folder.",
        show_default=False,
    ),
]
MoveAnomalous = Annotated[
    Path | None, typer.Option(help="Folder to move anomalous images to; not inside the watched one.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for heat maps and defect masks; not inside the watched one.")
]
Poll = Annotated[float, typer.Option(min=0.01, max=3600.0, help="Seconds between two looks at the folder.")]
Settle = Annotated[
    float, typer.Option(min=0.0, max=86_400.0, help="Seconds without a change, after which a file is looked at.")
]
Patience = Annotated[
    float,
    typer.Option(
        min=0.0, max=86_400.0, help="Seconds without a change, after which a broken file is called unreadable."
    ),
]
UntilIdle = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=31_536_000.0,
        help="Stop when nothing has come for so many seconds; 0: when all that is there is decided.",
    ),
]


def watch(
    model: Model,
    folder: Folder,
    to: To = None,
    move_anomalous: MoveAnomalous = None,
    out: Out = None,
    threshold: Threshold = None,
    max_false_alarm_rate: MaxFalseAlarmRate = None,
    doubt_rate: DoubtRate = None,
    poll: Poll = 0.5,
    settle: Settle = 1.0,
    patience: Patience = 10.0,
    until_idle: UntilIdle = None,
    state: State = None,
    device: Device = "auto",
    threads: Threads = None,
    sha256: Sha256 = None,
    signed_by: SignedBy = None,
) -> None:
    """Judge each image once as it is written into a folder. Ctrl-C ends it, with exit code 0; 2: an error.

    A decision is in the record, an SQLite file, and on the disk before the image is moved; CSV or JSON lines follow it:
    time, file, SHA-256, score, p-value, threshold, verdict, regions. If it is killed, start it again and it goes on.
    Other content under the same name is another image. If the model file changes, for example by `blemish certify`, it
    is loaded again, and the record says so.
    """
    from blemish.inference.predictor import Predictor
    from blemish.inspection.watch import WatchSettings

    check_one_threshold(threshold=threshold, max_false_alarm_rate=max_false_alarm_rate)

    def load() -> Predictor:
        found = Predictor.load(model, device, threads, state=state, sha256=sha256, signed_by=signed_by)
        return at_threshold(found, threshold, max_false_alarm_rate)

    predictor = load()
    to = to or _export_beside(folder)
    settings = WatchSettings(
        folder,
        to,
        move_anomalous,
        out,
        poll_s=poll,
        settle_s=settle,
        patience_s=patience,
        until_idle_s=until_idle,
        doubt_rate=doubt_rate,
    )
    _watch(predictor, settings, load)


def _watch(predictor: "Predictor", settings: "WatchSettings", load: "Callable[[], Predictor]") -> None:
    """Watch, and say on standard output what is decided, on standard error all else."""
    from blemish.inspection.decisions import DOUBTFUL
    from blemish.inspection.record import ENDING
    from blemish.inspection.watch import Callbacks, watch_folder

    warning = _CertificateWarning(predictor)
    warning.warn()
    stop = _Stop(warning.warn)
    callbacks = Callbacks(
        decision=_say_decision,
        trouble=lambda text: say("trouble", text),
        wait=stop.wait,
        begun=lambda: log_console.print(f"watching {settings.folder}, writing {settings.to}; Ctrl-C ends it"),
        note=lambda text: say("note", text),
        model=warning.follow,
    )
    with when_asked_to_end(stop.ask):
        verdicts = watch_folder(predictor, settings, callbacks, load)
    kinds = ("good", *([] if settings.doubt_rate is None else [DOUBTFUL]), "anomalous", "unreadable")
    counts = ", ".join(f"{verdicts[kind]} {kind}" for kind in kinds)
    log_console.print(
        f"{plural(verdicts.total(), 'image')} decided: {counts}; the record is {settings.to.with_suffix(ENDING)}"
    )


def _export_beside(folder: Path) -> Path:
    """Where decisions are written when nobody says where."""
    absolute = folder.resolve()
    if not absolute.name:
        raise SettingsError(f"--to: {folder} has no folder beside it for the record; give a file")
    return absolute.with_name(f"{absolute.name}.decisions.csv")


class _Stop:
    """Ctrl-C and a polite kill end the watch after the image at hand; twice ends it at once.

    A plain flag: a signal comes in the middle of anything, and may not wait for a lock that it interrupted.
    """

    def __init__(self, on_wait: Callable[[], None]) -> None:
        self.is_asked_for = False
        self._on_wait = on_wait

    def wait(self, seconds: float) -> bool:
        """Whether an end was asked for before or within this time."""
        self._on_wait()
        until_s = time.monotonic() + seconds
        while not self.is_asked_for and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.1))
        return self.is_asked_for

    def ask(self, _signal: int, _frame: object) -> None:
        """Ask for an end."""
        if self.is_asked_for:
            raise KeyboardInterrupt
        self.is_asked_for = True


class _CertificateWarning:
    """Says that the certificate is withdrawn, once, also when that happens during the watch."""

    def __init__(self, predictor: "Predictor") -> None:
        self._predictor, self._said = predictor, ""

    def warn(self) -> None:
        from blemish.inference.monitor_state import withdrawn_message

        try:
            alarm = self._predictor.withdrawal
            message = "" if alarm is None else withdrawn_message(alarm)
        except DataError as error:
            message = str(error)
        if message and message != self._said:
            say("warning", message)
        self._said = message or self._said

    def follow(self, predictor: "Predictor", change: str) -> None:
        """Look after the certificate of another model from now on."""
        say("note", change)
        self._predictor = predictor


def _say_decision(decision: "Decision") -> None:
    from blemish.inference.score import score_text

    at = datetime.fromisoformat(decision.decided_at).astimezone().isoformat(timespec="milliseconds")
    shown = decision.shown_verdict
    verdict = shown if shown == "good" else shown.upper()
    if decision.score is None or decision.p_value is None:
        emit(f"{at}  {verdict:<10}  {printable(decision.message)}\n")
    else:
        said = printable(decision.image_path) + (f"  ({decision.message})" if decision.message else "")
        emit(f"{at}  {verdict:<10}  {score_text(decision.score, 5):>10}  {decision.p_value:>7.4f}  {said}\n")
