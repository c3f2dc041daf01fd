"""The command line: its commands, and how a failure becomes one line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vtag.app.commands import (
    annotate,
    cut,
    data,
    doctor,
    evaluate,
    export,
    finetune,
    labels,
    library,
    mcp,
    models,
    predict,
    scan,
    search,
    similar,
    stats,
    tidy,
    train,
    ui,
)
from vtag.app.console import complain, put
from vtag.app.interrupts import INTERRUPTED, is_interrupt
from vtag.app.log_file import LOG_VARIABLE, log, open_log
from vtag.app.query_options import QueryCommand
from vtag.engine.errors import VtagError
from vtag.engine.system.silent_disks import wait_for_answer

# errors of the system about an output that has no name, such as stdout
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# The panels of `vtag --help`, in this order
_PANELS = ("Look", "Find", "Correct", "Teach", "Models", "Keep tidy")


class _PanelOrder(TyperGroup):
    """Lists commands by panel; Typer would list all groups of commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands in the order of their panels."""
        panels: dict[str, Any] = {
            name: vars(command)["rich_help_panel"] for name, command in self.commands.items()
        }
        return sorted(super().list_commands(ctx), key=lambda name: _PANELS.index(panels[name]))


app = typer.Typer(
    cls=_PanelOrder,
    name="vtag",
    help="Tag your videos with what happens in them, and find the moments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version

        put(f"vtag {version('vtag')}")
        raise typer.Exit()


def _show_manual(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version

        from vtag.app.manual import manual_page

        put(manual_page(typer.main.get_command(app), version("vtag")).rstrip("\n"))
        raise typer.Exit()


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    log_file: Annotated[
        Path | None,
        typer.Option("--log-file", metavar="FILE", help="Add what happens to FILE, one JSON object a line."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    manual: Annotated[
        bool,
        typer.Option(
            "--man",
            help="Write the manual page: `vtag --man | man -l -`.",
            callback=_show_manual,
            is_eager=True,
        ),
    ] = False,
) -> None:
    pass


_LOOK, _FIND, _CORRECT, _TEACH, _MODELS, _TIDY = _PANELS

app.command(rich_help_panel=_LOOK)(scan.scan)
app.command(rich_help_panel=_LOOK)(ui.ui)
app.command(rich_help_panel=_LOOK)(mcp.mcp)
app.command(rich_help_panel=_FIND, cls=QueryCommand)(search.search)
app.command(rich_help_panel=_FIND)(search.show)
app.command(rich_help_panel=_FIND)(similar.similar)
app.command(rich_help_panel=_FIND, cls=QueryCommand)(stats.stats)
app.command(rich_help_panel=_FIND, cls=QueryCommand)(cut.cut)
app.command(rich_help_panel=_FIND, cls=QueryCommand)(export.export)
app.command(rich_help_panel=_TEACH)(finetune.finetune)
app.command(rich_help_panel=_TEACH)(train.train)
app.command("eval", rich_help_panel=_TEACH)(evaluate.evaluate)
app.command(rich_help_panel=_MODELS)(predict.predict)
app.command(rich_help_panel=_TIDY)(tidy.retag)
app.command(rich_help_panel=_TIDY)(tidy.clean)
app.command(rich_help_panel=_TIDY)(tidy.forget)
app.command(rich_help_panel=_TIDY)(tidy.relocate)
app.command(rich_help_panel=_TIDY)(doctor.doctor)
app.add_typer(labels.app, name="labels", rich_help_panel=_FIND)
app.add_typer(annotate.tag, name="tag", rich_help_panel=_CORRECT)
app.add_typer(annotate.words, name="words", rich_help_panel=_CORRECT)
app.add_typer(data.app, name="data", rich_help_panel=_TEACH)
app.add_typer(library.app, name="library", rich_help_panel=_TIDY)
app.add_typer(models.app, name="models", rich_help_panel=_MODELS)


class _MessageHandler(logging.Handler):
    """Prints log records of the engine as messages."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def main() -> None:
    """The `vtag` command. Exit codes: 0 done, 1 error, 2 usage, 3 some videos failed, 130 interrupted."""
    _open_closed_streams()
    arguments, debug = _take_debug(sys.argv[1:])
    logging.getLogger("vtag").addHandler(_MessageHandler())
    try:
        arguments = _begin_log(arguments)
        for argument in arguments:  # Typer asks for each path, and there Ctrl-C would not end a wait
            if os.sep in argument:
                wait_for_answer(argument)
        app(arguments, prog_name="vtag")
    except BrokenPipeError:
        _finish_writing()
        sys.exit(1)
    except SystemExit as done:
        log("end", code=done.code or 0)
        _finish_writing()
        if done.code == INTERRUPTED:
            _leave_interrupted()
        raise
    except VtagError as error:
        if debug:
            traceback.print_exc()
        complain(str(error))
        log("end", code=1)
        sys.exit(1)
    except (Exception, KeyboardInterrupt) as error:
        if is_interrupt(error):
            _leave_interrupted()
        if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
            _fail_to_write(error)
        log("unexpected", traceback=traceback.format_exc())
        if debug:
            raise
        complain(f"{type(error).__name__}: {error} (unexpected; --debug shows where it happened)")
        sys.exit(1)
    finally:  # all is done and said; at Ctrl-C while Python ends, Python would print an error of its own
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _open_closed_streams() -> None:
    """Open what the caller closed of stdin, stdout and stderr, so that no file of ours takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (for the whole run)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _finish_writing() -> None:
    """Flush stdout; a reader such as `head` may have closed it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _fail_to_write(error)


def _fail_to_write(error: OSError) -> NoReturn:
    """Exit with a message that the results could not be written, as onto a full disk."""
    _discard_output()
    complain(f"the output cannot be written: {error.strerror or error}")
    log("end", code=1)
    sys.exit(1)


def _discard_output() -> None:
    """Let what is left for stdout go nowhere: else Python tries again when it ends, and prints an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_interrupted() -> None:
    """Exit with 130 at once: CPython ends by SIGINT if Ctrl-C came inside an import, although it was caught."""
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _begin_log(arguments: list[str]) -> list[str]:
    """Open the log of `--log-file FILE`, anywhere before `--`, or of the environment; returns the other arguments."""
    from importlib.metadata import version

    end = arguments.index("--") if "--" in arguments else len(arguments)
    head, tail = arguments[:end], arguments[end:]
    file = os.environ.get(LOG_VARIABLE, "")
    for number, argument in enumerate(head):
        if argument.startswith("--log-file="):
            file, head = argument.partition("=")[2], head[:number] + head[number + 1 :]
            break
        if argument == "--log-file" and number + 1 < len(head):
            file, head = head[number + 1], head[:number] + head[number + 2 :]
            break
    if file:
        open_log(Path(file).expanduser())
        log("begin", vtag=version("vtag"), python=sys.version.split()[0], arguments=head + tail)
    return head + tail


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Remove `--debug`, which may stand anywhere before `--`, and return whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    remaining = [a for a in arguments[:end] if a != "--debug"] + arguments[end:]
    return remaining, "--debug" in arguments[:end] or bool(os.environ.get("VTAG_DEBUG"))
