"""`blemish sign`: a signature beside a model file, for `--signed-by`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import out_console
from blemish.cli.options import Model


def sign(
    model: Model,
    key: Annotated[Path, typer.Option(help="Private key: ed25519, PEM, without a password.", show_default=False)],
) -> None:
    """Sign a model file. Writes MODEL.sig beside it, which `--signed-by` then requires."""
    from blemish.inference.trust import sign_model

    out_console.print(f"written: {sign_model(model, key)}")
