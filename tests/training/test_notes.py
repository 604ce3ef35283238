"""What training says of the good images, and what it refuses of them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import Folder, Sample
from blemish.errors import CalibrationError, DataError, SettingsError
from blemish.models import DETECTORS, PRESETS
from blemish.settings import RunSettings
from blemish.training import unused
from blemish.training.export import export_model
from blemish.training.job import Job, split_samples
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY, write_parts


def settings(*more: str):
    return make_settings("conv_autoencoder", assignments=[*TINY, "train.max_steps=1", *more])


def write_frames(folder: Path, parts: int, frames: int) -> Path:
    """Several noisy photos of each of a few parts."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part in range(parts):
        pixels = rng.integers(0, 256, (16, 16, 3)).repeat(4, axis=0).repeat(4, axis=1)
        for frame in range(frames):
            noisy = pixels + rng.normal(0, 2, pixels.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"part{part}_{frame}.png")
    return folder


def notes_of(data: Path, tmp_path: Path, *more: str) -> list[str]:
    """All but that the images are few."""
    notes = train_model(data, tmp_path / "m.safetensors", settings(*more)).data_card.notes
    return [note for note in notes if "are few: " not in note]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("good", "more", "said"),
    [
        (5, (), ["5 good images are few: the threshold rests on 1 of them, ... advised, 57 to promise 5 % of false"]),
        (5, ("data.calibration_fraction=0.5",), ["on 2 of them, ... advised, 38 to promise"]),
        (6, ("score.calibration=cross", "score.folds=3"), ["6 good images are few: ... rests on 6 ... are advised$"]),
        (12, (r"data.groups=(\d)\.",), ["10 groups are few: the threshold rests on 2 of them"]),
        (30, (), []),
    ],
)
def test_few_good_images_are_called_few(good: int, more: Sequence[str], said: list[str], tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=good, test=0)
    notes = train_model(parts, tmp_path / "m.safetensors", settings(*more)).data_card.notes
    few = [note for note in notes if "are few: " in note]
    assert len(few) == len(said)
    for note, pattern in zip(few, said, strict=True):
        assert re.search(pattern.replace("...", ".*"), note), note


def test_frames_of_few_parts_are_said(tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", parts=4, frames=4)
    (note,) = notes_of(frames, tmp_path)
    assert "16 of 16 good images nearly repeat another" in note
    assert "look like at most 4 parts" in note
    assert "data.groups" in note


def test_frames_of_a_single_part_are_said(tmp_path: Path) -> None:
    (note,) = notes_of(write_frames(tmp_path / "frames", parts=1, frames=12), tmp_path)
    assert note.startswith("12 good images hardly differ but for noise, as frames of a single part do. The promise")


def test_copies_that_are_turned_or_mirrored_are_said(tmp_path: Path) -> None:
    copies = write_frames(tmp_path / "copies", parts=6, frames=3)
    for path in copies.iterdir():
        turn = [None, Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT][int(path.stem[-1])]
        if turn is not None:
            with Image.open(path) as image:
                image.transpose(turn).save(path)
    (note,) = notes_of(copies, tmp_path)
    assert note.startswith("18 of 18 good images nearly repeat another one turned or mirrored, as made copies do. The")
    assert notes_of(copies, tmp_path, r"data.groups=part(\d+)_") == []


def test_frames_that_are_grouped_are_as_they_should_be(tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", parts=4, frames=4)
    assert notes_of(frames, tmp_path, r"data.groups=part(\d+)_") == []


def test_parts_that_differ_are_not_remarked_on(shared_parts: Path, tmp_path: Path) -> None:
    assert notes_of(shared_parts, tmp_path) == []


def test_settings_without_effect_are_said(shared_parts: Path, tmp_path: Path) -> None:
    unused = ("data.speed=thorough", "data.side_px=32", "data.tile_overlap_px=3", "data.white_level=4095")
    assert notes_of(shared_parts, tmp_path, *unused, "data.roi=[0, 0, 1, 1]", "score.folds=3") == [
        "data.side_px, data.speed: set, but without effect, as data.size_px says how large photos are seen",
        "data.tile_overlap_px: set, but without effect, as data.tile_px is not set",
        "data.white_level: set, but without effect, as no photo has 16 bits",
        "data.roi: set, but without effect, as the photo is seen and judged whole",
        "score.folds: set, but without effect, as score.calibration is not cross",
    ]


@pytest.mark.parametrize("name", DETECTORS)
def test_defaults_are_not_taken_for_settings_that_were_set(name: str) -> None:
    for run in (RunSettings(detector=name), make_settings(name)):
        assert {one for one in unused._set(run) if not one.startswith("model.")} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DETECTORS.keys() - {"dinomaly"}, *PRESETS])
