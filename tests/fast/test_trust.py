"""The room as a whole: its public names, and that it needs nothing but numpy."""

import subprocess
import sys

import blemish.trust


def test_the_public_names_are_sorted_and_exist() -> None:
    assert blemish.trust.__all__ == sorted(blemish.trust.__all__)
    assert all(hasattr(blemish.trust, name) for name in blemish.trust.__all__)


def test_neither_scipy_nor_torch_is_imported() -> None:
    program = "import sys, blemish.trust; print(*sorted({'scipy', 'sklearn', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
