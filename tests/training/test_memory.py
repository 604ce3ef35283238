"""Where memory runs out, batches are computed in parts: the same images and steps, or one clear error."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.data.progress import Progress, quiet
from blemish.errors import TrainingError
from blemish.inference.artifact import read_artifact
from blemish.models import DETECTORS
from blemish.models.detector import Detector, ImageShape
from blemish.settings import RunSettings, TrainSettings
from blemish.training import loop as loop_module
from blemish.training.checkpoint import Checkpoint
from blemish.training.loop import GradientLoop
from blemish.training.memory import explained
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY

SETTINGS = RunSettings(train=TrainSettings(epochs=3, max_steps=None, precision="float32", learning_rate=0.01))


class Weight(Detector):
    """One number a channel; `most` images fit into its memory."""

    def __init__(self, most: int = 1_000) -> None:
        super().__init__(ImageShape(3, 8, 8))
        self.weight = nn.Parameter(torch.ones(3))
        self.most, self.seen = most, list[int]()

    def fit(self, batches: Any, optimise: Any) -> None:
        optimise(batches, self.loss)

    def loss(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.seen.append(len(images))
        return (images.mean(dim=(2, 3)) * self.weight - 0.3).square().sum(1).mean()

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(1)


class Eights:
    """Two batches of eight images and one of five."""

    epoch = 0

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Tensor]:
        rng = torch.Generator().manual_seed(self.epoch)
        yield from torch.rand(21, 3, 8, 8, generator=rng).split(8)


def run(detector: Weight, folder: Path, told: list[Progress] | None = None) -> GradientLoop:
    checkpoint = Checkpoint(folder / "state", {}, 1e9, resume=False)
    loop = GradientLoop(detector, SETTINGS, "cpu", checkpoint, quiet if told is None else told.append)
    detector.fit(Eights(), loop)
    return loop


@pytest.mark.slow
def test_halved_batches_give_the_same_steps_and_weights(tmp_path: Path) -> None:
    told: list[Progress] = []
    plenty, little = Weight(), Weight(most=3)
    expected, found = run(plenty, tmp_path), run(little, tmp_path, told)
    torch.testing.assert_close(little.weight, plenty.weight, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.history["loss"], expected.history["loss"], rtol=1e-6)
    assert [(one.done, one.total) for one in told] == [(step, 9) for step in range(1, 10)]
    assert sum(little.seen) == sum(plenty.seen) == 3 * 21, "each image is seen once an epoch"
    assert set(little.seen) == {2, 3}
    assert found.parts == 4
    assert [note.partition(":")[0] for note in found.notes] == ["out of memory on cpu at step 1"] * 2
    assert "in parts of 2 at most" in found.notes[-1]
    assert not expected.notes


@pytest.mark.slow
def test_no_memory_for_two_images_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"out of memory on cpu with 2 images at once; lower train\.batch_size"):
        run(Weight(most=1), tmp_path)


def test_other_errors_of_torch_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Weight, images: Tensor) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(Weight, "loss", fail)
    with pytest.raises(RuntimeError, match="multiplied"):
        run(Weight(), tmp_path)


def test_a_resumed_run_keeps_its_parts(tmp_path: Path) -> None:
    detector = Weight(most=4)

    def stop(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "state", {}, 1e9, resume=False)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(Eights(), GradientLoop(detector, SETTINGS, "cpu", checkpoint, stop))
    resumed, again = Weight(), Checkpoint(tmp_path / "state", {}, 1e9, resume=True)
    loop = GradientLoop(resumed, SETTINGS, "cpu", again, quiet)
    resumed.fit(Eights(), loop)
    assert loop.parts == 2
    assert len(loop.notes) == 1
    assert max(resumed.seen) == 4


@pytest.mark.slow
def test_a_pass_without_gradients_is_gone_through_in_parts(
    shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, seen = DETECTORS["padim"], list[int]()
    assignments = ["data.size_px=[64, 64]", "train.batch_size=8"]
    train_model(shared_parts, tmp_path / "plenty", make_settings("padim", assignments=assignments), "cpu")
    fit = kind.fit

    def fit_in_little(self: Detector, batches: Any, optimise: Any) -> None:
        class Watched:
            epoch = 0

            def __len__(self) -> int:
                return len(batches)

            def __iter__(self) -> Iterator[Tensor]:
                for batch in batches:
                    if len(batch) > 4:
                        raise torch.OutOfMemoryError("CUDA out of memory.")
                    seen.append(len(batch))
                    yield batch

        fit(self, Watched(), optimise)

    monkeypatch.setattr(kind, "fit", fit_in_little)
    header = train_model(shared_parts, tmp_path / "little", make_settings("padim", assignments=assignments), "cpu")
    assert any("out of memory on cpu" in note and "4 at most" in note for note in header.data_card.notes)
    assert sum(seen) == header.data_card.fit_images
    expected, found = (read_artifact(tmp_path / name)[0] for name in ("plenty", "little"))
    np.testing.assert_allclose(found.calibration_scores, expected.calibration_scores, rtol=0.01)


@pytest.mark.slow
def test_training_that_fits_nowhere_writes_nothing(
    shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DETECTORS["conv_autoencoder"], "loss", fail)
    with pytest.raises(TrainingError, match="out of memory on cpu"):
        train_model(shared_parts, tmp_path / "m", make_settings("conv_autoencoder", assignments=TINY), "cpu")
    assert not (tmp_path / "m").exists()


def test_what_apples_gpu_cannot_do_is_said() -> None:
    with (
        pytest.raises(TrainingError, match=r"cannot compute this detector \(Cannot convert a MPS Tensor to float64"),
        explained(torch.device("mps"), lambda: False),
    ):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")


@pytest.mark.parametrize("computes", [True, False])
def test_a_gpu_trains_in_bfloat16_where_it_computes_in_it(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    """Emulated, as on GPUs before Ampere, it would be slower than float32."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or computes
    )
    assert loop_module._use_bfloat16(TrainSettings(), "cuda") is computes
    assert not loop_module._use_bfloat16(TrainSettings(precision="float32"), "cuda")
    assert not loop_module._use_bfloat16(TrainSettings(), "mps")


FREED = """
import ctypes, resource
import numpy as np
from blemish.training.memory import keep_freed_memory

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of 4 KiB alone
keep_freed_memory()
np.ones(100 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(100 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its memory is not glibc's here")
@pytest.mark.parametrize("environment", [{}, {"MALLOC_TRIM_THRESHOLD_": "1"}])
def test_large_arrays_are_not_mapped_again(environment: dict[str, str]) -> None:
    """But where the environment says how memory is kept: 100 MiB are 25,600 pages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    ran = subprocess.run(
        [sys.executable, "-c", FREED], env=kept | environment, capture_output=True, text=True, check=True
    )
    assert (int(ran.stdout) < 1000) == (not environment)
