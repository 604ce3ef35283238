"""blemish finds defective pixels in product images after training on good images only.

`train_model` makes a model file from good images, with `make_settings`; `Predictor.load` opens it, trained or exported,
and `Predictor.predict` judges an image. `evaluate_model` measures a model on the test images of a folder, which
`read_folder` reads. All errors are a `BlemishError`. Beside these names, `blemish.stats` has the measures and
certificates on arrays, and `blemish.models` the detectors (`DETECTORS`). `blemish --help` lists the commands.

>>> import blemish
>>> sorted(blemish.__all__) == blemish.__all__
True
"""

from typing import TYPE_CHECKING, Any

from blemish.errors import (
    ArtifactError,
    BlemishError,
    CalibrationError,
    DataError,
    SettingsError,
    TrainingError,
    WithdrawnWarning,
)

if TYPE_CHECKING:
    from blemish.data.folder import read_folder
    from blemish.evaluation.evaluate import evaluate_model
    from blemish.inference.predictor import Prediction, Predictor
    from blemish.settings import RunSettings
    from blemish.training.settings import make_settings
    from blemish.training.train import train_model

    __version__: str

_HOMES = {
    "Prediction": "blemish.inference.predictor",
    "Predictor": "blemish.inference.predictor",
    "RunSettings": "blemish.settings",
    "evaluate_model": "blemish.evaluation.evaluate",
    "make_settings": "blemish.training.settings",
    "read_folder": "blemish.data.folder",
    "train_model": "blemish.training.train",
}

__all__ = [
    "ArtifactError",
    "BlemishError",
    "CalibrationError",
    "DataError",
    "Prediction",
    "Predictor",
    "RunSettings",
    "SettingsError",
    "TrainingError",
    "WithdrawnWarning",
    "__version__",
    "evaluate_model",
    "make_settings",
    "read_folder",
    "train_model",
]


def __getattr__(name: str) -> Any:
    """Public names are looked up when first used, so that `import blemish` is quick and needs no torch."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("blemish")
    raise AttributeError(f"module 'blemish' has no attribute {name!r}")


def __dir__() -> list[str]:
    """With what is public before it is first used, so that completion in a shell or a notebook shows it."""
    return sorted({*globals(), *__all__})
