"""Training: repeatable, resumable, calibrated on images that were not fitted, and clear when it cannot be."""

import json
import math
import os
import re
import time
from collections import Counter
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.data.folder import Sample, read_folder
from blemish.data.images import PixelPolicy, prepare_photo
from blemish.data.outputs import check_model_name
from blemish.data.progress import Progress
from blemish.data.split import fewest_to_hold_out, split_good
from blemish.errors import CalibrationError, DataError, SettingsError, TrainingError
from blemish.inference.artifact import read_artifact
from blemish.inference.predictor import Predictor
from blemish.settings import AugmentSettings
from blemish.training.augment import augment, rotate
from blemish.training.batches import GoodImages, ImageBatches
from blemish.training.export import export_model
from blemish.training.policy import resolve_policy, say_other_speed
from blemish.training.settings import make_settings
from blemish.training.train import state_path, train_model
from conftest import TINY


def settings(*more: str):
    return make_settings("conv_autoencoder", assignments=[*TINY, *more])


class StopAt:
    """Interrupts training after so many steps, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, progress: Progress) -> None:
        if progress.what == "training" and progress.done == self.steps:
            raise KeyboardInterrupt


def test_a_name_in_the_place_of_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"settings: found 'patchcore'; make them, as by make_settings"):
        train_model(tmp_path, tmp_path / "model.safetensors", "patchcore")  # type: ignore[arg-type]


def test_without_settings_it_is_the_default_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = list[object]()
    monkeypatch.setattr("blemish.training.train._train", lambda *given: begun.extend(given))
    train_model(str(tmp_path), str(tmp_path / "model.safetensors"))
    assert begun[:3] == [tmp_path, tmp_path / "model.safetensors", make_settings()]


@pytest.mark.slow
def test_a_seed_makes_a_run_repeatable(parts: Path, tmp_path: Path) -> None:
    headers = [
        train_model(parts, tmp_path / name, settings(f"seed={seed}"))
        for name, seed in zip("abc", (1, 1, 2), strict=True)
    ]
    scores = [header.calibration_scores for header in headers]
    assert scores[0] == scores[1] != scores[2]
    assert headers[0].history == headers[1].history
    weights = [read_artifact(tmp_path / name)[1] for name in "ab"]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "more", "steps"),
    [
        ("conv_autoencoder", (), 1),
        ("conv_autoencoder", (), 5),
        ("conv_autoencoder", (), 7),
        ("vae", ("train.schedule=one_cycle",), 5),  # draws latents in each step
        ("anogan", ("model.width=4", "model.search_steps=2"), 5),  # so does this one, with an optimiser for each loss
    ],
)
def test_a_run_that_was_cut_off_ends_with_the_same_weights(
    parts: Path, tmp_path: Path, detector: str, more: tuple[str, ...], steps: int
) -> None:
    wanted = make_settings(detector, assignments=[*TINY, *more])
    whole = train_model(parts, tmp_path / "whole", wanted)
    with pytest.raises(KeyboardInterrupt):
        train_model(parts, tmp_path / "cut", wanted, report=StopAt(steps))
    assert state_path(tmp_path / "cut").is_file()
    assert not (tmp_path / "cut").exists()
    resumed = train_model(parts, tmp_path / "cut", wanted, resume=True)
    assert resumed.history == whole.history
    expected, found = (read_artifact(tmp_path / name)[1] for name in ("whole", "cut"))
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    assert not state_path(tmp_path / "cut").exists()


def test_a_state_of_other_settings_is_refused_by_name(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_model(parts, tmp_path / "m", settings(), report=StopAt(2))
    with pytest.raises(SettingsError, match=r"m\.state: the run to resume had train\.epochs = 2, this one has 3"):
        train_model(parts, tmp_path / "m", settings("train.epochs=3"), resume=True)


def test_a_state_of_another_region_is_refused_though_the_file_has_the_same_name(parts: Path, tmp_path: Path) -> None:
    region = np.full((64, 64), 255, np.uint8)
    wanted = settings(f"data.roi={tmp_path / 'region.png'}")
    Image.fromarray(region).save(tmp_path / "region.png")
    with pytest.raises(KeyboardInterrupt):
        train_model(parts, tmp_path / "m", wanted, report=StopAt(2))
    region[30:40, 30:40] = 0
    Image.fromarray(region).save(tmp_path / "region.png")
    with pytest.raises(SettingsError, match=r"m\.state: the run to resume had region = "):
        train_model(parts, tmp_path / "m", wanted, resume=True)


def test_resuming_a_finished_run_leaves_it_alone(parts: Path, tmp_path: Path) -> None:
    first = train_model(parts, tmp_path / "m", settings())
    written = (tmp_path / "m").stat().st_mtime_ns
    assert train_model(parts, tmp_path / "m", settings(), resume=True) == first
    assert (tmp_path / "m").stat().st_mtime_ns == written


@pytest.mark.slow
def test_the_loss_falls_and_its_curve_is_kept(parts: Path, tmp_path: Path) -> None:
    header = train_model(parts, tmp_path / "m", settings("train.epochs=6", "train.learning_rate=0.003"))
    (losses,) = header.history.values()
    assert len(losses) == 6
    assert losses[-1] < 0.7 * losses[0]


def test_calibration_images_are_never_fitted(parts: Path) -> None:
    samples = read_folder(parts).train
    fit, calibration = split_good(samples, 0.25, np.random.default_rng(3))
    assert len(calibration) == 3
    assert sorted([*fit, *calibration], key=lambda sample: sample.name) == list(samples)


def test_training_opens_each_file_for_its_header_its_hash_and_its_pixels(
    parts: Path, tmp_path: Path, opened: Counter[Path]
) -> None:
    header = train_model(parts, tmp_path / "model", settings())
    counts = sorted(opened[path] for path in (parts / "train/good").iterdir())
    held_out = header.data_card.calibration_images  # those are decoded again to be scored, and perhaps to be kept
    assert counts[:-held_out] == [3] * (len(counts) - held_out)
    assert max(counts) <= 5


def test_the_threshold_is_the_conformal_one(model_file: Path) -> None:
    header, _ = read_artifact(model_file)
    assert len(header.calibration_scores) == 2  # 20 % of 12
    assert header.max_false_alarm_rate == pytest.approx(1 / 3)
    assert header.threshold == max(header.calibration_scores)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("data.size_px=[256]", r"data\.size_px: should be 2 numbers in brackets .*; found \[256\]"),
        ("data.mask_value=[1,2]", r"data\.mask_value: should be a whole number.*; found \[1, 2\]"),
        ("data.mask_value=[1,2,300]", r"^data\.mask_value\.2: should be less than or equal to 255; found 300$"),
        ("data.tile_px=128", r"data\.tile_px: should be 2 numbers .*, e\.g\. data\.tile_px=\[128,128\]; found 128"),
        ("data.tile_px=3", r"data\.tile_px: should be 2 numbers .*, e\.g\. data\.tile_px=\[256,256\]; found 3"),
        ("data.mask_value=red", r"a whole number or 3 numbers in .*, e\.g\. data\.mask_value=\[255,0,0\]; found 'red'"),
        ("model.encoder_layers=3", r"should be numbers in .*, e\.g\. model\.encoder_layers=\[3\]; found 3"),
        ("model.weights=[1]", r"model\.weights: should be 3 numbers in brackets .*; found \[1\]"),
        ("model.weights=[1,2,3,4]", r"model\.weights: should be 3 numbers in brackets .*; found \[1, 2, 3, 4\]"),
        ("data.size_px=[256, 1]", r"data\.size_px\.1: should be greater than or equal to 8; found 1"),
        ("data.roi=[[1, 2], [3]]", r"data\.roi: found \[\[1, 2\], \[3\]\]; expected a mask image"),
        ("train.epochs=2.5", r"train\.epochs: should be a whole number; found 2\.5"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused_in_plain_words(assignment: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make_settings(assignments=[assignment])


def test_a_rate_the_images_cannot_promise_is_refused_before_training(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CalibrationError,
        match=r"needs 99 .* of the 12 here, at most 4 are held out .*, to 297 in all; or ask for 0\.2 or more",
    ):
        train_model(parts, tmp_path / "m", settings("score.max_false_alarm_rate=0.01"))
    assert list(tmp_path.iterdir()) == [parts]
    train_model(parts, tmp_path / "m", settings("score.max_false_alarm_rate=0.2"))  # what the message offers


def test_a_loss_that_is_not_a_number_is_said(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is not a number at step \d+; lower train\.learning_rate"):
        train_model(parts, tmp_path / "m", settings("train.learning_rate=1e12", "train.epochs=10"))
    assert not (tmp_path / "m").exists()


def test_too_few_images_are_said(tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=f"{re.escape(str(tmp_path))}: 2 good images found; at least 3 are"):
        train_model(tmp_path, tmp_path / "m.safetensors", settings())
    Image.new("RGB", (64, 64), "red").save(tmp_path / "c.png")
    with pytest.raises(DataError, match="2 good images found, copies and unreadable files left out; at least 3"):
        train_model(tmp_path, tmp_path / "m.safetensors", settings())


def test_paths_may_be_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nope: no such folder"):
        train_model("nope", str(tmp_path / "m.safetensors"), settings())
    with pytest.raises(SettingsError, match=r"nope\.toml: cannot read the settings file"):
        make_settings(toml="nope.toml")
    with pytest.raises(SettingsError, match=r"assignments: found the text '?seed=3'?; put it into a list"):
        make_settings(assignments="seed=3")
    with pytest.raises(SettingsError, match="assignments: found names with values; give a list of texts"):
        make_settings(assignments={"seed": 3})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="assignments: found names with values"):
        make_settings("padim", assignments=[("seed", 3)])  # type: ignore[list-item]
    with pytest.raises(SettingsError, match="assignments: found 3; give a list of texts"):
        make_settings("padim", assignments=3)  # type: ignore[arg-type]
    assert make_settings("padim", assignments=(text for text in ["seed=3"])).seed == 3  # can be gone through once
    with pytest.raises(SettingsError, match=r"toml: found \{'seed': 3\}; give a path"):
        make_settings("padim", {"seed": 3})  # type: ignore[arg-type]


def test_a_bad_image_stops_or_is_skipped_and_counted(parts: Path, tmp_path: Path) -> None:
    bad = parts / "train/good/004.png"
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError, match=r"004\.png"):
        train_model(parts, tmp_path / "m", settings())
    header = train_model(parts, tmp_path / "m", settings("data.skip_bad=true"))
    assert list(header.data_card.skipped) == ["train/good/004.png"]
    assert header.data_card.fit_images + header.data_card.calibration_images == 11


def test_each_good_image_is_hashed_once(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def digest(file: BinaryIO, name: str):
        hashed.append(os.fstat(file.fileno()).st_ino)  # opened by its number, a file has no name
        return file_digest(file, name)

    monkeypatch.setattr("blemish.data.folder.hashlib.file_digest", digest)
    train_model(parts, tmp_path / "m", settings())
    assert sorted(hashed) == sorted(path.stat().st_ino for path in (parts / "train/good").iterdir())


def test_a_missing_output_folder_is_said_before_training(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its folder does not exist"):
        train_model(parts, tmp_path / "nowhere/m.safetensors", settings())


def test_two_runs_do_not_train_into_one_file(parts: Path, tmp_path: Path) -> None:
    out, held = tmp_path / "m.safetensors", []

    def second(_progress: Progress) -> None:
        if not held:
            with pytest.raises(DataError, match=r"another process is training .*m\.safetensors; wait for it"):
                train_model(parts, out, settings())
            held.append(out.with_name(f".{out.name}.lock").exists())

    train_model(parts, out, settings(), report=second)
    assert held == [True]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["m.safetensors"]


def test_a_flat_folder_of_good_photos_is_enough(parts: Path, tmp_path: Path) -> None:
    header = train_model(parts / "train/good", tmp_path / "m", settings())
    assert header.data_card.fit_images == 10


@pytest.mark.parametrize(
    "more", ["data.calibration_fraction=0.6", pytest.param("score.calibration=cross", marks=pytest.mark.slow)]
)
def test_a_photo_saved_again_that_is_calibrated_on_is_named(more: str, parts: Path, tmp_path: Path) -> None:
    for path in sorted((parts / "train/good").iterdir()):
        with Image.open(path) as photo:
            photo.save(path.with_suffix(".bmp"))
    asked = settings("train.epochs=1", "score.folds=2", more)
    header = train_model(parts, tmp_path / "m", asked)
    named = [note for note in header.data_card.notes if "saved again" in note]
    across, twice = (
        [note for note in named if how in note]
        for how in ("one was fitted and the other calibrated on", "both were calibrated on")
    )
    assert len(across) + len(twice) == len(named)
    assert across
    assert twice
    with_groups = make_settings("conv_autoencoder", assignments=[*TINY, r"data.groups=/(\d+)\."])
    header = train_model(parts, tmp_path / "grouped", with_groups)
    assert not [note for note in header.data_card.notes if "saved again" in note]


def test_the_image_size_follows_from_the_images(tmp_path: Path) -> None:
    for place, size in enumerate([(640, 256), (640, 256), (512, 512)]):
        Image.new("L", size).save(tmp_path / f"{place}.png")
    policy = resolve_policy(read_folder(tmp_path).train, make_settings("conv_autoencoder"))
    assert policy.size_px == (96, 256)
    assert policy.channels == 1
    assert policy.aspect == 0.4


@pytest.mark.parametrize(
    ("image_px", "seen_px"),
    [((96, 32), (192, 64)), ((32, 96), (64, 192)), ((16, 160), (32, 256)), ((40, 40), (64, 64))],
)
def test_pretrained_features_look_at_long_images_with_the_side_across(
    image_px: tuple[int, int], seen_px: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("L", image_px[::-1]).save(tmp_path / "0.png")
    samples = read_folder(tmp_path).train
    for detector in ("feature_autoencoder", "padim", "patchcore", "feature_dictionary"):
        settings = make_settings(detector, assignments=["data.side_px=64"])
        assert resolve_policy(samples, settings).size_px == seen_px
    along = make_settings("padim", assignments=["data.side_px=64", "data.side=longer"])
    assert max(resolve_policy(samples, along).size_px) == 64


@pytest.mark.parametrize(
    ("photo_px", "fast_px", "thorough_px"),
    [
        ((600, 600), (256, 256), (512, 512)),
        ((300, 300), (256, 256), (288, 288)),  # no larger than the photo
        ((64, 96), (256, 384), (256, 384)),  # but 256 at least
        ((1000, 1500), (256, 384), (512, 768)),
        ((1500, 3000), (256, 512), (448, 864)),  # no more pixels than 512 x 768, and rounded to as many as there may be
        ((300, 3000), (96, 1024), (192, 1984)),
        ((100, 3000), (32, 1024), (64, 2048)),  # no longer than four times 512
    ],
)
def test_photos_are_seen_at_their_own_size_within_limits(
    photo_px: tuple[int, int], fast_px: tuple[int, int], thorough_px: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("L", photo_px[::-1]).save(tmp_path / "0.png")
    samples = read_folder(tmp_path).train

    def seen(*assignments: str) -> tuple[int, int]:
        return resolve_policy(samples, make_settings("feature_ensemble", assignments=assignments)).size_px

    assert seen() == thorough_px
    assert seen("data.speed=fast") == fast_px
    assert max(thorough_px) <= 4 * 512
    assert math.prod(thorough_px) <= 512 * 768
    for mine in ("data.side_px=64", "data.size_px=[64, 96]"):
        assert seen(mine) == seen(mine, "data.speed=fast")


def test_the_other_speed_is_said_where_it_would_differ() -> None:
    def said(photo_px: tuple[int, int], *assignments: str) -> str:
        return say_other_speed(photo_px, make_settings("feature_ensemble", assignments=assignments))

    assert "data.speed=thorough would see 512 x 512: about 4 times as slow" in said((900, 900), "data.speed=fast")
    assert "data.speed=fast would see 256 x 256: about 4 times as fast" in said((900, 900))
    assert said((256, 256)) == said((900, 900), "data.side_px=256") == said((900, 900), "data.tile_px=[256, 256]") == ""


@pytest.mark.parametrize(
    ("good", "held_out"), [(10, 2), (56, 11), (57, 19), (100, 19), (117, 39), (180, 59), (200, 59), (280, 79)]
)
def test_as_many_are_held_out_as_the_threshold_makes_use_of(good: int, held_out: int) -> None:
    samples = [Sample(Path(f"{place}.png"), f"{place}.png") for place in range(good)]
    fit, calibration = split_good(samples, None, np.random.default_rng(0), rate=0.05)
    assert (len(fit), len(calibration)) == (good - held_out, held_out)
    assert len(split_good(samples, 0.2, np.random.default_rng(0), rate=0.05)[1]) == round(0.2 * good)


@pytest.mark.parametrize("rate", [0.01, 0.03, 0.05, 0.1])
def test_the_fewest_images_that_are_said_to_do_are_the_fewest(rate: float) -> None:
    for needed in (1, 5, 19, 20, 39):
        fewest = fewest_to_hold_out(needed, None, rate)
        counts = []
        for good in (fewest - 1, fewest):
            samples = [Sample(Path(f"{place}.png"), f"{place}.png") for place in range(good)]
            if good > 2:
                counts.append(len(split_good(samples, None, np.random.default_rng(0), rate=rate)[1]))
        assert counts[-1] >= needed > (counts[0] if len(counts) > 1 else 0)


def test_batches_of_one_image_never_occur() -> None:
    images = torch.utils.data.TensorDataset(torch.rand(9, 3, 8, 8))
    plain = AugmentSettings(images_of_one=1)
    for count in range(2, 10):
        batches = ImageBatches([image for (image,) in images], count, plain, 4, seed=0)  # type: ignore[arg-type]
        sizes = [len(batch) for batch in batches]
        assert sum(sizes) == count
        assert min(sizes) >= 2
        assert len(sizes) == len(batches)


def test_an_epoch_repeats_itself_and_differs_from_the_next() -> None:
    images = list(torch.rand(6, 3, 8, 8))
    batches = ImageBatches(images, 6, AugmentSettings(images_of_one=3), 4, seed=0)  # type: ignore[arg-type]
    first, again = torch.cat(list(batches)), torch.cat(list(batches))
    batches.epoch = 1
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.cat(list(batches)))
    assert len(first) == 18


def test_a_wide_image_is_turned_in_pixels() -> None:
    """A quarter turn brings what is three pixels to the right of the centre three pixels above it."""
    images = torch.zeros(1, 1, 9, 17)
    images[0, 0, 4, 8 + 3] = 1.0
    turned = rotate(images, torch.tensor([90.0]))[0, 0]
    assert (turned.argmax() // 17, turned.argmax() % 17) == (4 - 3, 8)
    assert turned.max() == pytest.approx(1.0, abs=1e-3)


def test_noise_and_flips_are_drawn_for_each_image_and_stay_within_bounds() -> None:
    """Half of many images are mirrored, and the noise is of the strength that is asked for."""
    ramp = torch.linspace(0.2, 0.8, 8).expand(2000, 1, 4, 8)
    only = {"rotation_degrees": 0.0, "flip_horizontal": False, "flip_vertical": False, "noise_std": 0.0}
    drawn = torch.Generator().manual_seed(0)
    flipped = augment(ramp, AugmentSettings(**(only | {"flip_horizontal": True})), drawn)
    assert float((flipped[:, 0, 0, 0] > 0.5).float().mean()) == pytest.approx(0.5, abs=0.06)  # five deviations of .011
    noisy = augment(ramp, AugmentSettings(**(only | {"noise_std": 0.05})), drawn)
    assert float((noisy - ramp).std()) == pytest.approx(0.05, rel=0.02)
    assert len({float(image.flatten()[0]) for image in noisy}) > 1900


def test_an_epoch_has_each_image_once_as_it_is() -> None:
    images = list(torch.rand(6, 3, 8, 8))
    epoch = torch.cat(list(ImageBatches(images, 6, AugmentSettings(images_of_one=3), 4, seed=0)))  # type: ignore[arg-type]
    assert [int((epoch == image).flatten(1).all(dim=1).sum()) for image in images] == [1] * 6


def test_an_interruption_while_images_are_read_does_not_wait_for_those_that_are_left(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Sample] = []

    def load_slowly(sample: Sample, policy: PixelPolicy) -> object:
        begun.append(sample)
        time.sleep(0.1)
        return prepare_photo(sample.path, policy)

    def interrupt(_progress: Progress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.training.batches._try_load", load_slowly)
    samples = read_folder(parts).train
    with pytest.raises(KeyboardInterrupt):
        GoodImages(samples, PixelPolicy(size_px=(64, 64)), report=interrupt)
    assert len(begun) < len(samples)


def test_images_beyond_the_cache_are_decoded_again(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.training.batches.CACHE_BYTES", 3 * 64 * 64 * 5)
    samples = read_folder(parts).train
    policy = PixelPolicy(size_px=(64, 64))
    few, all_kept = GoodImages(samples, policy), GoodImages(samples, policy)
    all_kept._kept = {}
    assert len(few._kept) == 5
    assert all(torch.equal(few[place], all_kept[place]) for place in range(len(samples)))


def test_scores_do_not_depend_on_what_else_is_asked(model_file: Path, shared_parts: Path) -> None:
    predictor = Predictor.load(model_file)
    paths = [sample.path for sample in read_folder(shared_parts).test]
    together = [prediction.score for prediction in predictor.predict_many(paths)]
    assert together == [predictor.predict(path).score for path in paths]


def test_copies_of_a_file_count_once(parts: Path, tmp_path: Path) -> None:
    """Else one is fitted and the other calibrated on, and the threshold is far too low."""
    good = parts / "train/good"
    for path in sorted(good.iterdir()):
        (good / f"copy-{path.name}").write_bytes(path.read_bytes())
    header = train_model(parts, tmp_path / "m.safetensors", settings())
    assert header.data_card.fit_images + header.data_card.calibration_images == 12
    assert not set(header.data_card.fit_ids) & set(header.calibration.image_ids)
    assert len(header.data_card.skipped) == 12
    assert all("the same file as" in reason for reason in header.data_card.skipped.values())


@pytest.mark.parametrize("name", ["train/good/001.png", "notes.txt"])
def test_nothing_but_a_model_is_replaced(parts: Path, model_file: Path, name: str) -> None:
    path = parts / name
    if not path.exists():
        path.write_text("notes")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"inside a folder of good training|is no model; it would be lost"):
        train_model(parts, path, settings())
    with pytest.raises(DataError, match=r"inside a folder of good training|is no model; it would be lost"):
        export_model(model_file, path)
    assert path.read_bytes() == before


def test_a_model_is_known_as_one_wherever_its_header_says_so(tmp_path: Path) -> None:
    """The library that writes the header puts its keys in an order that differs from one writing to the next."""
    path = tmp_path / "model.safetensors"
    header = json.dumps({"__metadata__": {"content": "x" * 10_000, "blemish": "model"}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    check_model_name(path, [])
    path.write_bytes(len(header).to_bytes(8, "little") + header.replace(b"blemish", b"another"))
    with pytest.raises(DataError, match="is no model"):
        check_model_name(path, [])


def test_a_wrong_value_is_said_to_stand_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[train]\nepochs = 'many'\n", encoding="utf-8-sig")  # as some editors write it
    with pytest.raises(SettingsError, match=r"run\.toml: train\.epochs: should be a whole number; found 'many'"):
        make_settings("seed", path)
    path.write_text("[train]\nepochs = 3\n", encoding="utf-8-sig")
    assert make_settings("seed", path).train.epochs == 3
