"""`blemish compare` and `sweep`: many models side by side."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.console import log_console, new_table, out_console, progress, say, say_skipped, say_unread
from blemish.cli.options import Device, SkipBad
from blemish.errors import SettingsError

if TYPE_CHECKING:
    from blemish.evaluation.compare.follow import Runner

Ray = Annotated[
    bool, typer.Option("--ray", help="Do the runs with Ray, one per processor, on this machine or at --address.")
]
Address = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of a Ray cluster whose machines share all folders; with --ray.", show_default=False),
]


def compare(
    data: Annotated[
        list[Path],
        typer.Argument(help="Folders with train/good, test/good, test/<type> and ground_truth.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the comparison and its runs.")],
    detectors: Annotated[
        str | None,
        typer.Option(
            help="Detectors or presets, separated by commas; see `blemish detectors`. Default: the default one, "
            "patchcore, and the paper's with those it compares with.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each, with the seeds 0, 1, ...")] = 3,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings, for all.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change one setting for all, or with a name and a colon in front for one detector alone, "
            "e.g. --set train.epochs=100 --set paper:model.latent=100; may be repeated.",
            metavar="[DETECTOR:]NAME=VALUE",
        ),
    ] = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    ray: Ray = False,
    address: Address = None,
) -> None:
    """Compare detectors: comparison.json, .csv and .html. Exit code 0: all runs finished; 1: some failed; 2: an error.

    Each detector is trained, calibrated and evaluated on each folder with each seed. Run again after an interruption
    or with more detectors, folders or seeds, it goes on: what is finished, with the same settings and images, is kept.
    """
    from blemish.evaluation.compare.compare import COMPARED, Plan, compare
    from blemish.evaluation.results import EvaluateSettings

    plan = Plan(
        data=data,
        detectors=COMPARED if detectors is None else _names(detectors),
        seeds=seeds,
        settings=settings,
        assignments=[*(set_ or []), *(["data.skip_bad=true"] if skip_bad else [])],
        evaluate=EvaluateSettings(skip_bad=skip_bad),
    )
    with _runner(ray, address, device) as runner:
        found = compare(plan, out.absolute() if ray else out, runner)
    say_skipped(found.skipped)
    say_unread(data)
    _print_comparison(found.content)
    out_console.print(f"written: {out / 'comparison.html'}, and .json and .csv beside it")
    raise typer.Exit(int(found.failed > 0))


def sweep_threshold(
    evaluation: Annotated[
        Path,
        typer.Argument(help="Folder that `blemish evaluate` wrote, or a run of a comparison.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for threshold.json, .csv and .html.")],
    tau: Annotated[
        str | None,
        typer.Option(
            help="Thresholds to show one image at, separated by commas. Default: the paper's 0.7,0.2,0.1 on maps like "
            "its own, on others the model's threshold, twice and half of it."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Which test image, e.g. test/cut/003.png. Default: one of the examples.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="With --data: score the image again, where the evaluation did not keep its map.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The folder that was evaluated; goes with --model.")] = None,
    device: Device = "auto",
) -> None:
    """Precision, recall and F1 over the threshold. From an evaluation: nothing is trained or scored."""
    from blemish.evaluation.compare.sweep_page import table_rows
    from blemish.evaluation.compare.sweep_threshold import Source, sweep_threshold

    if (model is None) != (data is None):
        raise SettingsError("--model and --data: give both of them, or none")
    source = None if model is None or data is None else Source(model, data, device)
    content = sweep_threshold(evaluation, out, None if tau is None else _taus(tau), image, source)
    table = new_table("threshold", "", "precision", "recall", "F1")
    for threshold, name, row in table_rows(content, "all"):
        rates = ("-" if row[rate] is None else f"{row[rate]:.3f}" for rate in ("precision", "recall", "f1"))
        table.add_row(f"{threshold:.4g}", name, *rates)
    out_console.print(table)
    if content["image"]["scored_again"]:
        say("note", f"{content['image']['name']} was scored again, nothing else")
    out_console.print(f"written: {out / 'threshold.html'}, and .json and .csv beside it")


def sweep_setting(
    data: Annotated[
        Path, typer.Argument(help="Folder with train/good, test/good, test/<type>, ground_truth.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sweep.json, .csv, .html and the runs.")],
    set_: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="One setting with several values, e.g. --set model.latent=8,32,100; others as for `blemish train`.",
            metavar="NAME=VALUE,VALUE",
            show_default=False,
        ),
    ],
    detectors: Annotated[
        str | None,
        typer.Option(
            "--detectors",
            "--detector",
            help="Detectors or presets, separated by commas; see `blemish detectors`. Default: the default one and "
            "patchcore.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each value, with the seeds 0, 1, ...")] = 1,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    ray: Ray = False,
    address: Address = None,
) -> None:
    """One setting at several values, one run each. Exit code 0: all runs finished; 1: some failed; 2: an error.

    Run again after an interruption or with more values it goes on: finished runs are kept.
    """
    from blemish.evaluation.compare.sweep_setting import SWEPT, SettingSweep, sweep_setting
    from blemish.evaluation.results import EvaluateSettings

    plan = SettingSweep(
        data=data,
        detectors=SWEPT if detectors is None else _names(detectors),
        assignments=[*set_, *(["data.skip_bad=true"] if skip_bad else [])],
        seeds=seeds,
        settings=settings,
        evaluate=EvaluateSettings(skip_bad=skip_bad),
    )
    with _runner(ray, address, device) as runner:
        found = sweep_setting(plan, out.absolute() if ray else out, runner)
    say_skipped(found.skipped)
    say_unread([data])
    out_console.print(f"written: {out / 'sweep.html'}, and .json and .csv beside it")
    raise typer.Exit(int(found.failed > 0))


@contextmanager
def _runner(ray: bool, address: str | None, device: str) -> "Iterator[Runner]":
    """What does the runs: this process, or Ray."""
    from blemish.evaluation.compare.follow import Runner
    from blemish.training.memory import keep_freed_memory

    keep_freed_memory()
    if address is not None and not ray:
        raise SettingsError(f"--address {address}: goes with --ray")
    with ExitStack() as both:
        elsewhere = {}
        if ray:
            from blemish.fleet.runs import ray_runs

            elsewhere["map_runs"] = both.enter_context(ray_runs(address, gpus=float(device == "cuda")))
        yield Runner(device, both.enter_context(progress()), _say_run, **elsewhere)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _taus(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(f"--tau {text}: expected numbers with commas between, e.g. 0.7,0.2,0.1") from None


def _say_run(outcome: Any) -> None:
    run = outcome.run
    what = {"kept": "finished before, kept", "finished": "finished"}.get(outcome.status, f"FAILED: {outcome.error}")
    log_console.print(f"{run.path.relative_to(run.path.parents[2])}: {what}")


def _print_comparison(content: Any) -> None:
    measures = {"found": "image.defect_rate", "at 5 %": "found_at.0.05", "image AUROC": "image.auroc"}
    measures |= {"AUPRO": "pixel.aupro", "oracle F1": "oracle_f1.f1", "ms": "latency_ms"}
    for dataset in content["plan"]["datasets"]:
        rows = [(row, row["scopes"].get("all", {})) for row in content["summary"] if row["dataset"] == dataset]
        shown = {label: name for label, name in measures.items() if any(found.get(name) for _, found in rows)}
        table = new_table("detector", "seeds", "failed", "good flagged", *shown, left=("detector",), title=dataset)
        table.columns[0].no_wrap = True
        for row, found in rows:
            spreads = [(found.get(name), 1 if name == "latency_ms" else 3) for name in shown.values()]
            values = ["-" if part is None else f"{part['mean']:.{digits}f}" for part, digits in spreads]
            table.add_row(
                row["detector"], str(row["seeds"]), str(row["failed"] or ""), _flagged(content["runs"], row), *values
            )
        out_console.print(table)
        counts = [run["count"]["all"] for run in content["runs"] if run["dataset"] == dataset and run["count"]]
        if counts and not any(count["defective"] for count in counts):
            say("note", f"{dataset} has no defective test images: false alarms only")


def _flagged(runs: Any, row: Any) -> str:
    """How many good images a detector flags, over all seeds."""
    same = [run for run in runs if all(run[key] == row[key] for key in ("dataset", "detector"))]
    alarms = [run["false_alarms"] for run in same if run["false_alarms"]]
    return f"{sum(one['flagged'] for one in alarms)} of {sum(one['good_images'] for one in alarms)}" if alarms else "-"
