"""A challenge: what counts as a hit, what the curves are made of, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import read_folder
from blemish.data.images import PixelPolicy, load_image, read_values
from blemish.data.roi import encode_roi
from blemish.errors import DataError, SettingsError
from blemish.evaluation.challenge.challenge import ChallengeSettings, challenge_model
from blemish.evaluation.challenge.challenge_page import _chart, verdict
from blemish.evaluation.challenge.content import Content
from blemish.evaluation.challenge.trials import Trial, beside, judge_trial, own_region, plan_trials, with_defect
from blemish.inference.predictor import Predictor
from blemish.settings import validate
from conftest import TINY, draw_part, write_parts
from reference.command import run
from reference.schema import misfits

pytestmark = pytest.mark.usefixtures("undrawn")

QUICK = ChallengeSettings(defect_types=("hole", "print"), contrasts=(0.1, 0.4), defects=10)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good photos that the model has not seen."""
    return write_parts(tmp_path_factory.mktemp("held_out") / "parts", good=8, test=0, seed=7) / "train" / "good"


@pytest.fixture(scope="module")
def predictor(model_file: Path, good: Path) -> Predictor:
    """With a threshold that no held-out photo reaches."""
    predictor = Predictor.load(model_file)
    return predictor.with_threshold(1.001 * max(predictor.predict(path).score for path in good.iterdir()))


