"""Public names of the package, and that it can be imported with nothing but numpy."""

import subprocess
import sys

import pytest

import blemish.stats


def test_the_public_names_are_sorted_and_exist() -> None:
    assert blemish.stats.__all__ == sorted(blemish.stats.__all__)
    assert all(hasattr(blemish.stats, name) for name in blemish.stats.__all__)


@pytest.mark.slow
def test_neither_scipy_nor_torch_is_imported() -> None:
    program = "import sys, blemish.stats; print(*sorted({'scipy', 'sklearn', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
