"""The networks: the detectors, one a file, and what they share.

Adding one is a file in this folder and a line in `DETECTORS`; the contract tests then cover it.
"""

from collections.abc import Mapping
from typing import Any, cast

from blemish.errors import SettingsError, nearest
from blemish.models.anogan import AnoGan
from blemish.models.conv_autoencoder import AE_L2_PRESET, AE_SSIM_PRESET, PAPER_PRESET, ConvAutoencoder
from blemish.models.detector import Detector, ImageShape
from blemish.models.dinomaly import Dinomaly
from blemish.models.feature_autoencoder import FeatureAutoencoder
from blemish.models.feature_dictionary import FeatureDictionary
from blemish.models.feature_ensemble import FeatureEnsemble
from blemish.models.padim import Padim
from blemish.models.patchcore import PatchCore
from blemish.models.pinned import Pinned, pin_encoder
from blemish.models.reverse_distillation import ReverseDistillation
from blemish.models.vae import VariationalAutoencoder
from blemish.settings import validate

DETECTORS: dict[str, type[Detector]] = {
    "conv_autoencoder": ConvAutoencoder,
    "vae": VariationalAutoencoder,
    "anogan": AnoGan,
    "feature_autoencoder": FeatureAutoencoder,
    "feature_dictionary": FeatureDictionary,
    "feature_ensemble": FeatureEnsemble,
    "padim": Padim,
    "patchcore": PatchCore,
    "reverse_distillation": ReverseDistillation,
    "dinomaly": Dinomaly,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": PAPER_PRESET,
    "seed": PAPER_PRESET,  # its earlier name
    "ae_l2": AE_L2_PRESET,
    "ae_ssim": AE_SSIM_PRESET,
}
"""Settings of a run under a name of their own; each says which detector it is for."""

PRESET_TITLES = {
    "paper": "The auto-encoder of the paper that blemish began with",
    "seed": "The same, under its earlier name",
    "ae_l2": "AE(L2) of Bergmann et al. 2018, with their size and latent",
    "ae_ssim": "AE(SSIM) of Bergmann et al. 2018, with their size and latent",
}
"""What each preset is, in a line."""


def settings_of_name(name: str) -> dict[str, Any]:
    """The nested settings that a detector's or a preset's name stands for.

    Raises:
        SettingsError: neither; the nearest known name is given.
    """
    if name in DETECTORS:
        return {"detector": name, **DETECTORS[name].defaults}
    if name in PRESETS:
        return PRESETS[name]
    hint = nearest(name, [*DETECTORS, *PRESETS])
    raise SettingsError(f"detector: unknown detector or preset '{name}'; {hint}")


def side_multiple(name: str, model: Mapping[str, Any]) -> int:
    """What height and width of images must be multiples of, for a detector with these settings `model.*`.

    Raises:
        SettingsError: an unknown detector, a setting it does not have, or an encoder that is not there.
    """
    kind = _known(name)
    return kind.multiple_of_sides(validate(kind.Settings, model, prefix="model."))


def pin(name: str, model: Mapping[str, Any]) -> Pinned:
    """What the settings `model.*` of a detector become before training, with its encoder's card; see `pin_encoder`.

    Raises:
        SettingsError: an unknown detector, a setting it does not have, or an encoder that cannot be had.
    """
    return pin_encoder(validate(_known(name).Settings, model, prefix="model."))


def make_detector(name: str, model: Mapping[str, Any], shape: ImageShape) -> Detector:
    """An unfitted detector from its name and its settings `model.*`.

    Raises:
        SettingsError: an unknown detector, a setting it does not have, or sides it cannot take.
    """
    kind = cast(Any, _known(name))
    return cast(Detector, kind(validate(kind.Settings, model, prefix="model."), shape))


def _known(name: str) -> type[Detector]:
    if name not in DETECTORS:
        raise SettingsError(f"detector: unknown detector '{name}'; {nearest(name, DETECTORS)}")
    return DETECTORS[name]
