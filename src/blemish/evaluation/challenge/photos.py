"""The good photos that a challenge puts defects on: which are fit for it, and how large defects may be on them."""

from collections.abc import Sequence
from typing import NamedTuple, final

from blemish.data.folder import Folder, Sample
from blemish.data.images import PixelPolicy, load_image, read_values
from blemish.data.pixels import pixels_id
from blemish.errors import BadFileError, DataError, SettingsError, plural
from blemish.evaluation.challenge.notes import FEW_PHOTOS
from blemish.inference.artifact import made_with
from blemish.inference.predictor import Prediction, Predictor

MIN_PHOTOS = 5

_SMALLEST_SHARE, _LARGEST_SHARE = 0.01, 0.2


@final
class Photos(NamedTuple):
    """The photos of a challenge, as files and as the model judges them without a defect; and why others are none."""

    samples: list[Sample]
    twins: list[Prediction]
    skipped: dict[str, str]


def refuse_fitted(predictor: Predictor, photos: Sequence[Sample]) -> None:
    """Refuse photos that the model was fitted on.

    Raises:
        DataError: naming one of them.
    """
    known = made_with(predictor.header, {photo.name: photo for photo in photos if photo.path.is_file()})
    _refuse([name for name, part in known.items() if part == "fitted"])


def _refuse(fitted: Sequence[str]) -> None:
    if fitted:
        raise DataError(
            f"{fitted[0]}: the model was fitted on it{f' and {len(fitted) - 1} more' if len(fitted) > 1 else ''}; what "
            "it finds on photos it knows says little: give good photos that it has not seen"
        )


def held_out(folder: Folder) -> Sequence[Sample]:
    """The good photos of a flat folder, or those of `test/good`.

    Raises:
        DataError: they are fewer than `MIN_PHOTOS`.
    """
    good = folder.train if folder.is_flat else [sample for sample in folder.test if not sample.label]
    if len(good) < MIN_PHOTOS:
        where = folder.root if folder.is_flat else folder.root / "test" / "good"
        raise DataError(
            f"{where}: {plural(len(good), 'good photo')} found, at least {MIN_PHOTOS} are needed, better {FEW_PHOTOS}; "
            "give photos of good parts that the model was not fitted on"
        )
    return good


def judge_photos(predictor: Predictor, good: Sequence[Sample], skip_bad: bool) -> Photos:
    """Judge the photos as they are.

    Raises:
        DataError: one cannot be read (unless `skip_bad`), or was fitted on; or fewer than `MIN_PHOTOS` are left.
    """
    photos, fitted = Photos([], [], {}), []
    for sample in good:
        try:
            values = read_values(sample.path, predictor.policy)
            photos.twins.append(predictor.predict(values))
            photos.samples.append(sample)
            if pixels_id(load_image(values, predictor.policy)) in predictor.header.data_card.fit_pixel_ids:
                fitted.append(sample.name)  # the same pixels in another file
        except DataError as error:
            reason = str(error).replace("image array", str(sample.path), 1)  # from the file the array came
            if not skip_bad:
                raise BadFileError(reason) from None
            photos.skipped[sample.name] = reason
    _refuse(fitted)
    if len(photos.samples) < MIN_PHOTOS:
        raise DataError(f"good photos: only {len(photos.samples)} of {len(good)} can be read; {MIN_PHOTOS} are needed")
    return photos


def sizes_to_try(
    policy: PixelPolicy, twins: Sequence[Prediction], smallest_px: float | None, largest_px: float | None
) -> tuple[float, float]:
    """From which to which extent defects are put, in pixels of the photos; without a limit, by their shorter side.

    Raises:
        DataError: the photos are too small for any.
        SettingsError: limits that are the wrong way round, or wider than a photo.
    """
    shorter = min(round(min(policy.seen_px(twin.image_size_px))) for twin in twins)
    smallest = smallest_px or max(3.0, _SMALLEST_SHARE * shorter)
    largest = largest_px or _LARGEST_SHARE * shorter
    if smallest >= largest and smallest_px is None and largest_px is None:
        raise DataError(f"the photos' shorter side is {shorter} px: too few for defects from {smallest:g} px on")
    if smallest >= largest:
        raise SettingsError(
            f"sizes from {smallest:g} to {largest:g} px: the smallest must be below the largest; "
            f"the photos' shorter side is {shorter} px"
        )
    if largest > shorter:
        raise SettingsError(
            f"sizes up to {largest:g} px: the photos' shorter side is {shorter} px, and no defect larger than that fits"
        )
    return smallest, largest
