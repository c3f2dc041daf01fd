"""`python -m vtag.app` and the command `vtag`."""

import os

from vtag.app.interrupts import INTERRUPTED, is_interrupt


def main() -> None:
    """Run `cli.main`. Ctrl-C while it is imported ends the process silently with 130."""
    try:
        from vtag.app.cli import main as run
    except BaseException as error:
        if is_interrupt(error):
            os._exit(INTERRUPTED)
        raise
    run()


if __name__ == "__main__":
    main()
