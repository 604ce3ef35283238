"""`blemish fleet train` and `serve`: the models of many products, made and asked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import log_console, new_table, out_console, progress, say
from blemish.errors import SettingsError

if TYPE_CHECKING:
    from blemish.fleet.overview import Ledger
    from blemish.fleet.product import Record

Address = Annotated[
    str | None,
    typer.Option(
        help="HOST:PORT of a Ray cluster whose machines share all folders. Default: this machine.", show_default=False
    ),
]


def train(
    plan: Annotated[
        Path, typer.Argument(help="CSV or TOML: product, folder, and settings of each.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for the registry, with a model for each product.", show_default=False),
    ],
    address: Address = None,
    gpus: Annotated[float, typer.Option(min=0.0, help="GPUs per product; with 0.5 two share one.")] = 0.0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Products at once. Default: as many as there is room for.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processors per product.")] = 1,
    challenge: Annotated[
        int,
        typer.Option(help="Synthetic defects of each type to try every model with, at least 10. 0: none."),
    ] = 0,
    check: Annotated[bool, typer.Option(help="Check each product's images, too.")] = True,
) -> None:
    """Train a model for each product of a plan. Exit code 0: all are trained; 1: some failed; 2: an error.

    Run again after an interruption, or with more products, settings or images, it goes on: what is finished and
    unchanged is kept. REGISTRY/registry.html shows all products, the worst first; ledger.json is the same for programs.
    """
    from blemish.fleet.overview import read_ledger
    from blemish.fleet.plan import read_plan
    from blemish.fleet.product import Wish
    from blemish.fleet.tasks import Needs
    from blemish.fleet.train import Machines, train_plan

    if 0 < challenge < 10 or challenge < 0:
        raise SettingsError(f"--challenge {challenge}: at least 10 defects of each type, or 0 for none")
    wish = Wish(check, challenge, "cuda" if gpus else "cpu", threads)
    machines = Machines(address, Needs(threads, gpus), workers)
    with progress() as report:
        records = train_plan(read_plan(plan), out, wish, machines, report, _say_product)
    _print_ledger(read_ledger(out))
    out_console.print(f"written: {out / 'registry.html'}, ledger.json and registry.json beside it")
    raise typer.Exit(int(any(record.status == "failed" for record in records)))


def serve(
    registry: Annotated[Path, typer.Argument(help="Folder with a model for each product.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 8743,
    host: Annotated[str, typer.Option(help="0.0.0.0: every network this machine is in.")] = "127.0.0.1",
    address: Address = None,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that judge.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Processor threads per image.")] = 1,
    models: Annotated[int, typer.Option(min=1, help="Models that a process keeps open, the last used ones.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Most images that a process takes at once.")] = 8,
    wait_ms: Annotated[float, typer.Option(min=0.0, help="How long it waits for a batch to fill.")] = 5.0,
    queue: Annotated[int, typer.Option(min=1, help="Images that may wait; more are answered with 503.")] = 64,
    max_mib: Annotated[int, typer.Option(min=1, help="Largest image file, in MiB.")] = 64,
) -> None:
    """Judge images of all products over HTTP, as a station does. POST /api/v1/predict?product=...&name=...

    Ctrl-C ends it, and every process it has started. There are no accounts: it is for programs on a trusted network.
    """
    from blemish.fleet.cluster import load_ray

    load_ray()  # here, so that a package that is missing is said to be the fleet's
    from blemish.fleet.serve import Serving, serve_registry

    if host not in ("127.0.0.1", "::1", "localhost"):
        say(
            "warning", f"{host}: whoever is on the network can have images judged; there are neither accounts nor HTTPS"
        )
    wanted = Serving(registry, host, port, address, replicas, threads, models, batch, wait_ms, queue, max_mib)
    serve_registry(wanted, log_console.print)


def _say_product(record: "Record", is_kept: bool) -> None:
    said = "finished before, kept" if is_kept else "trained"
    log_console.print(f"{record.product}: {f'FAILED: {record.error}' if record.status == 'failed' else said}")


def _print_ledger(ledger: "Ledger") -> None:
    from blemish.stats.conformal import promised_percent

    columns = ("product", "promised", "needed for 1 %", "90 % from", "MB", "state")
    table = new_table(*columns, left=("product", "state"))
    for row in ledger["products"][:20]:
        model, challenge = row["model"] or {}, row["challenge"] or {}
        rate, needed, size = model.get("max_false_alarm_rate"), model.get("still_needed"), challenge.get("a90_px")
        table.add_row(
            row["product"],
            promised_percent(rate),
            "-" if needed is None else str(needed),
            "-" if size is None else f"{size:.0f} px",
            f"{model['bytes'] / 1e6:.1f}" if model else "-",
            row["status"],
        )
    out_console.print(table)
    if len(ledger["products"]) > 20:
        out_console.print(f"the worst 20 of {len(ledger['products'])} products")
