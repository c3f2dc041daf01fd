"""`vtag doctor`: what is in use, what is wrong, and what mends it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from vtag.app.console import put, put_json
from vtag.app.options import Db, Json
from vtag.engine.text import printable

_SIGNS = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}


def doctor(json: Json = False, db: Db = None) -> None:
    """Check the installation and the library.

    Exit code 1 if something is wrong.
    """
    from vtag.engine.doctor import examine

    findings = []
    for finding in examine(db):
        findings.append(finding)
        if not json:
            advice = f"  -> {printable(finding.mend)}" if finding.mend else ""
            put(f"{_SIGNS[finding.state]}  {finding.what:<12} {printable(finding.said)}{advice}")
    if json:
        put_json([asdict(finding) for finding in findings])
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)
