"""The installed models: load them by name or path, download, import, verify and remove them."""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vtag.assets import asset
from vtag.engine.checkpoints.load import Checkpoint, load_checkpoint, save_model_folder
from vtag.engine.checkpoints.model_folder import (
    SPEC_FILE,
    read_backbone_name,
    read_head_folder,
    read_spec,
    save_onnx_folder,
)
from vtag.engine.checkpoints.safe_open import prefix_errors
from vtag.engine.errors import DownloadError, ModelError
from vtag.engine.models.catalog import CatalogEntry, is_model_name, model_stem, read_catalog
from vtag.engine.models.download import ProgressCallback, fetch, file_sha256
from vtag.engine.models.download_hashes import known_sha256, record_download
from vtag.engine.models.image_models import (
    IMAGE_SPEC,
    ImageSpec,
    check_image_file,
    is_image_file,
    read_image_spec,
    save_image_folder,
)
from vtag.engine.paths import make_private_dir, models_dir
from vtag.engine.swin.config import ModelSpec, check_labels
from vtag.engine.system.locks import LockHeldError, lock_file
from vtag.engine.text import display_path, printable

STARTER = "starter"  # ships with vtag
DOWNLOADS = ".downloads"
_INCOMING = ".incoming"
_LOCK_WAIT_S = 120.0  # another vtag converts a large checkpoint in seconds, on a slow disk in a minute
_FILE_EXTENSIONS = (".pth", ".pt", ".pdparams", ".safetensors", ".onnx", ".json")


@dataclass(frozen=True)
class _ImageFile:
    """The file of an image model to install."""

    path: Path
    spec: ImageSpec


@dataclass(frozen=True)
class InstalledModel:
    """An installed model. If it cannot be used, `problem` says why and `spec` is None."""

    name: str
    folder: Path
    kind: str  # video; image, to start a training from
    size_bytes: int
    spec: ModelSpec | ImageSpec | None
    problem: str = ""


def installed_models() -> list[InstalledModel]:
    """The installed models, the starter first and then by name. Reads no weights."""
    root = models_dir()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    models = [_describe(f) for f in folders if is_model_name(f.name) and f.is_dir() and f.name != STARTER]
    starter = _starter_folder()
    return [_describe(starter), *models] if _is_model(starter) else models


def is_installed(name: str) -> bool:
    """Whether a model of this name is installed; the starter ships with vtag."""
    return is_model_name(name) and _is_model(_starter_folder() if name == STARTER else models_dir() / name)


def installed_folder(name: str) -> Path:
    """The folder of an installed model. Raises ModelError that says how to install it."""
    if is_installed(name):
        return _starter_folder() if name == STARTER else models_dir() / name
    if entry := read_catalog().get(name):
        raise ModelError(f"the model {name} is not here: {entry.how_to_get}")
    raise ModelError(f"there is no model and no file called {printable(name)[:100]!r}; {_suggestion(name)}")


def locate_model(model: str | Path) -> Path:
    """The checkpoint file or model folder that a name or a path means; for an image model its file.

    `model` is a path if it looks like one, or if the current folder has a file or a model folder of this name. Else
    it is a name. Raises ModelError.
    """
    path = Path(model).expanduser()
    if isinstance(model, Path) or _looks_like_a_path(model) or path.is_file() or _is_model(path):
        if not path.exists():
            raise ModelError(f"there is no checkpoint at {display_path(path)}")
    else:
        path = installed_folder(model)
    if (path / IMAGE_SPEC).is_file():
        with prefix_errors(path):
            return path / read_image_spec(path).file
    return path


def load_model(model: str | Path) -> Checkpoint:
    """The checkpoint of a model, given by name or path, with its weights. Raises ModelError."""
    path = locate_model(model)
    name = str(model) if path.parent == models_dir() else None
    with prefix_errors(path):
        backbone = read_backbone_name(path) if path.is_dir() else None
    if backbone is None:
        return load_checkpoint(path, name=name)
    return _load_head(path, backbone, name)


def backbone_source(model: str) -> str:
    """The name or path of the model with the backbone of `model`: itself, unless it is a head. Raises ModelError."""
    path = locate_model(model)
    with prefix_errors(path):
        return (read_backbone_name(path) if path.is_dir() else None) or model


def _load_head(folder: Path, backbone: str, name: str | None) -> Checkpoint:
    """The checkpoint of a folder that has only a head, with the backbone of another installed model."""
    with prefix_errors(folder):
        try:
            path = locate_model(backbone)
            if path.is_dir() and read_backbone_name(path) is not None:
                raise ModelError(f"{display_path(path)} has only a head, too")
            base = load_checkpoint(path)
        except ModelError as error:
            raise ModelError(f"it stands on the backbone of another model: {error}") from error
        return read_head_folder(folder, base, name=name)