def test_settings_of_the_detector_and_those_that_count_are_not_said(
    name: str, shared_parts: Path, tmp_path: Path
) -> None:
    """Of the gradient loop they count where the detector has one, whatever it says of itself."""
    steps = ["data.size_px=[64, 64]", "train.max_steps=2", "train.batch_size=4"]
    run = make_settings(name, assignments=steps)
    notes = train_model(shared_parts, tmp_path / "m.safetensors", run).data_card.notes
    said = [note for note in notes if "without effect" in note]
    learns = run.detector not in ("feature_dictionary", "feature_ensemble", "padim", "patchcore")
    assert said == ([] if learns else [f"train.max_steps: set, but without effect, as {name} does not learn in steps"])


@pytest.mark.parametrize(
    ("good", "asked", "said"),
    [
        (60, ("0.04",), "at most 20 are held out .* add 12 or more, to 72 in all; .*=0.4 leaves 36 to fit.* 0.0477 "),
        (60, ("0.05", "data.calibration_fraction=0.2"), "12 are held out .* add 33 or more, to 93 .*=0.32 leaves 41"),
        (60, ("0.1", "score.confidence=0.9"), "with confidence 0.9 needs 22 .* 12 are held out .*=0.37 leaves 38"),
        (20, ("0.05",), "of the 20 here, at most 6 are held out .* add 37 or more, to 57 in all; or ask for 0.143 "),
    ],
)
def test_too_few_held_out_say_what_can_be_done(good: int, asked: Sequence[str], said: str) -> None:
    samples = [Sample(Path(f"{place}.png"), f"{place}.png") for place in range(good)]
    wanted = (f"score.max_false_alarm_rate={asked[0]}", *asked[1:])
    with pytest.raises(CalibrationError, match=said) as refused:
        split_samples(samples, Folder(Path(), tuple(samples)), settings(*wanted))
    if (hint := re.search(r"data.calibration_fraction=[\d.]+", str(refused.value))) is not None:
        split_samples(samples, Folder(Path(), tuple(samples)), settings(*wanted, hint[0]))


@pytest.mark.slow
def test_a_held_out_image_that_repeats_a_fitted_one_is_named(tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "frames", parts=20, frames=1)
    for number in range(2):  # of 22 images
        with Image.open(frames / f"part{number}_0.png") as photo:
            photo.save(frames / f"part{number}_again.jpg", quality=95)
    notes = [note for seed in range(4) for note in notes_of(frames, tmp_path, f"seed={seed}")]
    assert notes
    assert all("to calibrate on nearly repeat a fitted one, such as part" in note for note in notes)


def scored(scores: Sequence[float]):
    return lambda job, fits: dict(zip(job.splits[0].held_out, scores, strict=True))


def test_an_odd_good_image_is_named_with_its_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = write_parts(tmp_path / "parts", good=40)
    scores = [*np.linspace(3.0, 4.2, 19), 9.1]
    monkeypatch.setattr("blemish.training.train.held_out_scores", scored(scores))
    odd, price = notes_of(parts, tmp_path, "data.calibration_fraction=0.5")
    name = odd.partition(" ")[0]
    assert "scores as a defective image would" in odd
    assert price == f"without {name} the threshold at 5 % falls from 9.1 to 4.2"


