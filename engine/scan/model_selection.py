"""Which model a library is scanned with: the given one, the library's own, or the best that is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.checkpoints.model_folder import read_spec
from vtag.engine.errors import ModelError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import heads
from vtag.engine.models.catalog import CatalogEntry, read_catalog
from vtag.engine.models.registry import STARTER, is_installed, load_model, locate_model
from vtag.engine.system.signals import delay_interrupts


def choose_model(library: LibraryWriter, model: str | None, device: str = "auto") -> tuple[Checkpoint, str]:
    """The checkpoint of `model`, else of the library's model, else of the best installed one; and its source.

    The best model of a new library is the first choice for the device if it is installed, else the starter that
    ships with vtag. A library changes its model only if one is given. Raises ModelError.
    """
    name = model or heads.library_model_source(library)
    if name is None:
        name = next(filter(is_installed, _preferred_models(device)), STARTER)
    return load_model(name), model_source(name)


def recommended_download(library: LibraryWriter, model: str | None, device: str) -> CatalogEntry | None:
    """The published model to offer for a new library; None if one was chosen or a good one is installed."""
    if model or heads.library_model_source(library) is not None:
        return None
    names = _preferred_models(device)
    return None if any(map(is_installed, names)) else read_catalog().get(names[0])


def _preferred_models(device: str) -> tuple[str, ...]:
    """Names of published models, the best first. A GPU runs the largest model as fast as a CPU the smallest."""
    if device.startswith("cuda") or (device == "auto" and _has_cuda()):
        return ("swin3d-b-22k", "swin3d-t")
    return ("swin3d-t",)


def _has_cuda() -> bool:
    if find_spec("torch") is None:
        return False
    with delay_interrupts():
        import torch  # noqa: PLC0415  # takes seconds, and only a new library needs it

    return torch.cuda.is_available()


def register_model(library: LibraryWriter, checkpoint: Checkpoint, source: str) -> int:
    """Store a model's head in the library; returns its id there."""
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


def model_source(model: str) -> str:
    """A model's name, or its absolute path: what the library stores to find the model again."""
    path = Path(model)
    return str(path.absolute()) if path.exists() else model


def resolve_model_id(library: LibraryWriter, model: str | None) -> int:
    """The id of a model in the library. A model that changed on disk is registered anew.

    If the model's files are gone, its stored head is used. Raises ModelError if there is neither.
    """
    if model is None:
        return heads.require_model(library, None)
    source = model_source(model)
    stored_id = heads.find_model(library, source)
    try:
        path = locate_model(model)
        if stored_id is not None and path.is_dir():  # compare the hashes without reading the weights
            spec, _ = read_spec(path)
            if heads.find_model_by_hashes(library, spec.backbone_hash, spec.head_hash) == stored_id:
                return stored_id
        return register_model(library, load_model(model), source)
    except ModelError:
        if stored_id is None:
            raise
        return stored_id
