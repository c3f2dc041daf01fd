"""`python -m vtag.app` and the command `vtag`."""

import os

INTERRUPTED = 130


def main() -> None:
    """The command line, as `cli.main`. Interrupted while it is loaded it has done nothing, and says nothing."""
    try:
        from vtag.app.cli import main as run
    except BaseException as error:
        if is_interruption(error):
            os._exit(INTERRUPTED)
        raise
    run()


def is_interruption(error: BaseException) -> bool:
    """Whether it comes of Ctrl-C: Python 3.11 makes a RuntimeError of what interrupts a `__set_name__`."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


if __name__ == "__main__":
    main()
