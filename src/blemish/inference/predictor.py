"""Predictor: the one inference path. Everything that scores an image goes through here."""

import math
import os
import pickle
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.decode import ImageLike, name_of
from blemish.data.images import PixelPolicy, Prepared, prepare, read_original
from blemish.data.tiles import join_tiles
from blemish.errors import ArtifactError, DataError, SettingsError, WithdrawnWarning
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.defect_regions import Region, find_regions
from blemish.inference.ending import held_up
from blemish.inference.forking import not_forked
from blemish.inference.monitor_state import Alarm, WithdrawalCheck, default_state_path, withdrawn_message
from blemish.inference.overlay import draw_at_full_size
from blemish.inference.runtime import OnnxRuntime, Runtime, check_maps, open_model
from blemish.inference.score import max_score, remove_small_regions, resize_map
from blemish.inference.trust import Trust
from blemish.settings import ScoreSettings, as_path, is_path
from blemish.stats.conformal import rounded_up


@final
@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one image.

    `score` is the maximum of `scored_map`, the anomaly map at the model's own size; `is_anomalous` means
    `score > threshold`. `p_value` is the share of good images (this one counted in) that score at least as high; where
    the promise is one on average, anomalous means at most its false-alarm rate. `path` is None for an image that came
    from no file.
    """

    path: str | None
    score: float
    p_value: float
    threshold: float
    scored_map: NDArray[np.float32] = field(repr=False)
    """`(h, w)` of the photo, at the size of the pixels that the network sees."""
    image_size_px: tuple[int, int]
    latency_ms: float

    @property
    def is_anomalous(self) -> bool:
        """Whether at least one pixel lies above the threshold."""
        return self.score > self.threshold

    def is_doubtful(self, doubt_rate: float) -> bool:
        """Whether it passes, but at most this share of good images scores as high: somebody should look at it.

        Raises:
            SettingsError: no number from 0 to 1.
        """
        if not (isinstance(doubt_rate, Real) and 0.0 <= doubt_rate <= 1.0):
            raise SettingsError(f"doubt_rate: {doubt_rate!r} is not a number from 0 to 1")
        return not self.is_anomalous and self.p_value <= doubt_rate

    @cached_property
    def anomaly_map(self) -> NDArray[np.float32]:
        """The map at the image's own size `(height, width)`; its maximum is the score."""
        return resize_map(self.scored_map, self.image_size_px)

    @cached_property
    def regions(self) -> list[Region]:
        """The connected regions of `defect_mask` in the photo's own pixels, the one with the highest peak first."""
        return find_regions(self.scored_map, self.threshold, self.image_size_px)

    @cached_property
    def defect_mask(self) -> NDArray[np.bool_]:
        """The defective pixels at the image's own size: `anomaly_map > threshold`."""
        return self.anomaly_map > np.float64(self.threshold)  # in double precision, as the score is compared


class ModelSource(NamedTuple):
    """Where a predictor was loaded from, and how."""

    path: Path
    device: str
    threads: int | None
    state: Path
    """The file of `blemish monitor` that can withdraw the certificate."""
    sha256: str
    """Of the model file."""