def test_a_threshold_of_0_is_refused(shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.training.train.held_out_scores", scored([0.0, 0.0]))
    with pytest.raises(CalibrationError, match="the threshold would be 0"):
        train_model(shared_parts, tmp_path / "m.safetensors", settings())
    assert not (tmp_path / "m.safetensors").exists()


def transparent() -> Image.Image:
    """A photo whose alpha is 0 everywhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    return Image.fromarray(pixels)


def test_a_photo_that_is_transparent_everywhere_is_refused(parts: Path, tmp_path: Path) -> None:
    transparent().save(parts / "train/good/005.png")
    with pytest.raises(DataError, match=r"005\.png"):
        train_model(parts, tmp_path / "m.safetensors", settings())


def test_an_image_of_one_value_stops_or_is_skipped(parts: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (0, 51, 0)).save(parts / "train/good/005.png")
    with pytest.raises(DataError, match=r"005\.png: the photo has one value everywhere, 0, 0\.2, 0 \(1 is white"):
        train_model(parts, tmp_path / "m.safetensors", settings())
    header = train_model(parts, tmp_path / "m.safetensors", settings("data.skip_bad=true"))
    assert list(header.data_card.skipped) == ["train/good/005.png"]


def test_what_differs_outside_the_region_alone_is_of_one_value(parts: Path, tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 64))
    image.putpixel((1, 1), (255, 255, 255))
    image.save(parts / "train/good/005.png")
    roi = "data.roi=[[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]"
    with pytest.raises(DataError, match=r"005\.png: the photo has one value everywhere, 0, 0, 0"):
        train_model(parts, tmp_path / "m.safetensors", settings(roi))


def test_models_and_exports_do_not_replace_each_other(model_file: Path, parts: Path, tmp_path: Path) -> None:
    trained, exported = tmp_path / "m.safetensors", tmp_path / "deployed.onnx"
    trained.write_bytes(model_file.read_bytes())
    (tmp_path / "other.safetensors").write_bytes(model_file.read_bytes())
    exported.write_bytes(b"\x08\x08\x12\x07blemish")
    with pytest.raises(DataError, match=r"deployed\.onnx: an export is there, .* such as deployed\.safetensors"):
        train_model(parts, exported, settings())
    with pytest.raises(DataError, match=r"new\.onnx: ends as exports do; give the trained model another name, such as"):
        train_model(parts, tmp_path / "new.onnx", settings())
    with pytest.raises(DataError, match=r"other\.safetensors: a trained model, which would be lost"):
        export_model(trained, tmp_path / "other.safetensors")
    assert exported.read_bytes() == b"\x08\x08\x12\x07blemish"


def test_two_detectors_are_refused_and_one_is_taken_wherever_it_stands() -> None:
    assert make_settings(assignments=["detector=padim"]).detector == "padim"
    assert make_settings("padim", assignments=["detector=padim"]).detector == "padim"
    with pytest.raises(SettingsError, match=r"detector: found padim \(--set\) and patchcore; give it once"):
        make_settings("patchcore", assignments=["detector=padim"])


def test_job_is_what_the_scores_are_about(shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`held_out_scores` is replaced above: its own answer has a score for each image that was held out."""
    from blemish.training import train
    from blemish.training.fit import Fit

    found: dict[int, float] = {}
    original = train.held_out_scores

    def spy(job: Job, fits: Sequence[Fit]) -> dict[int, float]:
        found.update(original(job, fits))
        assert sorted(found) == list(job.splits[0].held_out)
        return found

    monkeypatch.setattr(train, "held_out_scores", spy)
    header = train_model(shared_parts, tmp_path / "m.safetensors", settings())
    assert sorted(found.values()) == list(header.calibration_scores)
