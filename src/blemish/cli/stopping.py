"""The signals that ask a command to end: Ctrl-C, a polite kill, and a terminal that is closed."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ASK_TO_END = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def when_asked_to_end(act: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call a function in the main thread at these signals, but at one that is ignored, as `nohup` has it."""
    before = {number: signal.getsignal(number) for number in ASK_TO_END}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, act)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that is not Python's
