"""`blemish data check` and `synth`: images before a model."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from blemish.cli.console import counter, new_table, out_console, progress, say
from blemish.cli.options import SetOption, TableOrJson
from blemish.errors import DataError, SettingsError, join_names


def check(
    data: Annotated[Path, typer.Argument(help="Folder with train/good, or of good images only.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for check.json and check.html.")] = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: SetOption = None,
    form: TableOrJson = "table",
) -> None:
    """Check images before training. Exit code 0: nothing stands out; 1: look at something; 2: an error.

    Finds unreadable and odd files, mixed sizes, duplicates, blur, bad light, and good images that look like a
    defect. Sizes and the region of interest are those of training: --set data.size_px, --set data.roi.
    """
    import json

    from blemish.data.outputs import check_report_folder
    from blemish.evaluation.data_check.content import coverage
    from blemish.evaluation.data_check.data_check import REPORT, RESULTS, check_data, to_content, write_check
    from blemish.training.settings import make_settings

    run = make_settings(None, settings, set_ or [])
    if out is not None:
        check_report_folder(out, RESULTS, REPORT)
    with progress(at_once=True) as report:
        checked = check_data(data, run, report)
    written = write_check(checked, run, out) if out is not None else ()
    content = to_content(checked, run)
    if form == "json":
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
    else:
        _print_findings(checked.findings)
        out_console.print(coverage(content["images"]))
        for path in written:
            out_console.print(f"written: {path}")
    raise typer.Exit(int(checked.must_look))


def synth(
    kind: Annotated[Literal["hazelnuts"], typer.Argument(help="What to draw.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.", show_default=False)],
    good: Annotated[int, typer.Option(help="Good images to train on.")] = 60,
    defects: Annotated[int, typer.Option(help="Test images of each defect type.")] = 10,
    size_px: Annotated[int, typer.Option("--size", help="Side of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Draw hazelnuts, good and defective, in MVTec's layout. Defects are cracks, cuts, holes and prints."""
    from blemish.data.synthetic.dataset import write_hazelnuts

    with progress() as report:
        write_hazelnuts(
            out, good=good, defects=defects, size_px=size_px, seed=seed, on_image=counter(report, "drawing")
        )
    out_console.print(f"{kind} written to {out}")


def list_sets() -> None:
    """List the public data sets that `get` knows, with licences."""
    from blemish.data.catalogue import CATALOGUE

    columns = ("name", "what it is", "licence", "how to get it")
    table = new_table(*columns, left=columns)
    for name, one in CATALOGUE.items():
        table.add_row(name, one.title, one.licence, "fetched" if one.address else "by hand: `data get` says how")
    out_console.print(table)


def get(
    name: Annotated[str, typer.Argument(help="Its name; `blemish data list` has them.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must not exist or be empty.")],
    archive: Annotated[
        Path | None, typer.Option(help="Its archive, where you have it; nothing is fetched then.", show_default=False)
    ] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read its licence and keep to it.")
    ] = False,
) -> None:
    """Get a public data set by name, in MVTec's layout. Fetches it only here, and only when its licence is accepted."""
    from blemish.data.archives import check_archive, download, unpack_dataset
    from blemish.data.catalogue import look_up
    from blemish.data.outputs import check_is_new

    data_set = look_up(name)
    if not accept_licence:
        raise SettingsError(f"{data_set.title}: {data_set.licence} ({data_set.page}); read it, then --accept-licence")
    if archive is None and not data_set.address:
        raise SettingsError(
            f"{name}: no address to fetch it from ({data_set.page}): {data_set.how}; then --archive FILE"
        )
    check_is_new(out)
    fetched = Path(f"{out}.archive")
    with progress() as report:
        if archive is None and not fetched.is_file():
            tell = counter(report, "fetching, MB")
            download(data_set.address, fetched, lambda done, total: tell(done // 10**6, total // 10**6))
        source = archive or fetched
        tell_check = counter(report, "checking, MB")
        try:
            sha256 = check_archive(source, data_set.sha256, lambda done, of: tell_check(done // 10**6, of // 10**6))
        except DataError:
            if archive is None:  # or the same command would never fetch it again
                fetched.unlink()
            raise
        notes: list[str] = []
        folders = unpack_dataset(source, out, data_set, counter(report, "unpacking"), notes.append)
    if archive is None:
        fetched.unlink()
    known = "as known" if data_set.sha256 else "compare it with another copy's: none is known here"
    out_console.print(f"archive: SHA-256 {sha256}, {known}")
    for folder in folders:
        out_console.print(f"written: {folder}")
    for note in notes:
        say("note", note)


def convert(
    source: Annotated[Path, typer.Argument(help="Folder of the data set.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must not exist or be empty.")],
    layout: Annotated[
        str | None,
        typer.Option(
            help="How it is laid out: mvtec, visa, mvtec_3d, dagm, ksdd, ksdd2, real_iad, magnetic_tile, aitex, "
            "deeppcb, ok_nok, segmentation or classes. Default: found out."
        ),
    ] = None,
    test_good: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the good images to test on, where the set has no split.")
    ] = 0.2,
    mask_value: Annotated[
        str | None,
        typer.Option(help="What marks a defective pixel, e.g. 1 or [255,0,0]. Default: every value above 0."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Annotations of the images in SOURCE by another tool: a file, or a folder for YOLO and LabelMe.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="Format of --annotations: coco, yolo, label_studio, cvat or labelme. Default: recognised."
        ),
    ] = None,
) -> None:
    """Copy a data set into MVTec's layout. It may be VisA, DAGM, KolektorSDD (2), Real-IAD, magnetic tiles, AITEX,
    DeepPCB, folders of good parts and of each defect, MVTec LOCO, AD 2, 3D; or images with annotations of COCO, YOLO,
    Label Studio, CVAT or LabelMe, drawn as masks."""
    from blemish.data.convert import convert_annotated, convert_dataset
    from blemish.settings import DataSettings, parse_assignment, validate

    if annotations is None and form is not None:
        raise SettingsError("--format: it is that of --annotations, which is not given")
    if annotations is not None and (layout is not None or mask_value is not None):
        raise SettingsError("--annotations: neither --layout nor --mask-value goes with it")

    given = {} if mask_value is None else parse_assignment(f"mask_value={mask_value}")
    value = validate(DataSettings, given, "data.").mask_value
    notes: list[str] = []
    with progress() as report:
        told = counter(report, "copying")
        if annotations is not None:
            counts = convert_annotated(source, annotations, out, form, test_good, told, notes.append)
        else:
            counts = convert_dataset(source, out, layout, test_good, value, told, notes.append)
    for folder, number in sorted(counts.items()):
        out_console.print(f"{folder}: {number}")
    out_console.print(f"written to {out}")
    for note in notes:
        say("note", note)


def _print_findings(findings: Any) -> None:
    for one in findings:
        severity = "LOOK" if one.severity == "look" else "note"
        where = f"{join_names(one.paths)}: " if one.paths else ""
        out_console.print(f"{severity}  {one.kind}  {where}{one.message}")
    looks = sum(one.severity == "look" for one in findings)
    out_console.print(f"{looks} to look at" if looks else "nothing stands out")
