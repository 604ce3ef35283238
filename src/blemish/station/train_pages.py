"""The page on which a model is trained: a folder of good photos, and where on them to look."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Form, Query, Request
from sqlalchemy import select
from starlette.responses import HTMLResponse, Response

from blemish.data.folder import Sample, commonest_size, read_folder
from blemish.data.image_files import SUFFIXES
from blemish.data.roi import read_area
from blemish.errors import DataError, SettingsError
from blemish.inference.overlay import encode
from blemish.settings import DataSettings, merge, parse_assignment, shortened, validate
from blemish.station import runs
from blemish.station.access import allow, identity_of
from blemish.station.accounts import Identity
from blemish.station.app import At, Chosen, Number, Station, Text
from blemish.station.pictures import SIDES_PX, read_photo
from blemish.station.products import product_of, real_path
from blemish.station.render import render
from blemish.station.run_kinds import AREAS, KINDS
from blemish.station.sign_in import see_other
from blemish.station.tables import Source

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

MOST_SHOWN = 100
"""So many photos of a folder, evenly among them, are there to draw on."""

Asked = Annotated[str, Query(max_length=100_000)]


@router.get("/train")
@allow("engineer")
def train_page(
    request: Request,
    station: At,
    product: Chosen = None,
    path: Asked = "",
    name: Asked = "",
    detector: Asked = "",
    skip_bad: bool = False,
    roi: Asked = "",
    ignore: Asked = "",
) -> Response:
    """What a model is to be trained on, and where on the photos to look."""
    with station.database.read() as session:
        found = product_of(session, product or 0)
        watched = session.scalars(select(Source.path).where(Source.kind == "folder").order_by(Source.path)).all()
    folder = allowed_folder(station, identity_of(request), path) if path.strip() else None
    photos = [] if folder is None else _good_photos(folder)
    of_size = [one for one in photos if one.header.size_px == photos[0].header.size_px]
    shown = np.unique(np.linspace(0, len(of_size) - 1, min(len(of_size), MOST_SHOWN)).astype(int))
    asked = {"name": name, "detector": detector, "skip_bad": skip_bad, "roi": roi, "ignore": ignore}
    return render(
        request,
        "train.html.j2",
        product=found,
        watched=watched,
        folder=folder,
        photos=[of_size[place] for place in shown],
        of_size=len(of_size),
        others=len(photos) - len(of_size),
        shown_px=SIDES_PX["full"],
        asked=asked,
        missing=KINDS["train"].missing,
    )


def _good_photos(folder: Path) -> list[Sample]:
    """Those that can be read, first those of the size that most have: that is what `data.roi` counts in.

    Raises:
        DataError: there are none.
    """
    readable, most_px = [], DataSettings().max_image_px
    for sample in read_folder(folder).train:
        with suppress(DataError):  # training says so, or leaves it out
            sample.size_px(most_px)
            readable.append(sample)
    if not readable:
        raise DataError(f"{folder}: no good images to fit; put them in train/good")
    size_px = commonest_size(readable, most_px)
    return sorted(readable, key=lambda sample: sample.header.size_px != size_px)


@router.get("/train/photo.jpg")
@allow("engineer")
def photo(request: Request, station: At, path: Asked) -> Response:
    """A photo to draw on, of a folder that the person may train on."""
    file = _allowed(station, identity_of(request), path)
    if file.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"{path[:200]}: ends with '{file.suffix}'; expected one of {', '.join(sorted(SUFFIXES))}")
    return Response(encode(np.asarray(read_photo(file, file.name, "full")), "JPEG"), media_type="image/jpeg")


@router.post("/products/train")
@allow("engineer")
def train(
    request: Request,
    station: At,
    product_id: Number,
    name: Text,
    path: Text,
    detector: Text = "",
    skip_bad: Annotated[bool, Form()] = False,
    roi: Text = "",
    ignore: Text = "",
) -> Response:
    """Train a model on a folder of this machine."""
    name = name.strip()
    if not 0 < len(name) <= 80 or not name.isprintable() or "/" in name:
        raise SettingsError("name: give the model a name of 1 to 80 characters")
    folder = allowed_folder(station, identity_of(request), path)
    areas = {"roi": roi.strip(), "ignore": ignore.strip()}
    _check_areas(areas, folder)
    asked = {"path": str(folder), "name": name, "detector": detector.strip(), "skip_bad": skip_bad, **areas}
    return begin_run(request, station, product_id, "train", asked)


def _check_areas(areas: Mapping[str, str], folder: Path) -> None:
    """Refuse what training would refuse, and masks: of other files than the folder's nothing is told here.

    Raises:
        SettingsError: of a region.
        DataError: there is no photo in the folder to compare it with.
    """
    for name, text in areas.items():
        if text and not text.startswith("[") and (name, text) != ("roi", "auto"):
            raise SettingsError(
                f"data.{name}: found {shortened(text)}; draw it on a photo, or give numbers in brackets"
            )
    given = merge(*(parse_assignment(f"{name}={text}") for name, text in areas.items() if text))
    data = validate(DataSettings, given, "data.")
    for name in AREAS:
        if isinstance(area := getattr(data, name), tuple):
            read_area(f"data.{name}", area, _good_photos(folder)[0].header.size_px)


def begin_run(request: Request, station: Station, product_id: int, kind: str, asked: dict[str, Any]) -> Response:
    """Begin a run, and show how it stands."""
    who = identity_of(request).name
    run_id = runs.begin(station.database, station.folder, who, product_id, kind, asked)
    return see_other(f"/runs/{run_id}")


def allowed_folder(station: Station, who: Identity, path: str) -> Path:
    """A folder of this machine that a person may have looked at.

    Raises:
        SettingsError: another one, or none.
    """
    folder = _allowed(station, who, path)
    if not path.strip() or not os.path.isdir(folder):  # noqa: PTH112  # of a name that is too long, too
        raise SettingsError(f"{path[:200]}: no such folder on this machine")
    return folder


def _allowed(station: Station, who: Identity, path: str) -> Path:
    """What a person may have looked at: administrators anything, others what lies in the folders of the sources.

    Raises:
        SettingsError: something else.
    """
    real = real_path(Path(path.strip()))
    with station.database.read() as session:
        watched = [Path(one) for one in session.scalars(select(Source.path).where(Source.kind == "folder"))]
    if not who.may("administrator") and not any(real.is_relative_to(one) for one in watched):
        raise SettingsError(f"{path[:200]}: no source watches it; an administrator may name any folder, others these")
    return real
