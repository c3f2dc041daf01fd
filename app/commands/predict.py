"""`vtag predict`: classifies one file by a published protocol, and prints index, name and score."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vtag.app.console import put, put_json
from vtag.app.options import Json


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The video.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME|PATH", help="The model.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to print.")] = 5,
    protocol: Annotated[
        str, typer.Option(help="clip: one clip from the middle; test: 4 clips x 3 crops, averaged.")
    ] = "clip",
    backend: Annotated[str, typer.Option(help="auto, torch, onnx")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, tensorrt")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16, fp16, int8; fp32, or an ONNX file's own, where left out")
    ] = None,
    json: Json = False,
) -> None:
    """Classify one FILE as the published tools do."""
    from vtag.engine.backends.base import open_backend
    from vtag.engine.predict import PROTOCOLS
    from vtag.engine.predict import predict as classify

    if protocol not in PROTOCOLS:
        raise typer.BadParameter(
            f"{protocol!r} is not one of {', '.join(PROTOCOLS)}", param_hint="--protocol"
        )
    classifier = open_backend(model, backend=backend, device=device, precision=precision)
    best = classify(file, classifier, protocol=protocol, top=top)
    if json:
        put_json(
            {
                "file": os.fsdecode(file).encode("utf-8", "replace").decode(),
                "model": classifier.spec.name,
                "protocol": protocol,
                "top": [{"index": c.index, "label": c.label, "score": round(c.score, 6)} for c in best],
            }
        )
        return
    width = max(len(c.label) for c in best)
    for c in best:
        put(f"{c.index:>4}  {c.label:<{width}}  {c.score:.4f}")
