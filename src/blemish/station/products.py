"""Products, their models and their sources: what engineers set up, each act an entry of the audit trail."""

import os
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.data.product_names import LONGEST_PRODUCT, refused_name
from blemish.errors import ArtifactError, DataError, SettingsError, plural
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.parity import verify
from blemish.inspection.decisions import now
from blemish.station.database import Database
from blemish.station.folder import StationFolder, keep_content, sha256_of
from blemish.station.tables import Model, Product, Source
from blemish.station.trail import append


def add_product(database: Database, actor: str, name: str) -> int:
    """A new product, with a source for uploads.

    Raises:
        SettingsError: the name is empty, too long, taken in any case of letters, or none that a fleet could have.
    """
    name = new_product_name(name)
    with database.write() as session:
        if name.casefold() in {known.casefold() for known in session.scalars(select(Product.name))}:
            raise SettingsError(f"product '{name}': there is one of that name; give another")
        product = Product(name=name, created_at=now())
        session.add(product)
        session.flush()
        session.add(Source(product_id=product.id, kind="upload"))
        append(session, actor, "product", name, {"product_id": product.id})
        return product.id


def new_product_name(name: str) -> str:
    """The name of a new product, as it is kept.

    Raises:
        SettingsError: as `refused_name`: a fleet could not have it either.
    """
    name = name.strip()
    if why := refused_name(name):
        raise SettingsError(f"product '{name[:LONGEST_PRODUCT]}' {why}; give another")
    return name


def add_folder(database: Database, actor: str, product_id: int, path: Path) -> int:
    """Watch a folder for images of a product.

    Raises:
        SettingsError: no such folder here, or it is watched already.
    """
    path = folder_there(path)
    with database.write() as session:
        if session.scalar(select(Source.id).where(Source.kind == "folder", Source.path == str(path))) is not None:
            raise SettingsError(f"{path}: is watched already; give another folder")
        source = Source(product_id=product_id, kind="folder", path=str(path))
        session.add(source)
        session.flush()
        append(session, actor, "source", path, {"product_id": product_id, "source_id": source.id})
        return source.id


def folder_there(path: Path) -> Path:
    """A folder that images are to be written into, as it is kept.

    Raises:
        SettingsError: there is none here.
    """
    found = real_path(path)
    if not os.path.isdir(found):  # noqa: PTH112  # of a name that is too long, too
        raise SettingsError(f"{found}: no such folder on this machine; make it first")
    return found


def real_path(path: Path) -> Path:
    """A path of this machine without `~` and links.

    Raises:
        SettingsError: there is none of that name.
    """
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # nobody's home, a loop of links, a zero in it
        raise SettingsError(f"{str(path)[:200]!r}: no such folder on this machine") from None


def add_model(
    database: Database,
    folder: StationFolder,
    actor: str,
    product_id: int,
    upload: tuple[str, bytes],
    *,
    origin: str = "",
    parity: str | None = None,
) -> Model:
    """Keep an exported model, after it has judged its own fixtures here as it did where it was exported.

    `upload` is its name and its content, `origin` where it comes from if it was made here, `parity` what that gave if
    it was just done. It is not live yet. The same file again is the same model.

    Raises:
        ArtifactError: not an exported model, damaged, or it judges otherwise on this machine.
    """
    name, content = upload
    sha256 = sha256_of(content)
    path = folder.model_path(sha256)
    is_new = not _is_whole(path, sha256)
    if is_new:
        path.unlink(missing_ok=True)
    keep_content(path, content)
    try:
        parity = parity or check_parity(folder, sha256, name)
    except ArtifactError:
        if is_new:
            path.unlink(missing_ok=True)
        raise
    with database.write() as session:
        known = session.scalar(select(Model).where(Model.product_id == product_id, Model.sha256 == sha256))
        if known is not None:
            if not known.header:  # a record told of it
                known.header, known.parity, known.name = header_json(path), parity, name[:255]
            return known
        model = Model(
            product_id=product_id,
            sha256=sha256,
            name=name[:255],
            header=header_json(path),
            parity=parity,
            origin=origin,
            created_at=now(),
            created_by=actor,
        )
        session.add(model)
        session.flush()
        detail = {"model_id": model.id, "sha256": sha256, "parity": parity, "origin": origin}
        append(session, actor, "model", name[:255], detail)
        return model


def check_parity(folder: StationFolder, sha256: str, name: str) -> str:
    """Let a kept model judge its own fixtures on this machine; returns how far it is from what is expected of it.

    Raises:
        ArtifactError: the file is missing, was changed since it came, or judges otherwise here.
    """
    path = folder.model_path(sha256)
    if not _is_whole(path, sha256):
        raise ArtifactError(f"{name}: its file {path} is missing, or was changed since it came; bring the model again")
    try:
        return verified(path)
    except ArtifactError as error:
        raise ArtifactError(str(error).replace(str(path), name)) from None


