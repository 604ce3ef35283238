"""One run of a comparison or a sweep: a detector trained, calibrated and evaluated on one data set with one seed."""

import hashlib
import json
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, final

from blemish.data.files import atomic_write, make_folder
from blemish.data.folder import PARTS, Folder, Sample, hash_samples, read_folder
from blemish.data.images import PixelPolicy, read_photo
from blemish.data.progress import Progress, Report
from blemish.errors import ArtifactError, BadFileError, BlemishError, DataError, SettingsError, nearest
from blemish.evaluation.compare.summary import Nested
from blemish.evaluation.evaluate import REPORT, RESULTS, evaluate_model
from blemish.evaluation.results import EvaluateSettings, Results
from blemish.evaluation.threshold_counts import MAPS
from blemish.inference.artifact import ArtifactHeader, read_artifact
from blemish.inference.predictor import Predictor
from blemish.models import DETECTORS, PRESETS
from blemish.settings import MaskValues, RunSettings, merge, parse_assignment, read_toml
from blemish.training.settings import make_settings
from blemish.training.train import state_path, train_model

MOST_SEEDS = 1000
"""Of one detector, data set and value."""


@final
@dataclass(frozen=True)
class Dataset:
    """A data set with test images; the two hashes say what is in its files."""

    name: str
    folder: Folder
    train_sha256: str
    test_sha256: str


def read_datasets(roots: Sequence[Path], skip_bad: bool = False) -> list[Dataset]:
    """The data sets, each under the name of its folder; the second of one name gets its parent's in front.

    The first keeps its name, so that a set that is added changes no other's.

    Raises:
        DataError: a folder that cannot be read, has no images to fit or none to test on, has names that are not UTF-8
            (unless `skip_bad`), or is given twice.
    """
    folders = [read_folder(root) for root in roots]
    paths = [folder.root.resolve() for folder in folders]
    datasets: list[Dataset] = []
    for folder, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise DataError(f"{folder.root}: given twice; each dataset is compared once")
        _check_parts(folder, skip_bad)
        taken = {dataset.name for dataset in datasets}
        datasets.append(Dataset(_free_name(path, taken), folder, *_hashes(folder)))
    return datasets


def _free_name(path: Path, taken: Collection[str]) -> str:
    """The folder's name, with as many of its parents' in front as it takes to be another than those taken.

    >>> _free_name(Path("/a/b/nuts"), {"nuts", "b-nuts"})
    'a-b-nuts'
    """
    names = [part for part in path.parts if part != path.anchor]
    longer = ("-".join(names[-count:]) for count in range(1, len(names) + 1))
    return next((name for name in longer if name not in taken), f"{'-'.join(names)}-{len(taken)}")


def _hashes(folder: Folder) -> tuple[str, str]:
    masks = [
        Sample(path, f"mask of {sample.name}" + (f" ({number})" if number else ""))
        for sample in folder.test
        for number, path in enumerate(sample.mask_paths)
    ]
    return hash_samples(folder.train), hash_samples([*folder.test, *masks])


def _check_parts(folder: Folder, skip_bad: bool) -> None:
    for part in PARTS:
        folder.left_out(part, skip_bad)
    if not folder.test:
        raise DataError(
            f"{folder.root}: no test images; put good ones into test/good and, where there are any, "
            "defective ones into test/<defect type>"
        )
    if not folder.train:
        raise DataError(f"{folder.root}: no good images to fit; put them in train/good")


MODEL, RECORD, LOG = "model.safetensors", "run.json", "error.log"
LOCK = ".lock"
"""In a folder of runs: held by the one process that works there."""

OnRun = Callable[["Outcome"], None]
"""Told what came of each run."""

Status = Literal["finished", "failed", "kept"]
"""kept: finished in an earlier run, with the same settings and images."""


@final
@dataclass(frozen=True)
class Run:
    """What is to be trained and evaluated, and the folder it goes to. `name` is a detector's or a preset's."""

    dataset: Dataset
    name: str
    settings: RunSettings
    evaluate: EvaluateSettings
    path: Path

    @property
    def mask_values(self) -> MaskValues:
        """What the masks that it is evaluated with mean."""
        return self.evaluate.mask_values(self.settings.data)

    @property
    def model(self) -> Path:
        """The model file."""
        return self.path / MODEL

    @property
    def training(self) -> str:
        """A hash of all that decides the weights and the threshold."""
        settings = self.settings.model_dump(mode="json")
        files = named_files(self.settings)
        return _sha256([settings, files, self.dataset.train_sha256, version("blemish")])

    @property
    def judging(self) -> str:
        """A hash of all else that decides the results."""
        return _sha256([self.evaluate.model_dump(mode="json"), self.dataset.test_sha256])


