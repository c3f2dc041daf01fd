"""`vtag doctor`: what is in use, what is wrong, and how to fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from vtag.app.console import put, put_json
from vtag.app.options import Db, Json
from vtag.engine.text import printable

if TYPE_CHECKING:
    from vtag.engine.doctor import Finding

_SIGNS = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}


def doctor(json: Json = False, db: Db = None) -> None:
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
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _as_json(finding: Finding) -> dict[str, str]:
    return {
        "what": finding.subject,
        "state": finding.state,
        "said": finding.message,
        "mend": finding.remedy,
    }
