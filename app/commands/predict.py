"""`vtag predict`: classifies one file by a published protocol, and prints index, name and score."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vtag.app.console import put, put_json
from vtag.app.options import Backend, Device, ExactPrecision, Json, Model, Protocol


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Video to classify.")],
    model: Model,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 5,
    protocol: Protocol = "clip",
    backend: Backend = "auto",
    device: Device = "auto",
    precision: ExactPrecision = None,
    json: Json = False,
) -> None:
    """Classify one video by a published protocol."""
    from vtag.engine.backends.factory import open_backend
    from vtag.engine.predict import predict as classify

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
