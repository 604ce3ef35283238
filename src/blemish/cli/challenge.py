"""`blemish challenge`: which defects would be missed?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.cli.console import counter, new_table, out_console, progress, say, say_skipped, say_unread, say_withdrawn
from blemish.cli.options import Device, Model, Sha256, SignedBy, SkipBad, Threads


def challenge(
    model: Model,
    good: Annotated[
        Path, typer.Argument(help="Folder of good photos the model was not fitted on.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for challenge.json and challenge.html.", show_default=False)
    ],
    types: Annotated[str | None, typer.Option(help="Types of defects, separated by commas. Default: all.")] = None,
    contrasts: Annotated[
        str, typer.Option(help="Mean change of a defect's pixels, separated by commas; 1 is from black to white.")
    ] = "0.05,0.1,0.2",
    defects: Annotated[int, typer.Option(help="Defects of each type and contrast.")] = 60,
    smallest_px: Annotated[
        float | None,
        typer.Option(help="Smallest extent, in the photos' own pixels. Default: a hundredth of their side."),
    ] = None,
    largest_px: Annotated[float | None, typer.Option(help="Largest extent. Default: a fifth of their side.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same defects.")] = 0,
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="Without a region of interest, put defects beside the part, too.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    skip_bad: SkipBad = False,
    sha256: Sha256 = None,
    signed_by: SignedBy = None,
) -> None:
    """See which synthetic defects on good photos a model misses. They are of graded size and contrast."""
    from blemish.data.folder import read_folder
    from blemish.data.synthetic.defects import DEFECTS
    from blemish.evaluation.challenge.challenge import ChallengeSettings, challenge_model
    from blemish.inference.predictor import Predictor
    from blemish.settings import validate

    asked = {
        "defect_types": list(DEFECTS) if types is None else [name.strip() for name in types.split(",")],
        "contrasts": [value.strip() for value in contrasts.split(",")],
        "defects": defects,
        "smallest_px": smallest_px,
        "largest_px": largest_px,
        "seed": seed,
        "skip_bad": skip_bad,
        "anywhere": anywhere,
    }
    settings = validate(ChallengeSettings, asked)
    predictor = Predictor.load(model, device, threads, sha256=sha256, signed_by=signed_by)
    say_withdrawn(predictor.withdrawal)
    with progress(at_once=True) as report:
        found = challenge_model(predictor, read_folder(good), out, settings, counter(report, "challenging"))
    results = found.results
    say_skipped(results["data"]["skipped"], results["data"]["photos"])
    say_unread([good])
    for photo in results["suspicious"]:
        what = f"was given as good, but is flagged as it is: p-value {photo['p_value']:.3f}"
        say("warning", f"{photo['path']} {what}")
    for note in results["notes"]:
        say("note", note)
    _print_curves(results["curves"])
    out_console.print(f"written: {found.results_path} and {found.report_path}")


def _print_curves(curves: Any) -> None:
    """How many defects of each type and contrast were found, and from which size on."""
    from blemish.evaluation.challenge.challenge_page import sized

    names = ("contrast", "found", "of", "a50", "a90", "a90/95", "largest missed")
    table = new_table("defect", *names, left=("defect",))
    for curve in curves:
        sizes = [sized(curve[name]) for name in ("a50", "a90", "a90_95")] if curve["fit"] else ["-"] * 3
        missed = "-" if curve["largest_missed_px"] is None else f"{curve['largest_missed_px']:.0f} px"
        cells = [curve["defect_type"], f"{curve['contrast']:g}", str(curve["found"]), str(curve["defects"])]
        table.add_row(*cells, *sizes, missed)
    out_console.print(table)
    out_console.print(
        "a50, a90: the size from which half, or nine in ten, are found; a90/95: nine in ten with 95 % confidence; "
        "larger, smaller: beyond the sizes tried"
    )
