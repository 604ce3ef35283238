"""One product: the same model as `blemish train` and `export` make, kept where nothing has changed, and its errors."""

import shutil
from pathlib import Path

import pytest

from blemish.data.progress import Progress
from blemish.errors import DataError
from blemish.fleet.plan import PlanRow
from blemish.fleet.product import EXPORTED, RECORD, TRAINED, Record, Wish, entry_of, job_of, read_record, train_product
from blemish.fleet.train import check_registry
from blemish.inference.runtime import header_of
from blemish.training.settings import make_settings
from blemish.training.train import state_path
from conftest import TINY, write_parts

WISH = Wish(check=False)


def row(folder: Path, *more: str) -> PlanRow:
    return PlanRow("nut", folder, make_settings("conv_autoencoder", assignments=[*TINY, "train.epochs=1", *more]))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With enough good test images for a challenge; read only."""
    return write_parts(tmp_path_factory.mktemp("images") / "nut", test=6)


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A product trained once; read only."""
    folder = tmp_path_factory.mktemp("registry") / "nut"
    record, is_kept = train_product(row(images), folder, WISH)
    assert (record.status, record.error, is_kept) == ("trained", "", False)
    return folder, record


@pytest.mark.slow
def test_the_model_is_that_of_train_and_export(trained: tuple[Path, Record], images: Path, tmp_path: Path) -> None:
    from blemish.inference.predictor import Predictor
    from blemish.training.export import export_model
    from blemish.training.train import train_model

    header = train_model(images, tmp_path / TRAINED, row(images).settings, "cpu")
    export_model(tmp_path / TRAINED, tmp_path / EXPORTED)
    folder, record = trained
    assert record.model is not None
    assert record.model.promise == header.certificate.promise
    assert header_of(folder / TRAINED).calibration_scores == header.calibration_scores
    ours, theirs = (Predictor.load(path / EXPORTED, "cpu", 1) for path in (folder, tmp_path))
    for path in sorted((images / "test").rglob("*.png")):
        assert ours.predict(path).score == theirs.predict(path).score
        assert ours.predict(path).p_value == theirs.predict(path).p_value


@pytest.mark.slow
def test_what_is_finished_is_kept_and_what_has_changed_is_trained_again(
    trained: tuple[Path, Record], images: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "nut")
    again, is_kept = train_product(row(images), folder, WISH)
    assert (again, is_kept) == (trained[1], True)
    other, is_kept = train_product(row(images, "seed=1"), folder, WISH)
    assert (other.status, is_kept) == ("trained", False)
    assert other.model is not None
    assert other.model.sha256 != trained[1].model.sha256  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_model_that_was_exchanged_is_not_written_over(
    trained: tuple[Path, Record], images: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "nut")
    (folder / EXPORTED).write_bytes(b"mine")
    for more in ("seed=0", "seed=1"):
        refused, _ = train_product(row(images, more), folder, WISH)
        assert refused.status == "failed"
        assert "model.onnx: not the file that was written here" in refused.error
        assert (folder / EXPORTED).read_bytes() == b"mine"
    (folder / EXPORTED).unlink()
    mended, _ = train_product(row(images), folder, WISH)
    assert (mended.status, mended.error) == ("trained", "")


@pytest.mark.slow
def test_a_challenge_can_be_asked_for_later(trained: tuple[Path, Record], images: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "nut")
    found, is_kept = train_product(row(images), folder, WISH._replace(challenge=10))
    assert not is_kept
    assert found.model == trained[1].model  # not trained again
    assert found.challenge is not None
    assert found.challenge.defects > 20
    assert found.challenge.a90_px is not None or found.challenge.note
    assert (folder / "challenge.html").is_file()


@pytest.mark.slow
def test_what_cannot_be_trained_is_a_record_and_keeps_the_model(
    trained: tuple[Path, Record], images: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "nut")
    few = write_parts(tmp_path / "few", good=1, test=0)
    record, _ = train_product(row(few), folder, WISH)
    assert record.status == "failed"
    assert "1 good image found" in record.error
    assert record.model == trained[1].model
    assert entry_of(record) == entry_of(trained[1])
    assert read_record(folder, "nut") == record
    shutil.rmtree(few)
    gone, _ = train_product(row(few), folder, WISH)
    assert gone.status == "failed"
    assert "no such folder" in gone.error
    back, _ = train_product(row(images), folder, WISH)
    assert (back.status, back.error) == ("trained", "")


def test_an_error_is_a_record_and_nothing_else(tmp_path: Path) -> None:
    few = write_parts(tmp_path / "few", good=1, test=0)
    record, is_kept = train_product(row(few), tmp_path / "nut", WISH)
    assert (record.status, record.model, entry_of(record), is_kept) == ("failed", None, None, False)
    assert record.error.startswith("DataError: ")
    assert [path.name for path in (tmp_path / "nut").iterdir()] == ["product.json"]
    assert read_record(tmp_path / "nut", "nut") == record


@pytest.mark.slow
def test_a_training_that_was_cut_off_goes_on_from_its_checkpoint(
    trained: tuple[Path, Record], images: Path, tmp_path: Path
) -> None:
    from blemish.training.train import train_model

    folder = tmp_path / "nut"
    folder.mkdir()
    begun = Record(product="nut", job=job_of(row(images)), is_replacing=True)
    (folder / RECORD).write_text(begun.model_dump_json())
    steps = 0

    def cut_off(progress: Progress) -> None:
        nonlocal steps
        steps += progress.what == "training"
        if steps > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(images, folder / TRAINED, row(images).settings, "cpu", report=cut_off)
    state = state_path(folder / TRAINED).read_bytes()
    shutil.copytree(folder, tmp_path / "damaged")
    state_path(tmp_path / "damaged" / TRAINED).write_bytes(state[: len(state) // 2])
    refused, _ = train_product(row(images), tmp_path / "damaged", WISH)
    assert refused.error.startswith("ArtifactError")  # so the state is read, and the training not begun again
    record, _ = train_product(row(images), folder, WISH)
    assert (record.status, record.error) == ("trained", "")
    assert header_of(folder / TRAINED).calibration_scores == header_of(trained[0] / TRAINED).calibration_scores
    assert not state_path(folder / TRAINED).exists()


@pytest.mark.slow
def test_a_state_of_another_job_is_not_gone_on_with(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nut"
    folder.mkdir()
    state_path(folder / TRAINED).write_bytes(b"of other settings")
    record, _ = train_product(row(images), folder, WISH)
    assert (record.status, record.error) == ("trained", "")


def test_a_folder_that_is_no_registry_is_left_alone(images: Path, tmp_path: Path) -> None:
    plan = [row(images)]
    check_registry(tmp_path / "new", plan)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds notes.txt and no registry.json"):
        check_registry(tmp_path / "mine", plan)
    (tmp_path / "mine/registry.json").write_text('{"another": "program"}')
    with pytest.raises(DataError, match="not a registry"):
        check_registry(tmp_path / "mine", plan)
    (tmp_path / "mine/registry.json").write_text('{"written_by": "blemish fleet"}')
    check_registry(tmp_path / "mine", plan)
    (tmp_path / "mine/nut").mkdir()
    (tmp_path / "mine/nut/photo.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"nut: holds no product.json"):
        check_registry(tmp_path / "mine", plan)
    with pytest.raises(DataError, match="a file; name a folder"):
        check_registry(tmp_path / "mine/notes.txt", plan)
    with pytest.raises(DataError, match="inside a folder of good training images"):
        check_registry(images / "train/good", plan)
