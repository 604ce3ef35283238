"""The page on which a model is trained: a folder of good photos, and where on them to look."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, final
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Form, Query, Request
from sqlalchemy import select
from starlette.responses import HTMLResponse, Response

from blemish.data.folder import commonest_size, read_folder
from blemish.data.layouts import SUFFIXES
from blemish.data.roi import read_area
from blemish.errors import DataError, SettingsError
from blemish.inference.overlay import encode
from blemish.settings import DataSettings, merge, parse_assignment, shortened, validate
from blemish.station import runs
from blemish.station.access import allow, identity_of
from blemish.station.accounts import Identity
from blemish.station.app import At, Chosen, Number, Station, Text
from blemish.station.kept_images import NO_IMAGE, Own, own_images
from blemish.station.pictures import SIDES_PX, read_photo
from blemish.station.products import product_of, real_path
from blemish.station.queue import queue_length
from blemish.station.render import render
from blemish.station.run_kinds import AREAS, KINDS
from blemish.station.sign_in import see_other
from blemish.station.tables import Source

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

MOST_SHOWN = 100
"""So many photos of a folder, evenly among them, are there to draw on."""

Asked = Annotated[str, Query(max_length=100_000)]
OwnOrNone = Own | Literal[""]


@final
class _Photo(NamedTuple):
    """A photo to draw on, and its address on these pages."""

    name: str
    size_px: tuple[int, int]
    at: str


@router.get("/train")
@allow("engineer")
def train_page(
    request: Request,
    station: At,
    product: Chosen = None,
    path: Asked = "",
    images: OwnOrNone = "",
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
        own = {"waiting": queue_length(session, found.id), "confirmed": len(own_images(session, found.id, "confirmed"))}
    folder = allowed_folder(station, identity_of(request), path) if path.strip() and not images else None
    photos = _good_photos(station, found.id, folder, images) if folder or images else []
    of_size = [one for one in photos if one.size_px == photos[0].size_px]
    shown = np.unique(np.linspace(0, len(of_size) - 1, min(len(of_size), MOST_SHOWN)).astype(int))
    asked = {"name": name, "detector": detector, "skip_bad": skip_bad, "roi": roi, "ignore": ignore}
    return render(
        request,
        "train.html.j2",
        product=found,
        watched=watched,
        folder=folder,
        images=images,
        own=own,
        photos=[of_size[place] for place in shown],
        of_size=len(of_size),
        others=len(photos) - len(of_size),
        shown_px=SIDES_PX["full"],
        asked=asked,
        missing=KINDS["train"].missing,
    )


def _good_photos(station: Station, product_id: int, folder: Path | None, images: OwnOrNone) -> list[_Photo]:
    """Those of a folder, or of the station, that can be read, first those of the size that most have: that is what
    `data.roi` counts in.

    Raises:
        DataError: there are none.
    """
    readable: list[_Photo] = []
    if folder is not None:
        for sample in read_folder(folder).train:
            with suppress(DataError):  # training says so, or leaves it out
                at = f"/train/photo.jpg?{urlencode({'path': sample.path})}"
                readable.append(_Photo(sample.name, sample.size_px(DataSettings().max_image_px), at))
    elif images:
        with station.database.read() as session:
            for image in own_images(session, product_id, images):
                if image.height_px and image.width_px:
                    at = f"/images/{image.id}/photo.jpg"
                    readable.append(_Photo(image.name, (image.height_px, image.width_px), at))
    if not readable:
        raise DataError(NO_IMAGE[images] if images else f"{folder}: no good images to fit; put them in train/good")
    size_px = commonest_size(photo.size_px for photo in readable)
    return sorted(readable, key=lambda photo: photo.size_px != size_px)


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
    path: Text = "",
    images: Annotated[OwnOrNone, Form()] = "",
    detector: Text = "",
    skip_bad: Annotated[bool, Form()] = False,
    roi: Text = "",
    ignore: Text = "",
) -> Response:
    """Train a model on a folder of this machine, or on images that the station has."""
    name = name.strip()
    if not 0 < len(name) <= 80 or not name.isprintable() or "/" in name:
        raise SettingsError("name: give the model a name of 1 to 80 characters")
    folder = None if images else allowed_folder(station, identity_of(request), path)
    areas = {"roi": roi.strip(), "ignore": ignore.strip()}
    _check_areas(areas, lambda: _good_photos(station, product_id, folder, images)[0].size_px)
    asked = {
        "path": str(folder or ""),
        "images": images,
        "name": name,
        "detector": detector.strip(),
        "skip_bad": skip_bad,
        **areas,
    }
    return begin_run(request, station, product_id, "train", asked)


def _check_areas(areas: Mapping[str, str], size_px: Callable[[], tuple[int, int]]) -> None:
    """Refuse what training would refuse, and masks: of other files than the folder's nothing is told here.

    Raises:
        SettingsError: of a region.
        DataError: there is no photo to compare it with.
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
            read_area(f"data.{name}", area, size_px())


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
