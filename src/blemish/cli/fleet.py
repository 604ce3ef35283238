"""`blemish fleet manifest` and `inspect`: an archive of images, judged on many processors or machines."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import emit, say, say_unread
from blemish.errors import plural

Folder = Annotated[Path, typer.Argument(help="Folder of images.", show_default=False)]
ManifestOut = Annotated[
    Path | None, typer.Option("--out", "-o", help="CSV or Parquet file, by its suffix. None: CSV is printed.")
]
Product = Annotated[
    str | None, typer.Option(help="The product of all images. None: each sub-folder is one.", show_default=False)
]


def manifest(folder: Folder, out: ManifestOut = None, product: Product = None) -> None:
    """List the images of a folder, for `blemish fleet inspect`: id, path and product."""
    from blemish.fleet.manifest import csv_lines, find_images, write_manifest

    rows = find_images(folder, product)
    if out is None:
        for line in csv_lines(rows):
            emit(line)
    else:
        count = write_manifest(rows, out)
        say("written", f"{out}, {plural(count, 'image')}")
    say_unread([folder])
