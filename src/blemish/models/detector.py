"""Detector: the abstract class of all detectors, and what training hands to it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from blemish.errors import SettingsError
from blemish.models.encoders import EncoderSettings
from blemish.settings import Settings

Loss = Callable[[Any], Tensor]
"""From one batch to one number to bring down, a tensor without dimensions."""


class ImageShape(NamedTuple):
    """What a detector is built for: channels (1 or 3), height and width in pixels."""

    channels: int
    height: int
    width: int


@runtime_checkable
class Batches(Protocol):
    """Good images in batches, to iterate over as often as wanted.

    Batches are float32 `(b, c, h, w)` in [0, 1]. Going through them twice at the same `epoch` gives the same
    images in the same order; another `epoch` gives another order and other augmentations.
    """

    epoch: int

    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...


@runtime_checkable
class Optimise(Protocol):
    """The one gradient loop, handed in by whoever trains.

    Each step takes the next batch and brings down every loss in turn. `modules` names the part of the detector
    each loss may change; without it there is one loss, and it changes the detector.
    """

    def __call__(self, batches: Batches, *losses: Loss, modules: Sequence[nn.Module] = ()) -> None: ...

    def count_steps(self, batches: Batches) -> int:
        """How many steps a call with these batches takes."""
        ...


class Detector(nn.Module, ABC):
    """Learns from good images and gives anomaly maps.

    Two methods, each with one return type in training and in evaluation: `fit` learns from good images,
    `forward` gives anomaly maps. A subclass is final, lives in one file, and takes one line in `DETECTORS`.

    A detector that can also show how an image would look if it were good offers `reconstruct(images) -> images`.

    >>> import torch
    >>> from blemish.models import DETECTORS
    >>> kind = DETECTORS["conv_autoencoder"]
    >>> detector = kind(kind.Settings(latent=8), ImageShape(channels=3, height=64, width=96)).eval()
    >>> detector(torch.rand(2, 3, 64, 96)).shape
    torch.Size([2, 64, 96])
    """

    Settings: ClassVar[type[Settings]]
    """The detector's own settings, `model.*`."""

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of a run, nested, that suit this detector better than the general ones."""

    defaults_in_tiles: ClassVar[Mapping[str, Any]] = {}
    """The same, where images are judged in tiles (`data.tile_px`); what is not here is as in `defaults`."""

    side_multiple: ClassVar[int] = 1
    """Height and width must be multiples of this, and of what the encoder needs where there is one."""

    why_not_exported: ClassVar[str] = ""
    """Why the detector cannot become an ONNX graph; empty where it can."""

    def __init__(self, shape: ImageShape, settings: Any = None) -> None:
        """`settings` are the detector's own, where its sides depend on them, as on an encoder.

        Raises:
            SettingsError: sides that it cannot take.
        """
        super().__init__()
        check_sides(shape, self.multiple_of_sides(settings))
        self.shape = shape

    @classmethod
    def multiple_of_sides(cls, settings: Any) -> int:
        """What height and width must be multiples of, with these settings of its own."""
        own = cls.side_multiple
        return math.lcm(own, settings.side_multiple) if isinstance(settings, EncoderSettings) else own

    def look_only_at(self, judged: Bool[Tensor, "h w"]) -> None:
        """Told before `fit` which pixels are judged, where there is a region of interest; most need not know."""

    @abstractmethod
    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Learn from good images. Leaves the detector on the device it was on."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Anomaly maps: >= 0, higher is worse, neither clamped nor normalised; image-sized."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the state of a fitted detector, buffers whose size depends on the data included.

        Raises:
            RuntimeError: when names or parameter shapes do not fit (from `load_state_dict`).
        """
        for module_name, module in self.named_modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                saved = tensors.get(f"{module_name}.{name}" if module_name else name)
                if saved is not None and saved.shape != buffer.shape:
                    setattr(module, name, torch.empty_like(saved, device=buffer.device))
        self.load_state_dict(dict(tensors))


def check_sides(shape: ImageShape, multiple: int) -> None:
    """Refuse sides the network cannot take.

    >>> check_sides(ImageShape(3, 250, 256), 32)
    Traceback (most recent call last):
    blemish.errors.SettingsError: data.size_px: found 250 x 256 (height x width); ...the nearest is 256 x 256
    """
    height, width = shape.height, shape.width
    if height % multiple or width % multiple:
        near = " x ".join(str(nearest_multiple(side, multiple)) for side in (height, width))
        raise SettingsError(
            f"data.size_px: found {height} x {width} (height x width); "
            f"both must be multiples of {multiple}, the nearest is {near}"
        )


def identities(count: int, side: int) -> Float[Tensor, "p d d"]:
    """So many identity matrices, for buffers.

    A detector is also built without memory, by whoever loads a model. There `torch.eye(side).repeat(count, 1, 1)`, as
    most arithmetic, has torch import its compiler, which takes a second.

    >>> identities(1, 2)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    found = torch.zeros(count, side, side)
    found.diagonal(dim1=1, dim2=2).fill_(1.0)
    return found


def nearest_multiple(side: int | float, multiple: int) -> int:
    """The multiple nearest to `side`, at least one.

    >>> nearest_multiple(250, 32), nearest_multiple(3, 32)
    (256, 32)
    """
    return max(1, round(side / multiple)) * multiple