def _is_whole(path: Path, sha256: str) -> bool:
    """Whether a kept model is there, as it came."""
    return path.is_file() and sha256_of(path.read_bytes()) == sha256


def verified(path: Path) -> str:
    """Let an exported model judge its own fixtures on this machine; returns how far it is from what is expected of it.

    Raises:
        ArtifactError: as `verify`.
    """
    found = verify(path, "cpu")
    return f"{plural(len(found.checks), 'image')}, largest difference {found.worst.difference:.2g} ({found.worst.name})"


def header_json(path: Path) -> str:
    """The header of a model file, to be kept in the database."""
    from blemish.inference.runtime import header_of

    return header_of(path).model_dump_json()


def header_of_model(model: Model) -> ArtifactHeader:
    """The header of a model that was uploaded.

    Raises:
        ArtifactError: it was uploaded to another version, which knows other headers.
    """
    try:
        return ArtifactHeader.model_validate_json(model.header)
    except ValidationError:
        raise ArtifactError(
            f"{model.name}: its header does not fit this version; export the model again, and upload it"
        ) from None


def go_live(database: Database, folder: StationFolder, actor: str, model_id: int, reason: str) -> None:
    """Let a model judge its product from now on, with its own threshold; the one before can be taken back so too.

    Its file is checked first, on this machine as it is today: it is the one that came, and judges its fixtures as
    it should.

    Raises:
        DataError: there is no such model.
        SettingsError: no reason is given.
        ArtifactError: its file does not pass the check; the model before stays live.
    """
    reason = checked_reason(reason)
    with database.read() as session:
        model = session.get(Model, model_id)
    if model is None:
        raise DataError(f"model {model_id}: there is none")
    make_live(database, actor, model_id, reason, check_parity(folder, model.sha256, model.name))


def make_live(database: Database, actor: str, model_id: int, reason: str, parity: str) -> None:
    """Let a model judge that was checked just now, with that outcome.

    Raises:
        DataError: there is no such model.
        SettingsError: no reason is given.
    """
    with database.write() as session:
        model = session.get(Model, model_id)
        if model is None:
            raise DataError(f"model {model_id}: there is none")
        product = product_of(session, model.product_id)
        detail = {"from": product.model_id, "to": model.id, "sha256": model.sha256, "parity": parity}
        detail["reason"] = checked_reason(reason)
        model.parity = parity
        product.model_id, product.threshold = model.id, None
        append(session, actor, "live", product.name, detail)


def product_of(session: Session, product_id: int) -> Product:
    """A product by its number.

    Raises:
        DataError: there is none.
    """
    product = session.get(Product, product_id)
    if product is None:
        raise DataError(f"product {product_id}: there is none")
    return product


def checked_reason(reason: str) -> str:
    """What a person gives as the reason of an act.

    Raises:
        SettingsError: it is empty, or longer than 500 characters.
    """
    reason = reason.strip()
    if not 3 <= len(reason) <= 500:
        raise SettingsError("reason: say in 3 to 500 characters why; it stands in the audit trail")
    return reason


def product_named(database: Database, actor: str, name: str) -> int:
    """The product of that name; a new one where there is none.

    Raises:
        SettingsError: as `add_product`.
    """
    with database.read() as session:
        found = session.scalar(select(Product.id).where(Product.name == name.strip()))
    return add_product(database, actor, name) if found is None else found


def find_product(database: Database, name: str) -> int:
    """The number of the product of that name.

    Raises:
        DataError: there is none.
    """
    with database.read() as session:
        found = session.scalar(select(Product.id).where(Product.name == name.strip()))
    if found is None:
        raise DataError(f"product '{name}': there is none")
    return found


def set_audit_rate(database: Database, actor: str, product_id: int, rate: float, reason: str) -> None:
    """Draw this share of the images to come for the audit lane.

    Raises:
        SettingsError: it is outside [0, 1], or no reason is given.
        DataError: there is no such product.
    """
    if not 0.0 <= rate <= 1.0:
        raise SettingsError(f"audit rate: found {100 * rate:g} %; it must lie between 0 and 100 %")
    with database.write() as session:
        product = product_of(session, product_id)
        detail = {"from": product.audit_rate, "to": rate, "reason": checked_reason(reason)}
        product.audit_rate = rate
        append(session, actor, "audit rate", product.name, detail)


def set_source(database: Database, actor: str, source_id: int, *, is_on: bool) -> None:
    """Watch a folder no more, or again.

    Raises:
        DataError: there is no such source.
    """
    with database.write() as session:
        source = session.get(Source, source_id)
        if source is None:
            raise DataError(f"source {source_id}: there is none")
        source.is_on, source.trouble = is_on, ""
        append(session, actor, "source", source.path or source.kind, {"source_id": source_id, "is_on": is_on})
