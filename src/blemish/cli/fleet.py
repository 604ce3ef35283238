"""`blemish fleet manifest` and `inspect`: an archive of images, judged on many processors or machines."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import emit, print_table, progress, say, say_masks, say_unread
from blemish.cli.inspect import UNREADABLE
from blemish.errors import SettingsError, plural

Folder = Annotated[Path, typer.Argument(help="Folder of images.", show_default=False)]
ManifestOut = Annotated[
    Path | None, typer.Option("--out", "-o", help="CSV or Parquet file, by its suffix. Default: CSV is printed.")
]
Product = Annotated[
    str | None, typer.Option(help="The product of all images. Default: each sub-folder is one.", show_default=False)
]


def manifest(folder: Folder, out: ManifestOut = None, product: Product = None) -> None:
    """List the images of a folder for `fleet inspect`. With id, path and product."""
    from blemish.data.layouts import subfolders
    from blemish.fleet.manifest import csv_lines, find_images, write_manifest

    rows = find_images(folder, product)
    if out is None:
        for line in csv_lines(rows):
            emit(line)
    else:
        count = write_manifest(rows, out)
        say("written", f"{out}, {plural(count, 'image')}")
    say_unread([folder])
    say_masks([folder] if product else subfolders(folder))


ManifestIn = Annotated[Path, typer.Argument(help="CSV or Parquet: id, path or URI, product.", show_default=False)]
Models = Annotated[
    Path, typer.Option("--models", help="Registry: a folder with PRODUCT/model.onnx.", show_default=False)
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for the results; goes on with what is in it.", show_default=False)
]
Address = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of the head of a Ray cluster. Default: this machine alone.", show_default=False),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Workers. Default: as many as there are processors.", show_default=False)
]
Fdr = Annotated[
    float | None,
    typer.Option(help="Judge the archive as one batch: of those called anomalous, at most this share is good."),
]
Masks = Annotated[bool, typer.Option("--masks", help="Write the defect masks of anomalous images to OUT/masks.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images given to a worker at a time.")]
ShardRows = Annotated[int, typer.Option(min=1, help="Images that are finished together and kept as one file.")]
WorkerThreads = Annotated[int, typer.Option("--threads", min=1, help="Processors of a worker.")]
Form = Annotated[str, typer.Option("--format", metavar="parquet|csv", help="csv: results.csv beside results.parquet.")]
Withdrawn = Annotated[bool, typer.Option("--withdrawn", help="Judge also by models whose certificate is withdrawn.")]


def inspect(
    manifest: ManifestIn,
    models: Models,
    out: Out,
    address: Address = None,
    workers: Workers = None,
    threads: WorkerThreads = 1,
    batch_size: BatchSize = 64,
    shard_rows: ShardRows = 256,
    fdr: Fdr = None,
    masks: Masks = False,
    form: Form = "parquet",
    withdrawn: Withdrawn = False,
) -> None:
    """Judge every image of a manifest, each once. If it is interrupted, the same command goes on.

    Exit code 0: all good; 1: at least one is anomalous; 2: an error; 3: none is anomalous, but at least one could not
    be read.
    """
    from blemish.fleet.inspect import Request, inspect_archive
    from blemish.fleet.results import NOT_FETCHED, first_unreadable

    if form not in ("parquet", "csv"):
        raise SettingsError(f"--format {form}: unknown; parquet or csv")
    how = (address, workers, threads, batch_size, shard_rows)
    request = Request(manifest, models, out, *how, fdr, masks, form == "csv", withdrawn)
    with progress() as report:
        found = inspect_archive(request, report, lambda text: say("note", text))
    rate = f", {found.judged / found.seconds:.1f} a second" if found.judged else ""
    kept = f"; {found.images - found.judged} were finished before" if found.judged < found.images else ""
    say("judged", f"{plural(found.judged, 'image')} in {found.seconds:.1f} s{rate}{kept}")
    if found.forgotten:
        say("note", f"{plural(found.forgotten, 'shard')} of another manifest, model or setting deleted")
    if unfetched := found.total(NOT_FETCHED):
        say("note", f"{plural(unfetched, 'image')} could not be fetched; the same command tries them again")
    counts = {name: found.total(name) for name in ("good", "anomalous", "unreadable")}
    if unreadable := counts["unreadable"]:
        first = "; the first" if unreadable > 1 else ""
        say("note", f"{plural(unreadable, 'image')} could not be read{first}: {first_unreadable(out)}")
    print_table("verdicts", {name: str(count) for name, count in counts.items()})
    beside = "results.csv and summary.json" if request.with_csv else "summary.json"
    say("written", f"{out / 'results.parquet'}, and {beside} beside it")
    raise typer.Exit(1 if counts["anomalous"] else UNREADABLE if counts["unreadable"] else 0)
