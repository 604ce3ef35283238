"""The one inference path: score, threshold, p-value and mask agree with each other."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from blemish.data.folder import read_folder
from blemish.errors import CalibrationError, DataError, SettingsError
from blemish.inference.predictor import Prediction, Predictor
from blemish.inference.score import max_score, remove_small_regions, resize_map
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import photo
from reference.command import run


@pytest.fixture(scope="module")
def predictor(model_file: Path) -> Predictor:
    return Predictor.load(model_file)


def test_score_map_and_mask_agree_at_every_size(predictor: Predictor) -> None:
    for size in ((64, 64), (200, 130), (40, 31)):
        prediction = predictor.predict(np.random.default_rng(1).random((*size, 3)))
        assert prediction.anomaly_map.shape == prediction.defect_mask.shape == size
        assert prediction.score == prediction.scored_map.max() == prediction.anomaly_map.max()
        assert prediction.is_anomalous == prediction.defect_mask.any() == (prediction.score > prediction.threshold)


def test_verdict_mask_and_regions_are_of_one_mind_where_a_threshold_is_no_number_of_32_bits() -> None:
    """0.1 in 32 bits is a little above 0.1."""
    scored = np.full((2, 3), 0.1, np.float32)
    prediction = Prediction(None, max_score(scored), 1.0, 0.1, scored, image_size_px=(2, 3), latency_ms=0.0)
    assert prediction.is_anomalous
    assert prediction.defect_mask.all()
    assert [region.area_px for region in prediction.regions] == [6]


def test_every_kind_of_image_gives_the_same_score(predictor: Predictor, shared_parts: Path) -> None:
    path = shared_parts / "test/bar/000.png"
    picture = Image.open(path)
    scores = {predictor.predict(image).score for image in (path, str(path), picture, np.asarray(picture))}
    picture.close()
    assert len(scores) == 1


def test_one_image_where_several_belong_is_refused(predictor: Predictor, shared_parts: Path) -> None:
    path = shared_parts / "test/bar/000.png"
    with Image.open(path) as picture:
        array = np.asarray(picture.convert("RGB"))
    for one in (str(path), path, picture, array, array[..., 0]):
        with pytest.raises(DataError, match="one image, where several belong"):
            next(predictor.predict_many(one))
    assert len({prediction.score for prediction in predictor.predict_many(np.stack([array, array]))}) == 1


def test_what_is_no_image_prediction_or_rate_is_named(predictor: Predictor) -> None:
    image: Any = np.zeros((64, 64), np.uint8)
    for none, kind in ((None, "NoneType"), (3, "int"), (b"png", "bytes")):
        with pytest.raises(DataError, match=f"predict_many: found {kind}; give a list"):
            next(predictor.predict_many(none))  # type: ignore[arg-type]
        if none is not None:
            with pytest.raises(DataError, match=f"prediction: found {kind}; give what `predict` has answered"):
                predictor.draw(image, none)  # type: ignore[arg-type]
    for rate in (None, "0.2", float("nan"), 20, -0.1):
        with pytest.raises(SettingsError, match=r"doubt_rate: .* is not a number from 0 to 1"):
            predictor.predict(image).is_doubtful(rate)  # type: ignore[arg-type]


def test_what_says_of_itself_that_it_is_a_path_is_one(predictor: Predictor, tmp_path: Path) -> None:
    made = photo(tmp_path / "a.png")
    [entry] = os.scandir(tmp_path)
    [in_bytes] = os.scandir(bytes(tmp_path))
    assert predictor.predict(entry).path == predictor.predict(made).path == str(made)
    with pytest.raises(DataError, match="one image, where several belong"):
        next(predictor.predict_many(entry))
    with pytest.raises(DataError, match=r"a\.png: 64 x 64 .* the prediction is of an image of 20 x 30"):
        predictor.draw(entry, predictor.predict(np.zeros((20, 30), np.uint8)))
    with pytest.raises(DataError, match="an image of type DirEntry; expected a file"):
        predictor.predict(in_bytes)  # type: ignore[arg-type]


def test_a_predictor_and_a_prediction_are_shown_in_a_line(predictor: Predictor) -> None:
    of, threshold, source = predictor.header.detector, f"{predictor.threshold:.6g}", predictor.source
    assert source is not None
    assert repr(predictor) == f"<Predictor of {of}, threshold {threshold}, from {source.path.name}>"
    shown = repr(predictor.predict(np.random.default_rng(1).random((64, 64, 3))))
    assert shown.startswith("Prediction(path=None, score=")
    assert "array" not in shown


@pytest.mark.parametrize("given", [None, 7, b"m.safetensors"])
def test_what_is_no_path_is_refused(given: Any, tmp_path: Path) -> None:
    message = f"found {re.escape(repr(given))}; give a path, as text or as a pathlib.Path"
    with pytest.raises(SettingsError, match=f"path: {message}"):
        Predictor.load(given)
    with pytest.raises(SettingsError, match=f"root: {message}"):
        read_folder(given)
    for name, paths in (("data", (given, tmp_path)), ("out", (tmp_path, given))):
        with pytest.raises(SettingsError, match=f"{name}: {message}"):
            train_model(*paths, make_settings())


@pytest.mark.parametrize("threads", [0, 2.5, "2"])
def test_what_is_no_number_of_threads_is_refused(threads: object, model_file: Path) -> None:
    with pytest.raises(SettingsError, match=f"threads: {threads!r}; give 1 or more"):
        Predictor.load(model_file, threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", [None, b"photo.png", [[0.5]], 3])
def test_what_is_no_image_is_named(predictor: Predictor, image: object) -> None:
    with pytest.raises(DataError, match=r"an image of type \w+; expected a file, a Pillow image or a numpy array"):
        predictor.predict(image)  # type: ignore[arg-type]


def test_p_values_match_the_threshold(predictor: Predictor, shared_parts: Path) -> None:
    alpha = predictor.header.max_false_alarm_rate
    for sample in read_folder(shared_parts).test:
        prediction = predictor.predict(sample.path)
        assert prediction.is_anomalous == (prediction.p_value <= alpha)
        assert 0.0 < prediction.p_value <= 1.0


def test_the_threshold_can_be_moved(predictor: Predictor) -> None:
    image = np.zeros((64, 64), np.uint8)
    score = predictor.predict(image).score
    assert predictor.with_threshold(score * 0.99).predict(image).is_anomalous
    assert not predictor.with_threshold(score).predict(image).is_anomalous
    scores = sorted(predictor.header.calibration_scores)
    assert predictor.with_false_alarm_rate(0.7).threshold == scores[0]


def test_thresholds_that_mean_nothing_are_refused(predictor: Predictor) -> None:
    for threshold in (float("nan"), float("inf"), -0.1, "0.2", None):
        with pytest.raises(SettingsError, match="threshold"):
            predictor.with_threshold(threshold)  # type: ignore[arg-type]
    for rate in (0.0, 1.0, -1.0, float("nan"), "5 %", None):
        with pytest.raises(SettingsError, match="max_false_alarm_rate"):
            predictor.with_false_alarm_rate(rate)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"confidence: '0\.95' is not a number"):
        predictor.with_false_alarm_rate(0.5, "0.95")  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="99"):
        predictor.with_false_alarm_rate(0.01)


def test_reconstructions_have_the_networks_size(predictor: Predictor) -> None:
    answer = predictor.reconstruct(np.zeros((100, 100, 3), np.uint8))
    assert answer is not None
    assert answer.shape == (3, 64, 64)


def test_the_picture_is_the_one_that_inspect_writes(
    predictor: Predictor, model_file: Path, shared_parts: Path, tmp_path: Path
) -> None:
    photo, other = shared_parts / "test/good/000.png", np.zeros((20, 30), np.uint8)
    run("inspect", str(model_file), str(photo), "-o", str(tmp_path / "out"))
    written = np.asarray(Image.open(next((tmp_path / "out/overlays").iterdir())))
    low = predictor.with_threshold(0.0)
    assert np.array_equal(predictor.draw(photo), written)
    assert np.array_equal(low.draw(np.asarray(Image.open(photo))), low.draw(photo, low.predict(photo)))
    assert not np.array_equal(low.draw(photo), written)
    with pytest.raises(DataError, match=r"image array: 20 x 30 .* the prediction is of an image of \d+ x \d+"):
        predictor.draw(other, predictor.predict(photo))


def test_an_unreadable_image_is_named(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        predictor.predict(tmp_path / "gone.png")


def test_an_unknown_device_is_refused(model_file: Path) -> None:
    with pytest.raises(SettingsError, match="tpu: expected auto, cpu, cuda, mps or openvino"):
        Predictor.load(model_file, device="tpu")


MAPS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=12), elements=st.integers(0, 9))


@given(MAPS, st.integers(1, 30), st.integers(1, 30))
def test_fitting_a_map_keeps_its_maximum(anomaly_map: np.ndarray, height: int, width: int) -> None:
    fitted = resize_map(anomaly_map, (height, width))
    assert fitted.shape == (height, width)
    assert fitted.max() == anomaly_map.max()
    for threshold in (2.0, 5.0):
        np.testing.assert_array_equal(
            fitted > threshold, resize_map(np.float32(anomaly_map > threshold), (height, width))
        )


@given(MAPS, st.integers(1, 3))
def test_opening_is_the_best_window_around_each_pixel(anomaly_map: np.ndarray, side: int) -> None:
    height, width = anomaly_map.shape
    expected = np.full_like(anomaly_map, -np.inf)
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            window = (slice(top, top + side), slice(left, left + side))
            expected[window] = np.maximum(expected[window], anomaly_map[window].min())
    opened = remove_small_regions(anomaly_map, side)
    np.testing.assert_array_equal(opened, expected)
    assert max_score(opened) <= max_score(anomaly_map)


def test_a_window_larger_than_the_map_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"score\.min_defect_px: 4 is larger than the map, 3 x 8"):
        remove_small_regions(np.zeros((3, 8), np.float32), 4)


def test_the_rate_that_is_named_as_the_least_for_doubtful_images_is_taken(predictor: Predictor) -> None:
    least = predictor.header.least_doubt_rate(predictor.threshold)
    predictor.check_doubt_rate(least)
    with pytest.raises(SettingsError, match="nothing that passes at threshold"):
        predictor.check_doubt_rate(least - 1e-9)
