"""Pillow's warnings, silenced while image files are read, in any number of threads."""

import threading
import warnings
from typing import final

from PIL import Image


@final
class _Silence:
    """The first thread that comes in silences the warnings, the last one that leaves brings them back.

    `warnings.catch_warnings` alone changes the filters of all threads, and two of them that overlap would restore them
    in the wrong order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                # Odd but harmless metadata is not worth a warning for each of thousands of files.
                warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
                # Pillow warns at a fixed size; ours is a setting, and an error.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


SILENCE = _Silence()
"""`with SILENCE:` around whatever makes Pillow read a file."""
