"""`python -m blemish` and the command `blemish`."""

import atexit
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

INTERRUPTED = 130


def _end_at_once(_signal: int, _frame: object) -> None:
    """Nothing has been read or written yet: there is nothing to tidy up."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _end_interrupted() -> None:
    """Without taking Python down: a library that was interrupted half-way may abort the process then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


def main() -> None:
    """Run the command line.

    Threads that wait for each other sleep, unless the environment says otherwise. torch's would spin, and on a machine
    that does anything else besides they then burn several times the processor time of the work itself.

    What nobody foresaw ends with exit code 2 as well, so that it cannot pass for an anomaly.
    """
    signal.signal(signal.SIGINT, _end_at_once)  # until the command itself begins; importing takes a second
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported
    _open_standard_streams()
    _say_lost_folder()
    try:
        from blemish.cli import app

        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end_interrupted()
        raise
    except Exception as error:
        import traceback

        from blemish.errors import reason

        try:
            if isinstance(error, OSError) and error.filename is None:  # of --help or --version: commands say it, too
                sys.stderr.write(f"standard output: {reason(error)}\n")
            else:
                traceback.print_exc()
        except OSError:  # standard error is full
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.exit(2)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # else it would kill what is tidying up


def _say_lost_folder() -> None:
    """Without its folder a process loads no torch, whose library then ends it with a message of its own."""
    try:
        Path.cwd()
    except OSError:
        sys.stderr.write(
            "warning: the working directory is gone: relative paths lead nowhere and torch cannot be loaded; cd to "
            "another folder, or to the same one again\n"
        )


def _open_standard_streams() -> None:
    """Refuse to work without standard output; lead a closed standard error nowhere.

    Otherwise the next file to be opened would take the place of the closed one, and what is printed would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # open until the process ends
    if sys.stdout is None:
        sys.stderr.write("standard output: closed; lead it to /dev/null if nobody is to read it\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