@final
class Predictor:
    """A trained model that judges images.

    `threshold` may be moved with `with_threshold` or `with_false_alarm_rate`; the network is shared, not copied.

    ```
    predictor = Predictor.load("model.safetensors")
    prediction = predictor.predict("photo.png")
    prediction.score, prediction.is_anomalous, prediction.defect_mask
    ```
    """

    def __init__(
        self,
        header: ArtifactHeader,
        runtime: Runtime | tuple[Runtime, ...],
        threshold: float | None = None,
        source: ModelSource | None = None,
    ) -> None:
        self.header = header
        self.threshold = header.threshold if threshold is None else threshold
        self.source = source
        self._runtimes = runtime if isinstance(runtime, tuple) else (runtime,)
        self._check = None if source is None else WithdrawalCheck(header, source.state)
        self._told: Alarm | str | None = None

    @classmethod
    def load(
        cls,
        path: Path | str,
        device: str = "auto",
        threads: int | None = None,
        *,
        state: Path | str | None = None,
        sha256: str | None = None,
        signed_by: Path | str | None = None,
    ) -> Self:
        """The model in a file, trained or exported to ONNX.

        `threads` work on one image, None: one a core; torch's own setting is left as it is. `state` is the file of
        `blemish monitor`, None: beside the model. `sha256` or a signature `signed_by` a public key tell the file from
        others; see docs/explain/security.md.

        Raises:
            ArtifactError: missing, foreign, truncated, tampered with, of a newer format, or not the file asked for.
            SettingsError: a device this machine does not have; no such hash or key; fewer than one thread; no path.
        """
        if threads is not None and not (isinstance(threads, Integral) and threads >= 1):
            raise SettingsError(f"threads: {threads!r}; give 1 or more, or None for one a core")
        path = as_path(path, "path")
        trust = Trust(sha256, None if signed_by is None else as_path(signed_by, "signed_by"))
        with held_up():
            header, runtimes, found = open_model(path, device, threads, trust)
        beside = default_state_path(path) if state is None else as_path(state, "state")
        return cls(header, runtimes, source=ModelSource(path.absolute(), device, threads, beside.absolute(), found))

    def __repr__(self) -> str:
        where = "" if self.source is None else f", from {self.source.path.name}"
        return f"<Predictor of {self.header.detector}, threshold {self.threshold:.6g}{where}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by the path of the model file, which must be the same where it is unpickled.

        Raises:
            PicklingError: it was made from no file.
        """
        if self.source is None:
            raise pickle.PicklingError("this Predictor was loaded from no file, so it cannot be pickled by its path")
        return _load_again, (self.source, self.threshold)

    @property
    def withdrawal(self) -> Alarm | None:
        """The alarm of `blemish monitor` that withdrew the certificate; None while it stands.

        Looked up again whenever the file of the watch has changed. None for a model that was loaded from no file.

        Raises:
            DataError: the file of the watch cannot be read.
        """
        alarm = None if self._check is None else self._check.alarm()
        self._told = alarm or self._told  # who asks need not be warned
        return alarm

    def with_threshold(self, threshold: float) -> "Predictor":
        """The same model with a threshold of your own.

        Raises:
            SettingsError: not a finite number, or below 0 (maps are never below 0).
        """
        if not (isinstance(threshold, Real) and math.isfinite(threshold) and threshold >= 0.0):
            raise SettingsError(f"threshold: {threshold!r} is not a finite number >= 0")
        return Predictor(self.header, self._runtimes, threshold, self.source)

    def with_false_alarm_rate(self, max_false_alarm_rate: float, confidence: float | None = None) -> "Predictor":
        """The same model with the threshold that this false-alarm rate asks for, on average or with a confidence.

        Raises:
            SettingsError: a rate or a confidence that is no number in (0, 1).
            CalibrationError: the model was calibrated on too few good images for it.
        """
        asked = {"max_false_alarm_rate": max_false_alarm_rate}
        for name, share in (asked if confidence is None else {**asked, "confidence": confidence}).items():
            if not (isinstance(share, Real) and 0.0 < share < 1.0):
                raise SettingsError(f"{name}: {share!r} is not a number between 0 and 1")
        return self.with_threshold(self.header.certify(max_false_alarm_rate, confidence).threshold)

    def check_doubt_rate(self, doubt_rate: float) -> None:
        """Refuse a rate for `Prediction.is_doubtful` at which nothing could be doubtful.

        Raises:
            SettingsError: it is no number in (0, 1), or smaller than the p-value of all that passes.
        """
        if not (isinstance(doubt_rate, Real) and 0.0 < doubt_rate < 1.0):
            raise SettingsError(f"doubt_rate: {doubt_rate!r} is not a number between 0 and 1")
        least = self.header.least_doubt_rate(self.threshold)
        if doubt_rate < least:
            what = f"be doubtful below {rounded_up(least):g}: give at least that"
            if rounded_up(least) >= 1.0:  # no number below 1 in three digits is enough
                few = "no" if least >= 1.0 else "hardly a"
                what = f"be doubtful: {few} calibration score of a good image lies below it; give a higher threshold"
            raise SettingsError(
                f"doubt_rate: found {doubt_rate:g}; nothing that passes at threshold {self.threshold:.6g} would {what}"
            )

    @property
    def takes_several(self) -> bool:
        """Whether several threads may judge with it at the same time: exported to ONNX, on a processor."""
        return all(isinstance(one, OnnxRuntime) and one.takes_several for one in self._runtimes)

    @property
    def policy(self) -> PixelPolicy:
        """How images become what the network sees."""
        return self.header.policy

    def predict(self, image: ImageLike) -> Prediction:
        """Judge a file, a Pillow image or an array of one: (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4), of uint8,
        uint16, bool, or floats in [0, 1].

        An image of one value everywhere, such as a dead camera's, is judged here; the commands refuse it.

        Raises:
            DataError: it cannot be read, or its aspect is not the model's.
        """
        started = time.perf_counter()
        self.warn_if_withdrawn()
        return self.predict_prepared(prepare(image, self.policy), image, started)

    def predict_prepared(
        self, prepared: Prepared, image: ImageLike | None = None, started: float | None = None
    ) -> Prediction:
        """Judge an image that was prepared by this model's `policy`; `started` is when, by `time.perf_counter`.

        `image` is what `predict` takes, such as an array (h, w, 3); only its name is used.

        Raises:
            ArtifactError: what the network gives is not a number.
        """
        started = time.perf_counter() if started is None else started
        maps = (scored_map(runtime, prepared, self.header.run.score) for runtime in self._runtimes)
        scored = min(maps, key=max_score)  # of several detectors the mildest; their certificate is about its score
        score = max_score(scored)
        if not (math.isfinite(score) and math.isfinite(float(scored.min()))):
            where = "an image" if image is None else name_of(image)
            raise ArtifactError(f"{where}: the model gives no number for it; it is damaged, or its training went wrong")
        elapsed_ms = (time.perf_counter() - started) * 1000.0
        return Prediction(
            path=os.fspath(image) if is_path(image) else None,
            score=score,
            p_value=self.p_value(score),
            threshold=self.threshold,
            scored_map=self.policy.whole_map(scored),
            image_size_px=prepared.image_size_px,
            latency_ms=elapsed_ms,
        )

    def warn_if_withdrawn(self) -> None:
        """Warn of a withdrawn certificate, or of a watch that cannot be read, once each."""
        if self._check is None:
            return
        told: Alarm | str | None
        try:
            told = self._check.alarm()
            message = None if told is None else withdrawn_message(told)
        except DataError as error:
            told = message = str(error)
        if message is not None and told != self._told:
            self._told = told
            warnings.warn(message, WithdrawnWarning, stacklevel=3)

    def predict_many(self, images: Iterable[ImageLike]) -> Iterator[Prediction]:
        """Judge one image after the other, files or arrays (h, w, 3) as for `predict`.

        The answers do not depend on what else is asked.

        Raises:
            DataError: at the first image that cannot be read; one image alone, which `predict` takes; nothing of which
                there are several.
        """
        is_one_array = isinstance(images, np.ndarray) and (images.ndim < 3 or images.shape[2:] in ((1,), (3,), (4,)))
        if is_path(images) or isinstance(images, Image.Image) or is_one_array:
            raise DataError("predict_many: one image, where several belong; put it into a list, or use predict")
        if isinstance(images, bytes) or not isinstance(images, Iterable):
            raise DataError(f"predict_many: found {type(images).__name__}; give a list of files or of images")
        for image in images:
            yield self.predict(image)

    def draw(self, image: ImageLike, prediction: Prediction | None = None) -> Image.Image:
        """The picture that `blemish inspect` writes: the image in grey under its heat map, a line around every defect.

        `image` is what `predict` takes, such as an array (h, w, 3). Drawn at its own size, upright, in 8-bit RGB.
        Without its prediction it is judged first.

        Raises:
            DataError: as for `predict`; a prediction of an image of another size, or something else in its place.
        """
        prediction = self.predict(image) if prediction is None else prediction
        if not isinstance(prediction, Prediction):
            raise DataError(f"prediction: found {type(prediction).__name__}; give what `predict` has answered, or None")
        original = read_original(image, self.policy.max_image_px, self.policy.white_level)
        if (original.height, original.width) != prediction.image_size_px:
            found, other = f"{original.height} x {original.width}", "{} x {}".format(*prediction.image_size_px)
            raise DataError(f"{name_of(image)}: {found} (height x width); the prediction is of an image of {other}")
        picture, _ = draw_at_full_size(np.asarray(original), prediction.scored_map, prediction.threshold)
        return Image.fromarray(picture)

    def reconstruct(self, image: ImageLike) -> NDArray[np.float32] | None:
        """How the image would look if it were good, `(c, h, w)` in [0, 1]; None where the detector shows no image.

        Of what is seen of the image, without padding. None also for images judged in tiles. Of several detectors the
        first is asked.
        """
        if self.policy.tile_px is not None:
            return None
        prepared = prepare(image, self.policy)
        with held_up():
            answer = self._runtimes[0].reconstruct(prepared.pixels()[None])
        top, left, bottom, right = prepared.box
        return None if answer is None else answer[0, :, top:bottom, left:right]

    def p_value(self, score: float) -> float:
        """(1 + the number of calibration scores at least as high) / (1 + their number); other with folds."""
        return self.header.p_value(score)


def _load_again(source: ModelSource, threshold: float) -> Predictor:
    """What a pickle holds; the file must still be the same."""
    found = Predictor.load(source.path, source.device, source.threads, state=source.state, sha256=source.sha256)
    return found.with_threshold(threshold)


def scored_map(runtime: Runtime, prepared: Prepared, settings: ScoreSettings) -> NDArray[np.float32]:
    """The map `(h, w)` that an image is scored on: 0 outside the region of interest, opened to the minimum defect size.

    Without padding, so that it has the aspect of what is seen of the image; see `PixelPolicy.whole_map`.

    One image, or one tile of it, at a time: a network may round differently in a larger batch, and the same image
    must always get the same score, bit for bit on one machine.
    """
    policy = prepared.policy
    if policy.tiles is None:
        anomaly_map = _run(runtime, prepared.pixels())
    else:
        anomaly_map = join_tiles(
            policy.size_px, policy.tiles, policy.tile_overlap_px, lambda box: _run(runtime, prepared.pixels(box))
        )
    if policy.roi is not None:
        anomaly_map = anomaly_map * policy.roi
    top, left, bottom, right = prepared.box
    anomaly_map = np.ascontiguousarray(anomaly_map[top:bottom, left:right])
    return remove_small_regions(anomaly_map, settings.min_defect_px)


def _run(runtime: Runtime, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The anomaly map `(h, w)` of an image `(c, h, w)`.

    Raises:
        ArtifactError: the network gives something else.
    """
    images = pixels[None]
    with held_up(), not_forked():
        maps = runtime.maps(images)
    check_maps(maps, images)
    answer: NDArray[np.float32] = maps[0]
    return answer
