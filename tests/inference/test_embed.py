"""docs/howto/embed.md: the programs around an exported model give the scores that Predictor gives."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from blemish.inference.predictor import Predictor
from blemish.training.export import export_model
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY

ROOT = Path(__file__).parents[2]
PROGRAM = re.search(r"```cpp\n(.*?)```", (ROOT / "docs/howto/embed.md").read_text(encoding="utf-8"), re.DOTALL)

pytestmark = pytest.mark.slow

VARIANTS: dict[str, list[str]] = {
    "as it is": [],
    "grey": ["data.channels=1"],
    "aspect kept": ["data.size_px=None", "data.side_px=64"],
    "defects of three pixels in a region": [
        "score.min_defect_px=3",
        "data.roi=[[0.1, 0.0], [0.9, 0.2], [1.0, 0.9], [0.0, 1.0]]",
    ],
    "a part of the photo": ["data.roi=[[0.1, 0.6], [0.4, 0.6], [0.4, 0.9]]", "data.ignore=[0.3, 0.6, 0.35, 0.7]"],
    "padded": ["data.fit=pad", "data.size_px=[64, 96]"],
    "tiles": ["data.size_px=[96, 96]", "data.tile_px=[64, 64]", "data.tile_overlap_px=32"],
}

Judge = Callable[[Path, Path], tuple[float, bool]]


@pytest.fixture(scope="module", params=VARIANTS)
def exported(request: pytest.FixtureRequest, shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed")
    settings = make_settings("conv_autoencoder", assignments=[*TINY, *VARIANTS[request.param]])
    train_model(shared_parts, folder / "model.safetensors", settings)
    export_model(folder / "model.safetensors", folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ program, built with onnxruntime's C++ package where ONNXRUNTIME_HOME says it is.

    Else with the library in the Python package, and a header that holds the calls the program makes.
    """
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler: g++ is not on the path")
    folder = tmp_path_factory.mktemp("cpp")
    assert PROGRAM is not None
    (folder / "embed.cpp").write_text(PROGRAM[1], encoding="utf-8")
    if home := os.environ.get("ONNXRUNTIME_HOME"):
        include, library = Path(home) / "include", Path(home) / "lib"
    else:
        include, library = ROOT / "tests/reference/onnxruntime_cxx", folder
        (shared,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
        for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
            (folder / name).symlink_to(shared)
    flags = [
        "-std=c++17",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{include}",
        f"-L{library}",
        f"-Wl,-rpath,{library}",
    ]
    command = ["g++", *flags, "embed.cpp", "-lonnxruntime", "-o", "embed"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    return folder / "embed"


def in_python(model: Path, photo: Path) -> tuple[float, bool]:
    spec = importlib.util.spec_from_file_location("embed", ROOT / "examples/embed.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    judged: tuple[float, bool] = module.judge(str(model), str(photo))
    return judged


def photos(folder: Path, square: bool) -> list[Path]:
    """Photos larger, smaller and as large as what the network sees, with every value and with sharp edges."""
    rng = np.random.default_rng(0)
    sizes = (
        [(64, 64), (200, 203), (333, 321), (17, 17)] if square else [(64, 64), (90, 200), (333, 100), (1, 1), (7, 3)]
    )
    paths = []
    for place, (height, width) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels[height // 3 :, : width // 2] = 255
        paths.append(folder / f"{place}.bmp")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def check(judge: Judge, model: Path, folder: Path) -> None:
    predictor = Predictor.load(model)
    for photo in photos(folder, square=predictor.policy.aspect is not None):
        expected = predictor.predict(photo)
        assert judge(model, photo) == (expected.score, expected.is_anomalous), photo.name


def test_the_program_is_short() -> None:
    assert PROGRAM is not None
    assert PROGRAM[1].count("\n") < 130


def test_python_gives_the_scores_of_predictor(exported: Path, tmp_path: Path) -> None:
    check(in_python, exported, tmp_path)


def test_cpp_gives_the_scores_of_predictor(compiled: Path, exported: Path, tmp_path: Path) -> None:
    def judge(model: Path, photo: Path) -> tuple[float, bool]:
        ran = subprocess.run([compiled, model, photo], capture_output=True, text=True, timeout=60)
        assert ran.returncode in (0, 1), ran.stderr
        score, verdict = ran.stdout.split()
        assert (verdict == "ANOMALOUS") == bool(ran.returncode)
        return float(np.float32(score)), bool(ran.returncode)

    policy = Predictor.load(exported).policy
    if policy.tile_px is not None or policy.fit == "pad":
        with pytest.raises(AssertionError, match="judged in tiles or padded"):
            judge(exported, photos(tmp_path, square=True)[0])
    else:
        check(judge, exported, tmp_path)


def test_cpp_refuses_what_it_cannot_judge(compiled: Path, onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.bmp").write_bytes(b"BM" + bytes(100))
    for arguments, message in (
        ([onnx_file, tmp_path / "photo.bmp"], "not a 24-bit BMP"),
        ([tmp_path / "photo.bmp", tmp_path / "photo.bmp"], "failed"),
        ([], "give a model and a photo"),
    ):
        ran = subprocess.run([compiled, *arguments], capture_output=True, text=True, timeout=60)
        assert (ran.returncode, message in ran.stderr) == (2, True), ran.stderr
