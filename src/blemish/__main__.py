"""`python -m blemish` and the command `blemish`."""

import os
import sys
import traceback

from blemish.cli import app


def main() -> None:
    """Run the command line.

    Threads that wait for each other sleep, unless the environment says otherwise. torch's would spin, and on a machine
    that does anything else besides they then burn several times the processor time of the work itself.

    What nobody foresaw ends with exit code 2 as well, so that it cannot pass for an anomaly.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported
    try:
        app()
    except Exception:
        traceback.print_exc()
        sys.exit(2)


if __name__ == "__main__":
    main()
