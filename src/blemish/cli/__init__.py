"""The command line: one module a command, thin over the library; the only package that prints.

A command is one function in the module of its theme and one line in the tables below.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from blemish.cli import (
    certify,
    challenge,
    compare,
    data,
    doctor,
    encoders,
    export,
    fleet,
    fleet_models,
    inspect,
    monitor,
    sign,
    station,
    station_record,
    train,
    watch,
)
from blemish.cli.console import out_console
from blemish.cli.exit import ending

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train.train,
    "inspect": inspect.inspect,
    "watch": watch.watch,
    "certify": certify.certify,
    "monitor": monitor.monitor,
    "export": export.export,
    "verify": export.verify,
    "sign": sign.sign,
    "evaluate": train.evaluate,
    "challenge": challenge.challenge,
    "compare": compare.compare,
    "detectors": train.detectors,
    "doctor": doctor.doctor,
}
DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "check": data.check,
    "synth": data.synth,
    "convert": data.convert,
    "list": data.list_sets,
    "get": data.get,
}
ENCODER_COMMANDS: dict[str, Callable[..., None]] = {
    "list": encoders.list_,
    "fetch": encoders.fetch,
    "accept": encoders.accept,
    "licence": encoders.licence,
}
FLEET_COMMANDS: dict[str, Callable[..., None]] = {
    "manifest": fleet.manifest,
    "inspect": fleet.inspect,
    "train": fleet_models.train,
    "serve": fleet_models.serve,
}
SWEEP_COMMANDS: dict[str, Callable[..., None]] = {
    "threshold": compare.sweep_threshold,
    "setting": compare.sweep_setting,
}
STATION_COMMANDS: dict[str, Callable[..., None]] = {
    "serve": station.serve,
    "add": station.add,
    "tell": station.tell,
    "work": station.work,
    "run": station.run,
    "verify": station_record.verify,
    "export": station_record.export,
    "import": station_record.import_record,
    "head": station_record.head,
    "keep": station_record.keep,
    "backup": station_record.backup,
    "restore": station_record.restore,
}

__all__ = ["app"]


def root(version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False) -> None:
    """Find defective pixels in product images after training on good images only."""
    if version:
        import blemish

        out_console.print(blemish.__version__)
        raise typer.Exit


class _Command(TyperCommand):
    """A command that takes no empty argument: as a path it would be the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any(not argument.strip() for argument in args):
            raise typer.BadParameter("an empty argument; a variable without a value in a script?")
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        return super().get_help(ctx).replace("<list[Path]>", "<path>      ")  # Python's name, and as wide


def _with_commands(commands: Mapping[str, Callable[..., None]], group: str = "", **settings: Any) -> typer.Typer:
    found = typer.Typer(no_args_is_help=True, rich_markup_mode=None, **settings)
    for name, function in commands.items():
        found.command(name, cls=_Command)(ending(f"{group} {name}".strip(), function))
    return found


app = _with_commands(COMMANDS, pretty_exceptions_enable=False)
app.callback(invoke_without_command=True)(root)
app.add_typer(_with_commands(DATA_COMMANDS, "data"), name="data", help="Make, convert and check data sets.")
app.add_typer(
    _with_commands(SWEEP_COMMANDS, "sweep"),
    name="sweep",
    help="Vary one thing over its values: the threshold, or a setting.",
)
app.add_typer(
    _with_commands(ENCODER_COMMANDS, "encoders"), name="encoders", help="List pretrained encoders, and fetch others."
)
app.add_typer(
    _with_commands(FLEET_COMMANDS, "fleet"),
    name="fleet",
    help="Many products and millions of images, on one or many machines. With Ray (pip install 'blemish[fleet]').",
)
app.add_typer(
    _with_commands(STATION_COMMANDS, "station", cls=station.StationGroup),
    name="station",
    help="Judge beside the line, in a browser, with an audit trail. `blemish station FOLDER` serves.",
)
