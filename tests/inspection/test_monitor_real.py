"""A watch over photographs: calm while they are drawn at random, and quick when lamp, lens or position change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from blemish.data.folder import read_folder
from blemish.data.images import prepare, read_original
from blemish.data.photo_values import PHOTO_VALUES, photo_values
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.predictor import Predictor
from blemish.inspection.monitor_bets import SCORE, Watch
from blemish.stats.martingale import drifted, start_martingale
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from reference.chance import most_of
from reference.streams import watch

pytestmark = pytest.mark.data

QUICK = ["data.side_px=128", "model.latent=16", "train.max_steps=20", "augment.images_of_one=1"]
ORDERS = 5

Change = Callable[[Image.Image], Image.Image]


def darker(share: float) -> Change:
    """A weaker lamp."""
    return lambda image: ImageEnhance.Brightness(image).enhance(1 - share)


def blurred(sigma_px: float) -> Change:
    """Out of focus."""
    return lambda image: image.filter(ImageFilter.GaussianBlur(sigma_px))


def moved(share: float) -> Change:
    """Shifted to the right by a share of the width; the left edge goes on as it was."""

    def move(image: Image.Image) -> Image.Image:
        pixels, width = np.asarray(image), round(share * image.width)
        return Image.fromarray(np.concatenate([np.repeat(pixels[:, :1], width, axis=1), pixels[:, :-width]], axis=1))

    return move


LIMITS: dict[str, dict[str, tuple[Change, int]]] = {
    "hazelnut_toy": {
        "lamp 20 % weaker": (darker(0.2), 60),
        "blur of 4 px": (blurred(4), 60),
        "moved by 15 %": (moved(0.15), 60),
    },
    "mvtec_toothbrush": {
        "lamp 10 % weaker": (darker(0.1), 50),
        "blur of 2 px": (blurred(2), 30),
        "moved by 2 %": (moved(0.02), 30),
    },
    "kolektorsdd": {
        "lamp 10 % weaker": (darker(0.1), 25),
        "blur of 2 px": (blurred(2), 15),
        "moved by 15 %": (moved(0.15), 50),
    },
}
"""Within how many images each change is noticed, from the first image on, at a false-alarm probability of 1 %."""


def split(name: str, root: Path, into: Path) -> tuple[Path, list[Path]]:
    """Two thirds of the good training images to train on, drawn at random, and the others."""
    paths = [sample.path for sample in read_folder(root).train]
    order = np.random.default_rng(0).permutation(len(paths))
    folder = into / name
    folder.mkdir()
    for place in order[: 2 * len(paths) // 3]:
        shutil.copy(paths[place], folder / paths[place].name)
    return folder, [paths[place] for place in order[2 * len(paths) // 3 :]][:40]


def values_of(predictor: Predictor, path: Path, change: Change) -> dict[str, float]:
    picture = read_original(path)
    changed = change(picture.convert("L") if predictor.policy.channels == 1 else picture)
    prepared = prepare(changed, predictor.policy)
    return {
        SCORE: predictor.predict_prepared(prepared).score,
        **photo_values(prepared.pixels(), predictor.policy.roi),
    }


def images_until_alarm(header: ArtifactHeader, values: list[dict[str, float]], seed: int, most: int) -> int | None:
    """The images over and over, each time in another order."""
    rng, line = np.random.default_rng(seed), Watch(header, None, None)
    places = np.concatenate([rng.permutation(len(values)) for _ in range(most)])[:most]
    return next((count for count, place in enumerate(places, 1) if line.look("", values[place], rng)), None)


@pytest.mark.parametrize("name", LIMITS)
def test_every_change_is_noticed_within_so_many_images(
    name: str, real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, others = split(name, real_data(name), tmp_path)
    model = tmp_path / "model.safetensors"
    train_model(folder, model, make_settings("conv_autoencoder", assignments=QUICK), device="cpu")
    predictor = Predictor.load(model, device="cpu")
    for what, (change, most) in LIMITS[name].items():
        values = [values_of(predictor, path, change) for path in others]
        delays = [images_until_alarm(predictor.header, values, seed, most) for seed in range(ORDERS)]
        assert None not in delays, f"{what}: {delays}"


def test_photographs_drawn_at_random_raise_no_more_false_alarms_than_promised(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """At a probability of 0.2: 120 times, 30 of the 280 good photos first, then 60 others."""
    train_model(
        real_data("kolektorsdd"),
        tmp_path / "m",
        make_settings("conv_autoencoder", assignments=[*QUICK, "train.max_steps=1"]),
        device="cpu",
    )
    card = Predictor.load(tmp_path / "m", device="cpu").header.calibration
    rng, delta, times, alarms = np.random.default_rng(0), 0.2, 120, 0
    for _ in range(times):
        streams = {}
        for name in PHOTO_VALUES:
            drawn = rng.permutation(card.photo_values[name])[:90]
            streams[name] = watch(start_martingale(drawn[:30], digits=4), drawn[30:], rng)
        alarms += bool(drifted(streams, delta))
    assert alarms / times <= most_of(times, delta)


def test_the_later_boards_of_kolektorsdd_are_others_than_the_first(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    """The set is ordered by board; those after number 280 are darker and less sharp, which a watch must notice."""
    root = real_data("kolektorsdd")
    train_model(
        root, tmp_path / "m", make_settings("conv_autoencoder", assignments=[*QUICK, "train.max_steps=1"]), device="cpu"
    )
    predictor = Predictor.load(tmp_path / "m", device="cpu")
    good = [sample.path for sample in read_folder(root).test if not sample.label]
    values = [values_of(predictor, path, lambda image: image) for path in good]
    line, rng = Watch(predictor.header, None, None), np.random.default_rng(0)
    raised = [alarm for value in values for alarm in line.look("", value, rng)]
    assert {"brightness", "sharpness"} & {alarm.stream for alarm in raised}