def pull_model(
    name: str, labels: Sequence[str] | None = None, on_progress: ProgressCallback | None = None
) -> Path:
    """Download a model of the catalog, check its hash, and install it; returns its folder.

    An installed model is left as it is. The bytes of an interrupted download are kept, and the next call resumes it.
    Raises ModelError, DownloadError.
    """
    entry = read_catalog().get(name)
    if entry is None:
        raise ModelError(f"the catalogue has no {printable(name)[:100]!r}; {_suggestion(name)}")
    if is_installed(name):
        return installed_folder(name)
    _require_free_name(name)
    if labels is not None and entry.classes:
        check_labels(labels, entry.classes)  # before the download, not after it
    file = models_dir() / DOWNLOADS / entry.file_name
    sha256 = known_sha256(entry)
    if not _is_downloaded(file, sha256):
        fetch(
            entry.url,
            file,
            sha256_prefix=sha256,
            expected_bytes=entry.size_bytes,
            spare_bytes=entry.size_bytes or 0,  # for the converted copy
            manual_steps=entry.manual_steps,
            on_progress=on_progress,
        )
    try:
        checkpoint = _read(file, name, labels, entry)
    except ModelError as error:
        file.unlink(missing_ok=True)
        raise DownloadError(
            f"what {entry.host} sent is not the model {name} ({error}); by hand: {entry.manual_steps}"
        ) from error
    with _lock_models_dir() as incoming:
        # only now, so that later downloads are never compared with a broken file
        record_download(entry, file_sha256(file), file.stat().st_size)
        folder = _install(checkpoint, name, incoming)
    file.unlink(missing_ok=True)
    return folder


def import_model(file: Path, name: str | None = None, labels: Sequence[str] | None = None) -> str:
    """Install a checkpoint file or a model folder; returns the model's name.

    If the name is in the catalog, the file has to be that model. Raises ModelError, and then nothing is installed.
    """
    file = file.expanduser()
    model_name = name or model_stem(file)
    if not is_model_name(model_name):
        raise ModelError(
            f"{printable(model_name)[:100]!r} cannot be a model's name: use a-z, 0-9, dots and dashes (--name)"
        )
    _require_free_name(model_name)
    checkpoint = _read(file, model_name, labels, read_catalog().get(model_name))
    with _lock_models_dir() as incoming:
        _install(checkpoint, model_name, incoming)
    return model_name


def verify_model(name: str) -> None:
    """Compare an installed model with its recorded hash, which reads all weights. Raises ModelError."""
    folder = installed_folder(name)
    with prefix_errors(folder):
        if (folder / IMAGE_SPEC).is_file():
            spec = read_image_spec(folder)
            if file_sha256(folder / spec.file) != spec.sha256:
                raise ModelError(
                    f"its file is not what was installed: `vtag models remove {name}`, then again"
                )
            check_image_file(folder / spec.file)
            return
        if not read_spec(folder)[0].sha256:
            raise ModelError("its model.json has no hash to hold the weights against")
    load_model(name)  # compares the weights with the hash


def remove_model(name: str) -> None:
    """Delete an installed model and its partial download. Raises ModelError."""
    files = _model_files(name)
    with _lock_models_dir() as incoming:
        for number, file in enumerate(files):
            if file.is_dir() and not file.is_symlink():
                # renamed first, so that a kill while it is deleted leaves no half model
                file.rename(incoming / str(number))
            else:
                file.unlink(missing_ok=True)


def disk_usage(name: str) -> int:
    """How many bytes `remove_model` would free. Raises ModelError if it would."""
    return sum(
        part.stat().st_size
        for file in _model_files(name)
        for part in ((file, *file.rglob("*")) if file.is_dir() else (file,))
        if part.is_file()
    )


def _model_files(name: str) -> list[Path]:
    """The folder of a model and the files of its download. Raises ModelError if there are none."""
    if name == STARTER:
        raise ModelError(f"{name} comes with vtag and stays")
    if not is_model_name(name):
        installed_folder(name)  # raises
    files = [models_dir() / name]
    if entry := read_catalog().get(name):
        files += (models_dir() / DOWNLOADS).glob(f"{entry.file_name}*")
    existing = [file for file in files if file.exists() or file.is_symlink()]
    if not existing:
        installed_folder(name)  # raises
    return existing


def _starter_folder() -> Path:
    return Path(str(asset(STARTER)))


def _looks_like_a_path(model: str) -> bool:
    return (
        any(c in model for c in "/\\")
        or model.startswith(("~", "."))
        or model.lower().endswith(_FILE_EXTENSIONS)
    )


def _is_model(folder: Path) -> bool:
    return (folder / SPEC_FILE).is_file() or (folder / IMAGE_SPEC).is_file()


