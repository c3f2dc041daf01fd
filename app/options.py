"""Options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from vtag.app.completions import complete_model
from vtag.app.times import parse_time
from vtag.engine.errors import VtagError


def within_integers(number: int | None) -> int | None:
    """`number`, at most the largest integer of SQLite."""
    return None if number is None else min(number, sys.maxsize)


Db = Annotated[
    Path | None,
    typer.Option(
        "--db", metavar="FILE", help="Library file; default: library.db below VTAG_HOME.", dir_okay=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Model = Annotated[
    str, typer.Option("--model", metavar="NAME|PATH", help="Model to use.", autocompletion=complete_model)
]
Protocol = Annotated[
    Literal["clip", "test"],
    typer.Option(
        "--protocol",
        help="Published protocol. clip: one clip from the middle; test: 4 clips x 3 crops, averaged.",
    ),
]
Backend = Annotated[Literal["auto", "torch", "onnx"], typer.Option("--backend", help="Inference runtime.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        help="Compute device: auto, cpu, cuda, mps or tensorrt. A scan takes several: cuda:0,cuda:1.",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"], typer.Option("--precision", help="Numeric precision.")
]
ExactPrecision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"] | None,
    typer.Option("--precision", help="Numeric precision; default: fp32, or that of the ONNX file."),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="0..1|auto",
        help="Score that starts a moment; the library remembers it. auto: the model's own.",
    ),
]


def parse_time_option(text: str) -> int:
    """A time on the command line in milliseconds. Raises BadParameter."""
    try:
        return parse_time(text)
    except VtagError as error:
        raise typer.BadParameter(str(error)) from error


def parse_threshold(text: str | None) -> float | Literal["auto"] | None:
    """The value of --threshold. Raises BadParameter."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        if 0 <= (value := float(text)) <= 1:
            return value
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is neither a number from 0 to 1 nor auto", param_hint="--threshold")
