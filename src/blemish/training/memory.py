"""What to do where a batch does not fit into a device's memory; memory that is kept from one layer to the next."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import torch

from blemish.errors import TrainingError, plural

SMALLEST_PART = 2
"""Images: batch normalisation cannot use one."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h

KEPT_BYTES = 1 << 28
"""So much of what has been freed the process keeps, at its end of the heap."""


def keep_freed_memory() -> None:
    """Keep large tensors' memory for the next ones; for a process that is there to train.

    glibc maps what is larger than 32 MiB anew each time, and the system clears each page of it: an eighth of the
    processor time of a training on photos of 384 x 992. Nothing is done where the environment has settings of malloc's,
    or there is no glibc.
    """
    is_set = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform == "linux" and not is_set and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, by torch's own error or, from devices that have none, by what it says.

    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    True
    >>> is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    True
    >>> is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    False
    """
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


@final
class PassTooLargeError(Exception):
    """Memory ran out in a pass over the images, which may be gone through in smaller parts."""


@contextmanager
def explained(device: torch.device, is_stepping: Callable[[], bool]) -> Iterator[None]:
    """What torch raises for want of memory, or because a device cannot compute something, as our own errors.

    Raises:
        PassTooLargeError: out of memory, outside the steps of the gradient loop.
        TrainingError: out of memory within them; or Apple's GPU lacks an operation, such as those in 64 bits.
    """
    try:
        yield
    except (RuntimeError, TypeError) as error:  # a NotImplementedError is a RuntimeError
        if is_out_of_memory(error):
            raise (too_little_memory(device) if is_stepping() else PassTooLargeError()) from None
        if device.type == "mps":
            reason = str(error).strip().partition("\n")[0]
            raise TrainingError(
                f"training: Apple's GPU cannot compute this detector ({reason}); use --device cpu"
            ) from None
        raise


def smaller_parts(parts: int, images: int, step: int, device: torch.device) -> tuple[int, str]:
    """Twice as many parts of a batch, and what is said of it, after memory ran out.

    Raises:
        TrainingError: the parts are as small as they can be.

    >>> smaller_parts(1, images=16, step=4, device=torch.device("cpu"))[0]
    2
    """
    free_memory(device)
    if images < 2 * SMALLEST_PART * parts:
        raise too_little_memory(device, -(-images // parts))
    size = -(-images // (2 * parts))
    return 2 * parts, (
        f"out of memory on {device} at step {step + 1}: from there on batches of {images} were computed in parts of "
        f"{size} at most; steps and images are the same, but batch normalisation saw one part at a time"
    )


def too_little_memory(device: torch.device, images: int | None = None) -> TrainingError:
    """The error where smaller parts do not help; `images` were taken at once."""
    at_once = "" if images is None else f" with {plural(images, 'image')} at once"
    return TrainingError(
        f"training: out of memory on {device}{at_once}; lower train.batch_size, data.side_px or "
        "data.size_px, end other programs that use its memory, or use --device cpu"
    )


def free_memory(device: torch.device) -> None:
    """Give back what torch keeps for later, so that smaller tensors find room."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