def _describe(folder: Path) -> InstalledModel:
    kind = "image" if (folder / IMAGE_SPEC).is_file() else "video"
    try:
        with prefix_errors(folder):
            spec: ModelSpec | ImageSpec
            if kind == "image":
                spec = read_image_spec(folder)
                weights = folder / spec.file
            else:
                spec, weights = read_spec(folder, name=folder.name)
            return InstalledModel(folder.name, folder, kind, weights.stat().st_size, spec)
    except ModelError as error:
        return InstalledModel(folder.name, folder, kind, 0, None, str(error))


def _suggestion(name: str) -> str:
    matches = difflib.get_close_matches(
        name, [*read_catalog(), *(model.name for model in installed_models())], 3, 0.5
    )
    return f"did you mean {' or '.join(matches)}?" if matches else "`vtag models list` shows the names"


def _is_downloaded(file: Path, sha256_prefix: str) -> bool:
    """Whether a complete download is left of a process that was killed before it installed the model."""
    try:
        return file_sha256(file).startswith(sha256_prefix)
    except OSError:
        return False


def _require_free_name(name: str) -> None:
    if name == STARTER or (models_dir() / name).exists():
        raise ModelError(
            f"a model called {name} is here already: choose another --name, or `vtag models remove {name}` first"
        )


def _read(
    file: Path, name: str, labels: Sequence[str] | None, entry: CatalogEntry | None
) -> Checkpoint | _ImageFile:
    """The model in `file`; it has to be the one of `entry`. Raises ModelError that begins with the file."""
    if (entry and entry.kind == "image") or (not entry and is_image_file(file)):
        return _read_image(file, name, entry)
    checkpoint = load_checkpoint(file, name=name, labels=labels)
    with prefix_errors(file):
        spec = _with_source(checkpoint.spec, file, entry)
        if labels is None and entry and entry.labels and file.is_file():
            published = tuple(asset("labels", entry.labels).read_text(encoding="utf-8").splitlines())
            check_labels(published, spec.sizes.num_classes)
            spec = replace(spec, labels=published)
        return replace(checkpoint, spec=spec)


def _read_image(file: Path, name: str, entry: CatalogEntry | None) -> _ImageFile:
    check_image_file(file)
    with prefix_errors(file):
        sha256 = file_sha256(file)
        if entry:
            _check_hash(entry, sha256)
            return _ImageFile(file, ImageSpec(entry.file_name, sha256, entry.url, entry.licence))
        extension = file.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", file.suffix) else ""
        return _ImageFile(file, ImageSpec(name + extension, sha256, printable(file.name)[:200]))


def _with_source(spec: ModelSpec, file: Path, entry: CatalogEntry | None) -> ModelSpec:
    """`spec` with its source, and with the licence and frame rate that its publisher states."""
    if file.is_dir():  # its model.json has them
        return spec
    if not entry:
        return replace(spec, source=spec.source or printable(file.name)[:200])
    _check_hash(entry, spec.sha256)
    if entry.classes and entry.classes != spec.sizes.num_classes:
        raise ModelError(
            f"not the published {entry.name}: it has {spec.sizes.num_classes} classes, not {entry.classes}"
        )
    return replace(spec, source=entry.url, licence=entry.licence, rate=entry.rate or spec.rate)


def _check_hash(entry: CatalogEntry, sha256: str) -> None:
    expected = known_sha256(entry)
    if not sha256.startswith(expected):
        raise ModelError(
            f"not the published {entry.name}: its SHA-256 is {sha256[:16]}..., not {expected[:16]}...; "
            "import it under another --name if it is the right one"
        )


@contextmanager
def _lock_models_dir() -> Iterator[Path]:
    """Hold the lock for changes of the models' folder; yields an empty folder on the same disk to build in.

    The folder is deleted afterwards, as is one that a killed process left. Raises ModelError if another process holds
    the lock for two minutes.
    """
    root = models_dir()
    try:
        make_private_dir(root)
        with lock_file(root / f"{_INCOMING}.lock", wait_s=_LOCK_WAIT_S):
            incoming = root / _INCOMING
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir(mode=0o700)
            try:
                yield incoming
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
    except LockHeldError as error:
        raise ModelError(f"{error.holder} is installing a model: try again when it is done") from None
    except OSError as error:
        reason = printable(error.strerror or str(error))
        raise ModelError(f"{display_path(root)} cannot be written: {reason}") from error


def _install(checkpoint: Checkpoint | _ImageFile, name: str, incoming: Path) -> Path:
    """Build the model's folder in `incoming` and move it into place."""
    _require_free_name(name)
    if isinstance(checkpoint, Checkpoint) and checkpoint.onnx:
        save_onnx_folder(checkpoint, incoming / name)
    elif isinstance(checkpoint, Checkpoint):
        save_model_folder(checkpoint, incoming / name)
    else:
        save_image_folder(checkpoint.path, checkpoint.spec, incoming / name)
    return (incoming / name).rename(models_dir() / name)
