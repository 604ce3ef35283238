"""calibration=cross: as many detectors as folds, one file, the mildest one's word, and a run that can be resumed."""

from pathlib import Path

import numpy as np
import pytest

from blemish.data.folder import read_folder
from blemish.data.images import prepare
from blemish.data.progress import Progress
from blemish.errors import ArtifactError, CalibrationError, DataError, SettingsError
from blemish.inference.artifact import read_artifact
from blemish.inference.predictor import Predictor, scored_map
from blemish.inference.score import max_score
from blemish.training.export import export_model
from blemish.training.settings import make_settings
from blemish.training.train import state_path, train_model
from conftest import TINY, write_parts

CROSS = [*TINY, "train.epochs=1", "score.calibration=cross", "score.folds=3"]


def settings(*more: str):
    return make_settings("conv_autoencoder", assignments=[*CROSS, *more])


pytestmark = pytest.mark.slow  # cross_file trains twice


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("seven") / "parts", good=7, test=3)


@pytest.fixture(scope="module")
def cross_file(seven: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cross") / "m.safetensors"
    train_model(seven, path, settings())
    return path


def test_the_certificate_is_that_of_the_folds(cross_file: Path) -> None:
    header, tensors = read_artifact(cross_file)
    assert (header.detectors, header.calibration.folds.count(0), len(header.calibration_scores)) == (3, 2, 6)
    assert (header.data_card.fit_images, header.data_card.calibration_images) == (7, 6)
    assert (header.certificate.kind, header.max_false_alarm_rate) == ("cross", 0.25)
    assert header.threshold == header.calibration_scores[-1]
    assert sum(name.startswith("fold2.") for name in tensors) > 0
    assert len(header.history) == 3


def test_the_score_is_the_smallest_of_all_detectors(cross_file: Path, seven: Path) -> None:
    predictor = Predictor.load(cross_file, device="cpu")
    for sample in read_folder(seven).test:
        prepared = prepare(sample.path, predictor.policy)
        maps = [scored_map(runtime, prepared, predictor.header.run.score) for runtime in predictor._runtimes]
        found = predictor.predict(sample.path)
        assert len({max_score(one) for one in maps}) == 3
        assert found.score == min(max_score(one) for one in maps) == found.scored_map.max()
        assert found.is_anomalous == (found.p_value <= predictor.header.max_false_alarm_rate)


def test_another_rate_is_promised_by_the_folds_alone(cross_file: Path) -> None:
    predictor = Predictor.load(cross_file, device="cpu")
    assert predictor.with_false_alarm_rate(0.5).threshold < predictor.threshold
    with pytest.raises(CalibrationError, match=r"3 folds of 6 good images can promise 0\.25 at the least"):
        predictor.with_false_alarm_rate(0.1)
    with pytest.raises(SettingsError, match="which can promise a rate on average only"):
        predictor.with_false_alarm_rate(0.5, confidence=0.9)


class StopIn:
    """Interrupts the training of one of the folds."""

    def __init__(self, fold: int) -> None:
        self.fold, self.begun = fold, 0

    def __call__(self, progress: Progress) -> None:
        if progress.what == "training" and progress.done == 1:
            self.begun += 1
        if self.begun == self.fold + 1 and progress.what == "training" and progress.done == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("fold", [0, 1])
def test_a_run_that_was_cut_off_goes_on_in_its_fold(seven: Path, cross_file: Path, tmp_path: Path, fold: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_model(seven, tmp_path / "m", settings(), report=StopIn(fold))
    again = StopIn(9)
    train_model(seven, tmp_path / "m", settings(), resume=True, report=again)
    assert again.begun == 2 - fold
    (header, tensors), (whole, wanted) = read_artifact(tmp_path / "m"), read_artifact(cross_file)
    assert header.calibration_scores == whole.calibration_scores
    assert all(np.array_equal(tensors[name], wanted[name]) for name in wanted)
    assert not state_path(tmp_path / "m").exists()


def test_groups_are_left_out_together(seven: Path, tmp_path: Path) -> None:
    header = train_model(seven, tmp_path / "m", settings(r"data.groups=/00(.)", "score.folds=2"))
    assert (len(header.calibration.folds), header.certificate.groups, header.certificate.n) == (6, 6, 6)


def test_what_folds_cannot_do_is_refused(cross_file: Path, seven: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="3 detectors that judge together"):
        export_model(cross_file, tmp_path / "m.onnx")
    with pytest.raises(DataError, match="9 folds of 7 good images"):
        train_model(seven, tmp_path / "m", settings("score.folds=9"))
    with pytest.raises(CalibrationError, match=r"can promise 0\.25 at the least, found 0\.1; make more folds"):
        train_model(seven, tmp_path / "m", settings("score.max_false_alarm_rate=0.1"))
    with pytest.raises(SettingsError, match=r"score\.confidence: found 0\.9 with folds"):
        train_model(seven, tmp_path / "m", settings("score.confidence=0.9"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_random_is_drawn_again_in_each_fold(seven: Path, tmp_path: Path) -> None:
    """Else the detectors have the same luck, which their certificate takes for as many draws as there are folds."""
    options = ["score.calibration=cross", "score.folds=3", "data.size_px=[64, 64]", "model.dimensions=20"]
    train_model(seven, tmp_path / "m", make_settings("padim", assignments=options))
    _, tensors = read_artifact(tmp_path / "m")
    assert len({tensors[f"fold{fold}.kept"].tobytes() for fold in range(3)}) == 3
