"""Images that the station has, as what to train, calibrate or challenge a model on."""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from sqlalchemy import and_, exists, select
from sqlalchemy.orm import Session, aliased

from blemish.data.files import make_folder
from blemish.station.drift import alarms_of
from blemish.station.folder import StationFolder
from blemish.station.products import product_of
from blemish.station.tables import Image, Job, Verdict

Own = Literal["waiting", "confirmed"]
"""Which of them: that wait to be judged, or that people confirmed as good in the audit lane."""

NO_IMAGE: Mapping[str, str] = {
    "waiting": "no image waits to be judged; name a folder of good photos instead",
    "confirmed": "no image was confirmed good in the audit lane yet; name a folder of good photos instead",
    "unseen": "the model was fitted on every image confirmed good in the audit lane; name a folder of others",
}

LONGEST_NAME_BYTES = 200
"""Of a file, on any disk."""


def confirmed_good(session: Session, product_id: int, since: str) -> list[Image]:
    """Images of the audit lane that a person called good there, and nobody defective; each content once, as they came.

    Those whose file was removed are none of them; `since` is a time.
    """
    other = aliased(Verdict)
    disputed = exists().where(and_(other.image_id == Image.id, other.judgement == "defective"))
    query = (
        select(Image)
        .join(Verdict, Verdict.image_id == Image.id)
        .where(Image.product_id == product_id, Image.is_audit, Image.removed_at.is_(None))
        .where(Verdict.lane == "audit", Verdict.judgement == "good", Image.received_at >= since, ~disputed)
        .order_by(Image.id)
    )
    return list({image.sha256: image for image in session.scalars(query)}.values())


def own_images(session: Session, product_id: int, which: Own) -> list[Image]:
    """Those to train on, as they came: that wait to be judged, as while no model is live, or that were confirmed good,
    after drift only those that came since.
    """
    if which == "confirmed":
        alarms = alarms_of(session, product_of(session, product_id))
        return confirmed_good(session, product_id, alarms[0].raised_at if alarms else "")
    query = select(Image).join(Job, Job.image_id == Image.id).where(Job.product_id == product_id)
    query = query.where(Image.removed_at.is_(None)).order_by(Image.id)
    return list({image.sha256: image for image in session.scalars(query)}.values())


def put_images(folder: StationFolder, images: list[Image], out: Path) -> dict[str, Image]:
    """Images under the names they came with, in a folder of their own; by these names.

    One that would be hidden, or take another's place, has its number before its name. Those whose file was removed
    meanwhile are left out.
    """
    placed: dict[str, Image] = {}
    make_folder(out)
    for image in images:
        name = PurePosixPath(image.name.replace("\\", "/")).name
        name = name if len(name.encode()) <= LONGEST_NAME_BYTES else image.suffix
        while name.startswith(".") or (out / name).exists():  # a second link to a file may not be written to
            name = f"{image.id}-{name}"
        with suppress(FileNotFoundError):
            _link(folder.image_path(image.sha256, image.suffix), out / name)
            placed[name] = image
    return placed


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
