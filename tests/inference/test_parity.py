"""The comparison of an export with the trained model: what it accepts, and what it refuses."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.data.images import PixelPolicy, prepare
from blemish.errors import ArtifactError
from blemish.inference.artifact import ArtifactHeader, read_artifact, split_fixtures
from blemish.inference.fixtures import (
    FIXTURE_BYTES,
    Expectation,
    keep_fixtures,
    read_expectations,
    seeded_images,
    write_expectations,
)
from blemish.inference.onnx_file import FIXTURES_KEY, HEADER_KEY, plain_metadata, seal
from blemish.inference.parity import compare, decision, scores_with_margin, verify, with_margin
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import open_onnx


def with_expectations(onnx_file: Path, expected: Sequence[Expectation]) -> bytes:
    """The exported file with other fixtures in it."""
    model = onnx.load(str(onnx_file))
    del model.metadata_props[:]
    header = open_onnx(onnx_file).header
    metadata = {HEADER_KEY: header.model_dump_json(), **plain_metadata(header.model)}
    return seal(model.SerializeToString(), {**metadata, FIXTURES_KEY: write_expectations(expected)})


def test_an_exported_file_verifies_here(onnx_file: Path) -> None:
    found = verify(onnx_file)
    assert len(found.checks) == 7
    assert found.worst.difference <= found.tolerance <= 1e-4
    assert all(check.is_same for check in found.checks)


def test_the_good_image_that_set_the_threshold_travels_along(model_file: Path) -> None:
    header, tensors = read_artifact(model_file)
    _, fixtures = split_fixtures(tensors)
    predictor = Predictor.load(model_file)
    scores = [predictor.predict(image).score for image in fixtures.values()]
    assert max(scores) == header.threshold
    assert set(scores) <= set(header.calibration_scores)


@pytest.mark.parametrize("error", [3e-4, np.nan])
def test_a_machine_that_judges_otherwise_is_found_out(onnx_file: Path, tmp_path: Path, error: float) -> None:
    expected = list(read_expectations(open_onnx(onnx_file).fixtures))
    other = expected[1].map.copy()
    other[3, 4] += np.float32(error)
    expected[1] = replace(expected[1], map=other)
    if np.isnan(error):  # what a target that computes nonsense would find, the other way round
        expected[1] = replace(expected[1], map=np.full_like(other, np.float32(1e30)))
    (tmp_path / "m.onnx").write_bytes(with_expectations(onnx_file, expected))
    with pytest.raises(ArtifactError, match=r"m\.onnx: this machine judges otherwise .* image of 97 x 97 differs by"):
        verify(tmp_path / "m.onnx")


def test_a_map_of_another_size_is_found_out(onnx_file: Path, tmp_path: Path) -> None:
    expected = [replace(one, map=one.map[1:]) for one in read_expectations(open_onnx(onnx_file).fixtures)]
    (tmp_path / "m.onnx").write_bytes(with_expectations(onnx_file, expected))
    with pytest.raises(ArtifactError, match="differs by inf"):
        verify(tmp_path / "m.onnx")


def test_fixtures_survive_writing(onnx_file: Path) -> None:
    text = open_onnx(onnx_file).fixtures
    assert write_expectations(read_expectations(text)) == text


def test_seeded_images_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    for image in seeded_images(PixelPolicy(size_px=(64, 96))).values():
        digest.update(image.tobytes())
    assert digest.hexdigest()[:16] == "6063851bc89f8625"


@pytest.mark.parametrize(
    ("channels", "white_level"),
    [(1, None), (3, None), (1, 4095), (3, 4095)],
)
def test_a_kept_image_is_seen_as_it_was(channels: int, white_level: int | None) -> None:
    policy = PixelPolicy(size_px=(32, 48), channels=channels, white_level=white_level, aspect=0.7)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 4096, (70, 100), dtype=np.uint16) if white_level else rng.integers(0, 256, (70, 100, 3))
    prepared = prepare(photo.astype(np.uint16 if white_level else np.uint8), policy)
    (image,) = keep_fixtures([("a", prepared)]).values()
    again = prepare(image, policy.model_copy(update={"aspect": None}))
    assert np.array_equal(again.pixels(), prepared.pixels())


def test_kept_images_do_not_outgrow_their_room() -> None:
    policy = PixelPolicy(size_px=(1600, 1600), channels=3)
    prepared = prepare(np.zeros((8, 8), np.uint8), policy)
    kept = keep_fixtures([(name, prepared) for name in "abcd"])
    assert list(kept) == ["a", "b"]
    assert sum(image.nbytes for image in kept.values()) <= FIXTURE_BYTES


@pytest.fixture(scope="module")
def header(model_file: Path) -> ArtifactHeader:
    return read_artifact(model_file)[0]


Score = st.floats(0, 100, width=32)


@given(scores=st.lists(Score, min_size=1, max_size=12), place=st.integers(0, 11), score=Score, error=st.floats(-1, 1))
def test_a_raised_threshold_keeps_the_promise_of_the_trained_model(
    header: ArtifactHeader, scores: list[float], place: int, score: float, error: float
) -> None:
    """However the export rounds within its tolerance, it flags nothing that the trained model does not."""
    tolerance, ordered = 1e-4, sorted(scores)
    before = header.model_copy(
        update={"calibration_scores": tuple(ordered), "threshold": ordered[place % len(ordered)]}
    )
    found = score + error * tolerance * max(score, before.threshold)
    after = with_margin(before, tolerance)
    (p_before, flagged_before), (p_after, flagged_after) = decision(before, score), decision(after, found)
    if score <= before.threshold:
        assert not flagged_after
        assert p_after >= p_before
    assert flagged_before or not flagged_after


@given(score=Score)
def test_a_raised_threshold_means_the_same_to_scores_and_to_maps(header: ArtifactHeader, score: float) -> None:
    threshold = with_margin(header.model_copy(update={"threshold": score}), 1e-6).threshold
    assert np.float32(threshold) == threshold
    assert threshold >= score


def test_a_raised_score_is_never_below_what_it_was(header: ArtifactHeader) -> None:
    """0.7 has a nearest number in 32 bits that is smaller; a good image would be flagged for it."""
    assert float(np.float32(0.7)) < 0.7
    (raised,) = scores_with_margin([0.7], margin=0.0, tolerance=0.0)
    assert raised == np.nextafter(np.float32(0.7), np.float32(1.0)) > 0.7


def test_another_verdict_on_the_same_map_is_told(onnx_file: Path) -> None:
    predictor, expected = Predictor.load(onnx_file), next(read_expectations(open_onnx(onnx_file).fixtures))
    found = predictor.predict(expected.image)
    flipped = replace(expected.verdict, is_anomalous=not expected.verdict.is_anomalous)
    assert compare(expected, found, predictor.threshold).is_same
    assert not compare(replace(expected, verdict=flipped), found, predictor.threshold).is_same
