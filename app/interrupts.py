"""Ctrl-C as the command line sees it. Imports nothing, so that it is there while the rest is loaded."""

INTERRUPTED = 130  # the exit code, as of a shell


def is_interrupt(error: BaseException) -> bool:
    """Whether `error` is Ctrl-C; Python 3.11 raises RuntimeError if Ctrl-C interrupts a `__set_name__`."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)
