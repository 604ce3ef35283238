"""`blemish encoders`: which pretrained encoders are here, and how others come here."""

from typing import Annotated

import typer

from blemish.cli.console import counter, emit, log_console, new_table, out_console, progress, say
from blemish.cli.options import Model, TableOrJson
from blemish.errors import BlemishError

Name = Annotated[str, typer.Argument(help="hf:NAME or timm:NAME, e.g. hf:facebook/dinov2-small.", show_default=False)]


def list_(
    measure: Annotated[bool, typer.Option("--measure", help="Measure the speed of each here.")] = False,
    form: TableOrJson = "table",
) -> None:
    """List the encoders on this machine. With licence, size, and speed where it was measured."""
    import json

    from blemish.data.progress import counted
    from blemish.hub.store import home
    from blemish.models.encoder_list import list_encoders, measure_encoder

    here = [row.name for row in list_encoders() if measure and not row.how_to_get]
    with progress(at_once=True) as report:
        for name in counted(here, counter(report, "measuring")):
            try:
                measure_encoder(name)
            except BlemishError as error:
                log_console.print(f"not measured: {name}: {error}")
    rows = list_encoders()
    if form == "json":
        typer.echo(json.dumps([row._asdict() for row in rows], indent=2, allow_nan=False))
        return
    columns = ("name", "family", "licence", "MB", "ms at 256 px", "")
    table = new_table(*columns, left=columns)
    for row in rows:
        size = "-" if row.megabytes is None else f"{row.megabytes:.1f}"
        speed = "-" if row.milliseconds is None else f"{row.milliseconds:.1f}"
        table.add_row(row.name, row.family, row.licence, size, speed, row.how_to_get)
    out_console.print(table)
    out_console.print(f"fetched ones are in {home()}; any folder is taken as folder:PATH")


def fetch(
    name: Name,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit on the hub.")] = "main",
    sha256: Annotated[str | None, typer.Option(help="The SHA-256 that its weights must have.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read its own licence (DINOv3) and accept it.")
    ] = False,
) -> None:
    """Fetch an encoder from a model hub: safetensors only. Goes on where it was interrupted."""
    from blemish.hub.fetch import fetch as fetch_encoder
    from blemish.hub.folder import read_licence
    from blemish.hub.licences import caution

    with progress() as report:
        tell = counter(report, "kB")
        place = fetch_encoder(
            name, revision, accept_licence, sha256, lambda done, total: tell(done // 1000, total // 1000)
        )
    licence, _ = read_licence(place, name)
    out_console.print(f"{name} is in {place}; its licence: {licence}")
    if told := caution(licence):
        say("note", told)


def accept(licence: Annotated[str, typer.Argument(help="e.g. dinov3-license", show_default=False)]) -> None:
    """Accept, once, the licence of weights that have one of their own."""
    from blemish.hub.licences import LICENCES
    from blemish.hub.licences import accept as accept_licence
    from blemish.hub.store import home

    accept_licence(licence, home())
    out_console.print(f"accepted: {LICENCES[licence].title}, {LICENCES[licence].url}")


def licence(model: Model) -> None:
    """Print which encoder a model file holds, and its licence. For trained models and exports."""
    from blemish.inference.runtime import header_of

    card = header_of(model).encoder
    if card is None:
        out_console.print("no pretrained encoder, or one of your own without a card")
        return
    out_console.print(f"{card.name}, licence: {card.licence}, SHA-256 of its weights: {card.sha256}")
    if card.licence_text:
        emit(f"\n{card.licence_text.rstrip()}\n")
