"""`blemish export` and `verify`: a model for another machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import counter, print_table, progress, say, say_withdrawn
from blemish.cli.options import Device, Sha256, SignedBy, Threads
from blemish.data.progress import Progress
from blemish.errors import plural

if TYPE_CHECKING:
    from blemish.inference.onnx_file import ExportCard


def export(
    model: Annotated[Path, typer.Argument(help="Model file made by `blemish train`.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write.", show_default=False)],
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 23; lower for an older onnxruntime.")] = 18,
    good: Annotated[
        Path | None,
        typer.Option(
            help="Good images to compare on, beside those in the model file.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a model as an ONNX file, which needs no torch. Refused if it judges differently from the trained model."""
    from blemish.inference.monitor_state import withdrawal
    from blemish.inference.runtime import header_of
    from blemish.inference.trust import signature_notes
    from blemish.settings import validate
    from blemish.training.export import ExportSettings, export_model

    settings = validate(ExportSettings, {"opset": opset}, prefix="--")
    with progress(at_once=True) as report:
        report(Progress("exporting", 0, 0))
        card = export_model(model, out, settings, good, counter(report, "comparing"))
    trained = header_of(model)
    _print_export(card, (trained.threshold, header_of(out).threshold), out)
    say_withdrawn(withdrawal(model, trained))
    for note in signature_notes(out):
        say("note", note)


def verify(
    model: Annotated[Path, typer.Argument(help="ONNX file made by `blemish export`, or trained.", show_default=False)],
    device: Device = "auto",
    threads: Threads = None,
    sha256: Sha256 = None,
    signed_by: SignedBy = None,
) -> None:
    """Check that an exported file judges here as it should. It holds images, and what the trained model said of them.

    Of a trained model: judge images on --device, and compare with the processor.
    """
    from blemish.inference.parity import verify as verify_file
    from blemish.inference.runtime import is_onnx
    from blemish.inference.trust import Trust

    trust = Trust(sha256, signed_by)
    with progress(at_once=True) as report:
        compared = counter(report, "comparing")
        if is_exported := is_onnx(model):
            found = verify_file(model, device, threads, trust, compared)
        else:
            from blemish.inference.trained_parity import verify_trained

            found = verify_trained(model, device, threads, trust, compared)
    ties = sum(not check.is_same for check in found.checks)
    rows = {
        "images": f"{len(found.checks)}, all within {found.tolerance:.0e} of value or threshold",
        "worst": f"{found.worst.name}, {found.worst.difference:.2g}",
        "p-values and verdicts": "the same" + (f" but for {plural(ties, 'tie')}" if ties else ""),
    }
    print_table(f"{model} judges here as {'where it was made' if is_exported else 'on the processor'}", rows)


def _print_export(card: "ExportCard", thresholds: tuple[float, float], out: Path) -> None:
    rows = {
        "graph": f"opset {card.opset}",
        "compared": f"{plural(card.checked, 'image')} with the trained model",
        "maps": f"differ by {card.worst:.2g} at most ({card.worst_image})",
        "tolerance": f"{card.tolerance:.0e} of value or threshold, for `blemish verify`",
        "p-values and verdicts": "the same" + (f" but for {plural(card.ties, 'tie')}" if card.ties else ""),
        "threshold": "{1:.9g}, raised by the tolerance from {0:.9g}".format(*thresholds),
        "file": f"{out} ({out.stat().st_size / 1e6:.1f} MB)",
    }
    print_table("exported", rows)
