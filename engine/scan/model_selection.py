"""Which model a library is looked at with: asked for, remembered, or the best that is here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.checkpoints.model_folder import read_spec
from vtag.engine.errors import ModelError
from vtag.engine.library.database import Library
from vtag.engine.library.store import heads
from vtag.engine.models.catalog import CatalogEntry, read_catalog
from vtag.engine.models.registry import STARTER, is_installed, load_model, locate_model
from vtag.engine.system.signals import delay_interrupts


def choose_model(library: Library, model: str | None, device: str = "auto") -> tuple[Checkpoint, str]:
    """The model that was asked for, else the one that the library remembers, else what is here; and its source.

    A new library takes the first choice for the device that was brought in, else the starter that ships with vtag;
    it moves to another model only when told. Raises ModelError.
    """
    chosen = model or heads.library_model_source(library)
    if chosen is None:
        chosen = next(filter(is_installed, _first_choices(device)), STARTER)
    return load_model(chosen), source_of(chosen)


def first_choice_to_fetch(library: Library, model: str | None, device: str) -> CatalogEntry | None:
    """The published model that would serve a new library best, where none of them was brought in yet."""
    if model or heads.library_model_source(library) is not None:
        return None
    choices = _first_choices(device)
    return None if any(map(is_installed, choices)) else read_catalog().get(choices[0])


def _first_choices(device: str) -> tuple[str, ...]:
    """Best first: a GPU looks with the largest model as fast as a CPU with the smallest."""
    if device.startswith("cuda") or (device == "auto" and _has_cuda()):
        return ("swin3d-b-22k", "swin3d-t")
    return ("swin3d-t",)


def _has_cuda() -> bool:
    if find_spec("torch") is None:
        return False
    with delay_interrupts():
        import torch  # noqa: PLC0415  # seconds, and only a new library asks

    return torch.cuda.is_available()


def remember(library: Library, checkpoint: Checkpoint, source: str) -> int:
    """Keep a model's head in the library; its id there."""
    spec = checkpoint.spec
    return heads.save_model(
        library,
        name=spec.name,
        source=source,
        backbone_hash=spec.backbone_hash,
        head_hash=spec.head_hash,
        spec=spec.to_json(),
        weight=checkpoint.tensors["head.weight"],
        bias=checkpoint.tensors["head.bias"],
    )


def source_of(model: str) -> str:
    """A model's name or path as the library remembers it: paths absolute."""
    path = Path(model)
    return str(path.absolute()) if path.exists() else model


def remembered_or_loaded(library: Library, model: str | None) -> int:
    """The id of a model as it is on the disk now; of one that is there no more, as the library remembers it."""
    if model is None:
        return heads.require_model(library, None)
    source = source_of(model)
    known = heads.find_model(library, source)
    try:
        path = locate_model(model)
        if known is not None and path.is_dir():  # whether it changed, without reading its weights
            spec, _ = read_spec(path)
            if heads.find_model_by_hashes(library, spec.backbone_hash, spec.head_hash) == known:
                return known
        return remember(library, load_model(model), source)
    except ModelError:
        if known is None:
            raise
        return known
