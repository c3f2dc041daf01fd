"""`vtag doctor`: what is in use, what is wrong, and how to fix it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.console import put, put_json, say
from vtag.app.log_file import LOG_VARIABLE
from vtag.app.options import Db, Json
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.doctor import Finding

_SIGNS = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}


def doctor(
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE",
            help="Write a zip file for a bug report; it has no paths and nothing you typed.",
        ),
    ] = None,
    with_paths: Annotated[
        bool, typer.Option("--with-paths", help="Leave paths, names and what you typed in the bundle.")
    ] = False,
    json: Json = False,
    db: Db = None,
) -> None:
    """Check the installation and the library.

    Exit code 1 if something is wrong.
    """
    from vtag.engine.doctor import run_checks

    findings = []
    for finding in run_checks(db):
        findings.append(finding)
        if not json:
            remedy = f"  -> {printable(finding.remedy)}" if finding.remedy else ""
            put(f"{_SIGNS[finding.state]}  {finding.subject:<12} {printable(finding.message)}{remedy}")
    if json:
        put_json([_as_json(finding) for finding in findings])
    if bundle:
        _write_bundle(bundle, findings, db, with_paths=with_paths)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _write_bundle(file: Path, findings: list[Finding], db: Path | None, *, with_paths: bool) -> None:
    """Write the bug report, with the log of the page's last job and that of --log-file."""
    from vtag.engine.bug_report import write_bug_report
    from vtag.engine.paths import library_path

    library = library_path(db)
    logs = [library.parent / "job.log", *([Path(name)] if (name := os.environ.get(LOG_VARIABLE)) else [])]
    target = file.expanduser().absolute()
    parts = write_bug_report(target, library, findings, logs, with_paths=with_paths)
    say(f"wrote {display_path(target)} with {', '.join(parts)}: look into it before you send it")


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "what": finding.subject,
        "state": finding.state,
        "said": finding.message,
        "mend": finding.remedy,
    }