def trial(kind: str = "hole", contrast: float = 0.2, size_px: float = 10, seed: int = 0) -> Trial:
    return Trial(kind, contrast, contrast, 0, size_px, 0, (seed, 0, 0))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_judged_as_their_file_is(tmp_path: Path, mode: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    shape = (40, 60, 3) if mode == "RGB" else (40, 60)
    pixels = rng.integers(0, 60_000, shape, np.uint16) if mode == "I;16" else rng.integers(0, 256, shape, np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    policy = PixelPolicy(size_px=(24, 32), channels=1 if channels == 1 else 3)
    assert (load_image(read_values(path, policy), policy) == load_image(path, policy)).all()


def test_a_photo_changes_only_where_its_defect_is(good: Path, predictor: Predictor) -> None:
    values = read_values(next(good.iterdir()), predictor.policy)
    image, mask = with_defect(values, None, trial())
    assert (image.dtype, image.shape) == (values.dtype, values.shape)
    assert (image[~mask] == values[~mask]).all()
    assert (image[mask] != values[mask]).any(axis=-1).all()


def test_contrasts_share_shape_and_place(good: Path, predictor: Predictor) -> None:
    values = read_values(next(good.iterdir()), predictor.policy)
    strong, strong_mask = with_defect(values, None, trial(contrast=0.2))
    faint, faint_mask = with_defect(values, None, replace(trial(contrast=0.2), contrast=0.05))
    assert (strong_mask == faint_mask).all()
    changes = [np.abs(image[strong_mask].astype(float) - values[strong_mask]).mean() / 255 for image in (strong, faint)]
    assert changes == pytest.approx([0.2, 0.05], abs=0.005)
    assert (faint[~faint_mask] == values[~faint_mask]).all()


def test_plan_covers_the_sizes_and_the_photos_evenly() -> None:
    trials = plan_trials(["hole", "crack"], [0.1, 0.2], 12, (4, 64), photos=5, seed=3)
    assert len(trials) == 48
    holes = [one for one in trials if (one.defect_type, one.contrast) == ("hole", 0.1)]
    steps = sorted(int(12 * np.log(one.asked_px / 4) / np.log(16)) for one in holes)
    assert steps == list(range(12))
    assert sorted(np.bincount([one.photo for one in holes])) == [2, 2, 2, 3, 3]
    assert trials == plan_trials(["hole", "crack"], [0.1, 0.2], 12, (4, 64), photos=5, seed=3)


def test_a_hit_is_an_alarm_at_the_defect_that_was_not_there_before(good: Path, predictor: Predictor) -> None:
    values = read_values(sorted(good.iterdir())[0], predictor.policy)

    def outcome(threshold: float) -> str:
        moved = predictor.with_threshold(threshold)
        return judge_trial(moved, trial(), values, None, moved.predict(values)).outcome

    image, mask = with_defect(values, None, trial())
    near = beside(mask)
    peak, twin = (float(predictor.predict(one).scored_map[near].max()) for one in (image, values))
    assert peak > twin
    assert outcome((peak + twin) / 2) == "hit"
    assert outcome(1.001 * peak) in ("miss", "elsewhere")
    assert outcome(0.999 * twin) == "alarmed_before"
    assert outcome(99) == "miss"


def test_region_at_the_photos_own_size() -> None:
    roi = np.zeros((8, 8), bool)
    roi[:, 4:] = True
    policy = PixelPolicy(size_px=(8, 8), roi_png=encode_roi(roi))
    values = np.full((24, 30, 3), 99, np.uint8)
    region = own_region(policy, values)
    assert region is not None
    assert region[:, 15:].all()
    assert not region[:, :15].any()
    assert own_region(PixelPolicy(size_px=(8, 8)), values) is None


def test_without_a_region_of_interest_defects_are_put_on_the_part_where_it_shows() -> None:
    """The drawn part is a disc on a dark ground."""
    photo = np.asarray(draw_part(np.random.default_rng(3))[0])
    policy = PixelPolicy(size_px=(64, 64))
    region = own_region(policy, photo)
    assert region is not None
    assert (photo[region].max(axis=1) > 100).all()
    assert region.mean() > 0.2
    assert own_region(policy, photo, anywhere=True) is None
    for seed in range(20):
        _, mask = with_defect(photo, region, trial(seed=seed))
        assert (region | ~mask).all()


def test_where_the_ground_is_not_plain_the_part_is_not_guessed() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert own_region(PixelPolicy(size_px=(64, 64)), noise) is None


def test_a_type_that_could_not_be_put_has_a_sentence_and_no_empty_chart() -> None:
    curve = {"defect_type": "hole", "contrast": 0.1, "fit": None}
    assert _chart("hole", [curve], {"defects": [], "sizes_px": [2, 9]}) is None
    row = {"defect_type": "hole", "contrast": 0.1, "size_px": 4.0, "outcome": "miss"}
    assert _chart("hole", [curve], {"defects": [row], "sizes_px": [2, 9]}) is not None


@pytest.mark.slow
def test_results_add_up_and_stronger_defects_are_found_more_often(
    good: Path, predictor: Predictor, tmp_path: Path
) -> None:
    found = challenge_model(predictor, read_folder(good), tmp_path / "out", QUICK)
    results = found.results
    content = json.loads(found.results_path.read_text())
    assert content == json.loads(json.dumps(results))
    assert misfits(content, Content) == []
    content["curves"][0].update(found=True, interval=[None], more=1)
    assert misfits(content, Content) == [".curves.0"]
    assert len(results["curves"]) == 4
    for curve in results["curves"]:
        rows = [
            row
            for row in results["defects"]
            if (row["defect_type"], row["contrast"]) == (curve["defect_type"], curve["contrast"])
        ]
        assert curve["found"] == sum(row["outcome"] == "hit" for row in rows)
        assert curve["defects"] == len(rows) - curve["alarmed_before"]
        assert len(rows) + curve["no_place"] == 10
        assert (curve["fit"] is None) == (curve["found"] in (0, curve["defects"]))
    by_contrast = {
        contrast: sum(curve["found"] for curve in results["curves"] if curve["contrast"] == contrast)
        for contrast in (0.1, 0.4)
    }
    assert by_contrast[0.4] > by_contrast[0.1]
    assert results["suspicious"] == []
    page = found.report_path.read_text()
    assert "not a promise about real ones" in page
    assert "largest missed" in page
    assert "<svg" in page
    assert "://" not in page


def test_same_seed_gives_the_same_defects(good: Path, predictor: Predictor, tmp_path: Path) -> None:
    settings = QUICK.model_copy(update={"defect_types": ("stain",), "contrasts": (0.2,)})
    rows = [
        challenge_model(predictor, read_folder(good), tmp_path / str(turn), settings).results["defects"]
        for turn in range(2)
    ]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_defect_given_as_good_is_named(predictor: Predictor, tmp_path: Path) -> None:
    root = write_parts(tmp_path / "parts", good=6, test=0, seed=9)
    Image.new("RGB", (64, 64), "white").save(root / "train/good/sneaked_in.png")
    threshold = 0.5 * (
        predictor.predict(root / "train/good/sneaked_in.png").score
        + max(predictor.predict(path).score for path in (root / "train/good").glob("0*.png"))
    )
    found = challenge_model(
        predictor.with_threshold(threshold), read_folder(root / "train/good"), tmp_path / "out", QUICK
    )
    assert [one["path"] for one in found.results["suspicious"]] == ["sneaked_in.png"]
    assert "sneaked_in.png" in found.report_path.read_text()


def test_defects_stay_inside_the_region_of_the_model(good: Path, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", good=8)
    inside = "data.roi=[[0, 0.25], [1, 0.25], [1, 0.75], [0, 0.75]]"
    from blemish.training.settings import make_settings
    from blemish.training.train import train_model

    for path in sorted((parts / "train/good").iterdir()):  # the drawn disc is of one value
        pixels = np.asarray(Image.open(path)) + np.random.default_rng(0).integers(0, 9, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    model = tmp_path / "roi.safetensors"
    train_model(parts, model, make_settings("conv_autoencoder", assignments=[*TINY, inside, "train.epochs=1"]))
    predictor = Predictor.load(model)
    values = read_values(next(good.iterdir()), predictor.policy)
    for seed in range(4):
        _, mask = with_defect(values, own_region(predictor.policy, values), trial(seed=seed))
        assert not mask[:15].any()
        assert not mask[49:].any()


def test_bad_input_is_refused(good: Path, predictor: Predictor, shared_parts: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(good.iterdir())[:4]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="4 good photos found, at least 5 are needed"):
        challenge_model(predictor, read_folder(few), tmp_path / "out", QUICK)
    with pytest.raises(DataError, match=r"test/good: 4 good photos found"):
        challenge_model(predictor, read_folder(shared_parts), tmp_path / "out", QUICK)
    with pytest.raises(SettingsError, match="defect type 'holes': unknown; did you mean 'hole'"):
        challenge_model(
            predictor, read_folder(good), tmp_path / "out", ChallengeSettings(defect_types=("holes",), defects=10)
        )
    with pytest.raises(SettingsError, match="the smallest must be below the largest"):
        challenge_model(predictor, read_folder(good), tmp_path / "out", QUICK.model_copy(update={"smallest_px": 50.0}))
    with pytest.raises(SettingsError, match="no defect larger than that fits"):
        challenge_model(predictor, read_folder(good), tmp_path / "out", QUICK.model_copy(update={"largest_px": 5000.0}))
    with pytest.raises(SettingsError, match="defects: should be less than or equal to 10000; found 1000000"):
        validate(ChallengeSettings, {"defects": 1_000_000})
    for twice in ({"defect_types": ("hole", "hole")}, {"contrasts": (0.1, 0.1)}):
        with pytest.raises(SettingsError, match=r"(hole|contrast 0\.1): given twice"):
            challenge_model(predictor, read_folder(good), tmp_path / "out", QUICK.model_copy(update=twice))
    flat = shutil.copytree(good, tmp_path / "flat")
    Image.new("RGB", (64, 16)).save(flat / "zz.png")
    policy = predictor.policy.model_copy(update={"aspect": 1.0})
    square = Predictor(predictor.header.model_copy(update={"policy": policy}), predictor._runtimes)
    with pytest.raises(DataError, match=r"zz\.png: 16 x 64"):
        challenge_model(square, read_folder(flat), tmp_path / "out", QUICK)


@pytest.mark.slow
def test_unreadable_photos_are_skipped_when_asked(good: Path, predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in good.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "junk.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"junk\.png: not an image"):
        challenge_model(predictor, read_folder(folder), tmp_path / "out", QUICK)
    found = challenge_model(
        predictor, read_folder(folder), tmp_path / "out", QUICK.model_copy(update={"skip_bad": True})
    )
    assert list(found.results["data"]["skipped"]) == ["junk.png"]


def test_what_cannot_be_put_anywhere_is_told(predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "black"
    folder.mkdir()
    for place in range(6):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / f"{place}.png")
    settings = ChallengeSettings(defect_types=("hole",), contrasts=(0.3,), defects=10)
    results = challenge_model(predictor.with_threshold(99), read_folder(folder), tmp_path / "out", settings).results
    (curve,) = results["curves"]
    assert (curve["defects"], curve["no_place"], curve["note"]) == (0, 8, "none could be put on these photos")
    assert verdict(results) == ["No synthetic defect could be put on these photos."]


def test_the_command_prints_a_table_and_writes_two_files(model_file: Path, good: Path, tmp_path: Path) -> None:
    options = ("--types", "hole", "--contrasts", "0.2", "--defects", "10")
    result = run("challenge", model_file, good, "-o", tmp_path / "out", *options)
    assert result.exit_code == 0
    assert "hole" in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"challenge.json", "challenge.html"}
    assert "only 8 photos" in result.stderr
    wrong = run("challenge", model_file, good, "-o", tmp_path / "out", "--contrasts", "0.2,2")
    assert wrong.exit_code == 2
    assert "--contrasts: should be" in wrong.stderr


def test_photos_that_were_fitted_and_saved_anew_are_refused(
    predictor: Predictor, shared_parts: Path, tmp_path: Path
) -> None:
    for path in (shared_parts / "train/good").iterdir():
        with Image.open(path) as photo:
            photo.save(tmp_path / f"{path.stem}.bmp")
    with pytest.raises(DataError, match=r"\.bmp: the model was fitted on it"):
        challenge_model(predictor, read_folder(tmp_path), tmp_path / "out", QUICK)


def test_photos_that_were_fitted_are_refused(predictor: Predictor, shared_parts: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted"
    shutil.copytree(shared_parts / "train/good", fitted)
    with pytest.raises(DataError, match=r"\.png: the model was fitted on it and \d+ more; .* has not seen"):
        challenge_model(predictor, read_folder(fitted), tmp_path / "out")
    assert not (tmp_path / "out").exists()