@final
@dataclass(frozen=True)
class Outcome:
    """What came of a run: its `results.json`, or the error that ended it."""

    run: Run
    status: Status
    error: str | None = None
    results: Results | None = None
    artifact_bytes: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    """Why images, or their masks, were left out of the training or of the evaluation, by name."""


Content = TypeVar("Content")


@final
@dataclass(frozen=True)
class Compared(Generic[Content]):
    """The content of the JSON file that was written of the runs, and how many of them failed.

    `skipped` has why images were left out of runs.
    """

    content: Content
    failed: int
    skipped: dict[str, str]


def skipped_in(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Why images were left out of runs, by data set and name."""
    return {f"{one.run.dataset.name}/{name}": why for one in outcomes for name, why in one.skipped.items()}


def settings_of(name: str, toml: Path | None, assignments: Sequence[str], seed: int) -> RunSettings:
    """All settings of a run. An assignment `NAME:setting=value` holds for that detector or preset alone, and wins.

    Raises:
        SettingsError: an unknown detector, preset or setting, or one that the detector does not have; `detector` or
            `seed` among the settings, which have options of their own.

    >>> settings_of("ae_l2", None, ["ae_l2:model.latent=9", "model.latent=5", "seed:model.latent=3"], 0).model["latent"]
    9
    """
    mine = _mine(name, assignments)
    asked = merge(read_toml(toml) if toml else {}, *(parse_assignment(text) for text in mine))
    for taken in {"detector", "seed"} & asked.keys():
        raise SettingsError(f"{taken}: found {asked[taken]!r} among the settings; give it by --{taken}s")
    try:
        return make_settings(name, toml, [*mine, f"seed={seed}"])
    except SettingsError as error:
        known = name in DETECTORS or name in PRESETS
        raise SettingsError(f"{name}: {error}" if known else str(error)) from None


def check_asked(detectors: Sequence[str], seeds: int) -> None:
    """Refuse detectors that are none or given twice, and so many seeds as a seed itself would be, or none.

    Raises:
        SettingsError: as said.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise SettingsError(f"--seeds {seeds}: how many runs of each; give 1 to {MOST_SEEDS}")
    if not detectors:
        raise SettingsError("--detectors: none given; for example patchcore,padim")
    if len(set(detectors)) < len(detectors):
        raise SettingsError(f"--detectors {','.join(detectors)}: each may be given once")


def _mine(name: str, assignments: Sequence[str]) -> list[str]:
    """What is for all, then what is for this detector alone."""
    general, own = [], []
    for text in assignments:
        head, colon, rest = text.partition(":")
        known = [*DETECTORS, *PRESETS]
        if not colon or "=" in head:
            general.append(text)
        elif head not in known:
            raise SettingsError(f"--set {text}: unknown detector or preset '{head}'; {nearest(head, known)}")
        elif head == name:
            own.append(rest)
    return [*general, *own]


def refuse_unused(assignments: Sequence[str], names: Sequence[str]) -> None:
    """Refuse an assignment for a detector that is not among `names`, rather than leave it out silently.

    Raises:
        SettingsError: naming the nearest of them.
    """
    for text in assignments:
        head, colon, _ = text.partition(":")
        if colon and "=" not in head and head not in names:
            raise SettingsError(f"--set {text}: no detector '{head}' is trained here; {nearest(head, names)}")


def refuse_bad_files(runs: Sequence[Run], report: Report) -> None:
    """Refuse images and masks that cannot be read before the first run, and not in each of them.

    Runs that are kept are not looked at, and each image once for all runs that read it in the same way.

    Raises:
        DataError: the first of them, unless bad files are left out.
    """
    to_do = [run for run in runs if _kept(run) is None]
    looks: dict[tuple[Sample, PixelPolicy], None] = {}
    for run in to_do:
        data, folder = run.settings.data, run.dataset.folder
        policy = PixelPolicy(size_px=(8, 8), white_level=data.white_level, max_image_px=data.max_image_px)
        train = () if data.skip_bad else folder.train
        test = () if run.evaluate.skip_bad else [replace(sample, **run.mask_values) for sample in folder.test]
        looks |= dict.fromkeys((sample, policy) for sample in (*train, *test))
    for done, (sample, policy) in enumerate(looks, start=1):
        try:
            height, width, *_ = read_photo(sample.path, policy)[0].shape
            sample.load_mask((height, width), (height, width))
        except DataError as error:
            raise BadFileError(error) from None
        report(Progress("reading", done, len(looks)))
    for run in {(run.dataset.name, *run.mask_values.values()): run for run in to_do}.values():
        run.dataset.folder.check_good_masks(**run.mask_values)


def execute_run(run: Run, device: str, report: Report) -> Outcome:
    """Train, calibrate and evaluate, unless that was done before; training that was cut off goes on where it was.

    An error is caught and written to `error.log` and `run.json`; only an interruption passes through.

    Raises:
        DataError: the run's folder cannot be written.
    """
    if kept := _kept(run):
        return kept
    before = _read(run)
    if not _is_trained(run, before, _header(run)):
        _forget(run)
    found: Nested = {"status": "running", "training": run.training, "judging": run.judging}
    _write(run, found)
    for name in (LOG, RESULTS) if before else (LOG,):  # a damaged one is ours, too, but no longer says so
        (run.path / name).unlink(missing_ok=True)
    try:
        outcome = _finished(run, "finished", _train_and_evaluate(run, device, report))
    except Exception as error:
        _write_log(run, error)
        outcome = Outcome(run, "failed", error=_one_line(error))
        found["error"] = outcome.error
    _write(run, {**found, "status": outcome.status})
    return outcome


def _kept(run: Run) -> Outcome | None:
    """What came of a run that was finished before, with the same settings and images; None of one still to do."""
    before, header = _read(run), _header(run)
    is_judged = (before.get("status"), before.get("judging")) == ("finished", run.judging)
    is_whole = all((run.path / name).is_file() for name in (RESULTS, REPORT, MAPS))
    if header is None or not (is_judged and is_whole and _is_trained(run, before, header)):
        return None
    with suppress(OSError, ValueError):  # a damaged results.json is made again
        return _finished(run, "kept", header)
    return None


MapRuns = Callable[[Sequence[Run], str, Report], Iterator[Outcome]]
"""What came of every run, in their order, on a device; `run_each`, or one that has them run elsewhere."""


def run_each(runs: Sequence[Run], device: str, report: Report) -> Iterator[Outcome]:
    """Every run, one after the other, in this process."""
    return (execute_run(run, device, report) for run in runs)


def _train_and_evaluate(run: Run, device: str, report: Report) -> ArtifactHeader:
    folder = run.dataset.folder
    try:
        header = train_model(folder.root, run.model, run.settings, device, resume=True, report=report)
    except ArtifactError:  # the state to resume from is damaged; the next run must not meet it again
        state_path(run.model).unlink(missing_ok=True)
        raise
    predictor = Predictor.load(run.model, device)
    evaluate_model(
        predictor, folder, run.path, run.evaluate, lambda done, total: report(Progress("evaluating", done, total))
    )
    return header


def _finished(run: Run, status: Status, header: ArtifactHeader) -> Outcome:
    results = Results.model_validate_json((run.path / RESULTS).read_text(encoding="utf-8"))
    skipped = header.data_card.skipped | results.data.skipped | results.data.bad_masks
    return Outcome(run, status, results=results, artifact_bytes=run.model.stat().st_size, skipped=skipped)


def _header(run: Run) -> ArtifactHeader | None:
    """Of the model that is there, if it is complete and unchanged."""
    try:
        return read_artifact(run.model)[0]
    except BlemishError:
        return None


def _is_trained(run: Run, before: Nested, header: ArtifactHeader | None) -> bool:
    """Whether the model that is there, or the state to resume from, is of these settings and images.

    The hashes differ, too, where settings have come into the world that the model is older than, and that are left at
    what they are unless asked for.
    """
    return before.get("training") == run.training or (
        header is not None
        and header.run == run.settings
        and not named_files(run.settings)
        and header.data_card.files_sha256 == run.dataset.train_sha256
        and header.versions.get("blemish") == version("blemish")
    )


def named_files(settings: RunSettings) -> list[str]:
    """Hashes of the files that settings name, such as a region of interest."""
    named = [Path(value) for value in settings.data.model_dump().values() if isinstance(value, str)]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in named if path.is_file()]


def _forget(run: Run) -> None:
    for name in (MODEL, state_path(run.model).name, RESULTS, REPORT, MAPS, LOG):
        (run.path / name).unlink(missing_ok=True)


def _read(run: Run) -> Nested:
    try:
        found = json.loads((run.path / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(run: Run, content: Nested) -> None:
    make_folder(run.path)
    names: dict[str, Any] = {"dataset": run.dataset.name, "detector": run.name, "seed": run.settings.seed}
    with atomic_write(run.path / RECORD) as temporary:
        temporary.write_text(json.dumps({**names, **content}, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_log(run: Run, error: Exception) -> None:
    with atomic_write(run.path / LOG) as temporary:
        temporary.write_text("".join(traceback.format_exception(error)), encoding="utf-8")


def _one_line(error: Exception) -> str:
    """Ours as they are; others with the advice where to find the rest."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if isinstance(error, BlemishError) else f"{text} (see {LOG})"


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
