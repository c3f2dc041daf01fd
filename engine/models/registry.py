"""The models that are here: from a name or a path to a checkpoint; models in, held against hashes, and out."""

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
    backbone_of,
    read_head_folder,
    read_spec,
    save_onnx_folder,
)
from vtag.engine.checkpoints.safe_open import said_of
from vtag.engine.errors import DownloadError, ModelError
from vtag.engine.models.catalog import CatalogEntry, is_model_name, read_catalog
from vtag.engine.models.download import Progress, fetch, file_sha256
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

STARTER = "starter"  # comes with vtag
DOWNLOADS = ".downloads"
_INCOMING = ".incoming"
_PATIENCE_S = 120.0  # a large checkpoint takes seconds to convert, on a slow disk a minute
_ENDINGS = (".pth", ".pt", ".pdparams", ".safetensors", ".onnx", ".json")


@dataclass(frozen=True)
class _ImageFile:
    """An image model's file, not installed yet."""

    path: Path
    spec: ImageSpec


@dataclass(frozen=True)
class InstalledModel:
    """A model that is here; `problem` says why it cannot be used, and then there is no spec."""

    name: str
    folder: Path
    kind: str  # video, or image: to start a training from
    size_bytes: int
    spec: ModelSpec | ImageSpec | None
    problem: str = ""


def installed_models() -> list[InstalledModel]:
    """The models that are here, the starter first and then by name; no weights are read."""
    root = models_dir()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    found = [_look_at(f) for f in folders if is_model_name(f.name) and f.is_dir() and f.name != STARTER]
    return [_look_at(_starter()), *found] if _is_model(_starter()) else found


def is_installed(name: str) -> bool:
    """Whether a name is an installed model's, or the starter's."""
    return is_model_name(name) and _is_model(_starter() if name == STARTER else models_dir() / name)


def installed_folder(name: str) -> Path:
    """The folder of an installed model. Raises ModelError that says what to do about one that is not here."""
    if is_installed(name):
        return _starter() if name == STARTER else models_dir() / name
    if entry := read_catalog().get(name):
        raise ModelError(f"the model {name} is not here: {entry.how_to_get}")
    raise ModelError(f"there is no model and no file called {printable(name)[:100]!r}; {_nearest(name)}")


def locate_model(model: str | Path) -> Path:
    """The checkpoint file or model folder that a name or a path means; an image model's is its file.

    What looks like a path, or is a file or a model folder from where we stand, is a path; all else is a name.
    Raises ModelError.
    """
    path = Path(model).expanduser()
    if isinstance(model, Path) or _looks_like_a_path(model) or path.is_file() or _is_model(path):
        if not path.exists():
            raise ModelError(f"there is no checkpoint at {display_path(path)}")
    else:
        path = installed_folder(model)
    if (path / IMAGE_SPEC).is_file():
        with said_of(path):
            return path / read_image_spec(path).file
    return path


def load_model(model: str | Path) -> Checkpoint:
    """The checkpoint of a name or a path, with its weights. Raises ModelError."""
    path = locate_model(model)
    name = str(model) if path.parent == models_dir() else None
    with said_of(path):
        base = backbone_of(path) if path.is_dir() else None
    if base is None:
        return load_checkpoint(path, name=name)
    return _load_head(path, base, name)


def backbone_source(model: str) -> str:
    """The name or path of the model whose backbone `model` has: its own, unless it is a head. Raises ModelError."""
    path = locate_model(model)
    with said_of(path):
        return (backbone_of(path) if path.is_dir() else None) or model


def _load_head(folder: Path, base: str, name: str | None) -> Checkpoint:
    """A model that is a head alone: with the backbone of `base`, which has to be here and a whole model."""
    with said_of(folder):
        try:
            path = locate_model(base)
            if path.is_dir() and backbone_of(path) is not None:
                raise ModelError(f"{display_path(path)} is a head alone, too")
            whole = load_checkpoint(path)
        except ModelError as error:
            raise ModelError(f"it stands on the backbone of another model: {error}") from error
        return read_head_folder(folder, whole, name=name)


def pull_model(name: str, labels: Sequence[str] | None = None, on_progress: Progress | None = None) -> Path:
    """Download a catalogue model, hold it against its hash, and install it; the model's folder.

    A model that is here already is left as it is. What came of an interrupted download is kept, and the next
    call goes on from there. Raises ModelError, DownloadError.
    """
    entry = read_catalog().get(name)
    if entry is None:
        raise ModelError(f"the catalogue has no {printable(name)[:100]!r}; {_nearest(name)}")
    if is_installed(name):
        return installed_folder(name)
    _refuse_taken(name)
    if labels is not None and entry.classes:
        check_labels(labels, entry.classes)  # before the download, not after it
    file = models_dir() / DOWNLOADS / entry.file_name
    known = known_sha256(entry)
    if not _is_whole(file, known):
        fetch(
            entry.url,
            file,
            sha256_prefix=known,
            expected_bytes=entry.size_bytes,
            room_bytes=entry.size_bytes or 0,  # it is converted, and both are here for a moment
            by_hand=entry.by_hand,
            on_progress=on_progress,
        )
    try:
        arrived = _read(file, name, labels, entry)
    except ModelError as error:
        file.unlink(missing_ok=True)
        raise DownloadError(
            f"what {entry.host} sent is not the model {name} ({error}); by hand: {entry.by_hand}"
        ) from error
    with _writing() as incoming:
        # recorded only now: a broken file must not become what later downloads are held against
        record_download(entry, file_sha256(file), file.stat().st_size)
        folder = _install(arrived, name, incoming)
    file.unlink(missing_ok=True)
    return folder


def import_model(file: Path, name: str | None = None, labels: Sequence[str] | None = None) -> str:
    """Bring a checkpoint file or a model folder in by hand; returns its name here.

    A file that takes a catalogue's name is held against what is known of that model. Raises ModelError, and
    leaves nothing half-made.
    """
    file = file.expanduser()
    chosen = name or re.sub(r"[^a-z0-9._-]+", "-", file.absolute().stem.lower()).strip("-._")[:64]
    if not is_model_name(chosen):
        raise ModelError(
            f"{printable(chosen)[:100]!r} cannot be a model's name: use a-z, 0-9, dots and dashes (--name)"
        )
    _refuse_taken(chosen)
    arrived = _read(file, chosen, labels, read_catalog().get(chosen))
    with _writing() as incoming:
        _install(arrived, chosen, incoming)
    return chosen


def verify_model(name: str) -> None:
    """Hold an installed model against its own record: every weight is read. Raises ModelError."""
    folder = installed_folder(name)
    with said_of(folder):
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
    load_model(name)  # which holds the weights against the hash


def remove_model(name: str) -> None:
    """Delete an installed model, and what came of an interrupted download of it. Raises ModelError."""
    files = _belongings(name)
    with _writing() as incoming:
        for number, file in enumerate(files):
            if file.is_dir() and not file.is_symlink():
                file.rename(
                    incoming / str(number)
                )  # a kill amid the deleting leaves no half model in its place
            else:
                file.unlink(missing_ok=True)


def disk_usage(name: str) -> int:
    """How many bytes `remove` would free. Raises ModelError where it would."""
    return sum(
        part.stat().st_size
        for file in _belongings(name)
        for part in ((file, *file.rglob("*")) if file.is_dir() else (file,))
        if part.is_file()
    )


def _belongings(name: str) -> list[Path]:
    """The folder of a model and the parts of its download. Raises ModelError where there are none."""
    if name == STARTER:
        raise ModelError(f"{name} comes with vtag and stays")
    if not is_model_name(name):
        installed_folder(name)
    files = [models_dir() / name]
    if entry := read_catalog().get(name):
        files += (models_dir() / DOWNLOADS).glob(f"{entry.file_name}*")
    if not (here := [file for file in files if file.exists() or file.is_symlink()]):
        installed_folder(name)
    return here


def _starter() -> Path:
    return Path(str(asset(STARTER)))


def _looks_like_a_path(model: str) -> bool:
    return any(c in model for c in "/\\") or model.startswith(("~", ".")) or model.lower().endswith(_ENDINGS)


def _is_model(folder: Path) -> bool:
    return (folder / SPEC_FILE).is_file() or (folder / IMAGE_SPEC).is_file()


def _look_at(folder: Path) -> InstalledModel:
    kind = "image" if (folder / IMAGE_SPEC).is_file() else "video"
    try:
        with said_of(folder):
            spec: ModelSpec | ImageSpec
            if kind == "image":
                spec = read_image_spec(folder)
                weights = folder / spec.file
            else:
                spec, weights = read_spec(folder, name=folder.name)
            return InstalledModel(folder.name, folder, kind, weights.stat().st_size, spec)
    except ModelError as error:
        return InstalledModel(folder.name, folder, kind, 0, None, str(error))


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(
        name, [*read_catalog(), *(model.name for model in installed_models())], 3, 0.5
    )
    return f"did you mean {' or '.join(near)}?" if near else "`vtag models list` shows the names"


def _is_whole(file: Path, known: str) -> bool:
    """Whether a download is here that a killed process did not come to install."""
    try:
        return file_sha256(file).startswith(known)
    except OSError:
        return False


def _refuse_taken(name: str) -> None:
    if name == STARTER or (models_dir() / name).exists():
        raise ModelError(
            f"a model called {name} is here already: choose another --name, or `vtag models remove {name}` first"
        )


def _read(
    file: Path, name: str, labels: Sequence[str] | None, entry: CatalogEntry | None
) -> Checkpoint | _ImageFile:
    """The model in `file`, held against `entry`. Raises ModelError that begins with the file."""
    if (entry and entry.kind == "image") or (not entry and is_image_file(file)):
        return _read_image(file, name, entry)
    checkpoint = load_checkpoint(file, name=name, labels=labels)
    with said_of(file):
        spec = _described(checkpoint.spec, file, entry)
        if labels is None and entry and entry.labels and file.is_file():  # known only now to be that model
            published = tuple(asset("labels", entry.labels).read_text(encoding="utf-8").splitlines())
            check_labels(published, spec.sizes.num_classes)
            spec = replace(spec, labels=published)
        return replace(checkpoint, spec=spec)


def _read_image(file: Path, name: str, entry: CatalogEntry | None) -> _ImageFile:
    check_image_file(file)
    with said_of(file):
        sha256 = file_sha256(file)
        if entry:
            _hold_against(entry, sha256)
            return _ImageFile(file, ImageSpec(entry.file_name, sha256, entry.url, entry.licence))
        ending = file.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", file.suffix) else ""
        return _ImageFile(file, ImageSpec(name + ending, sha256, printable(file.name)[:200]))


def _described(spec: ModelSpec, file: Path, entry: CatalogEntry | None) -> ModelSpec:
    """`spec` with where it came from, and what its publisher says that no tensor tells."""
    if file.is_dir():  # it carries its own words
        return spec
    if not entry:
        return replace(spec, source=spec.source or printable(file.name)[:200])
    _hold_against(entry, spec.sha256)
    if entry.classes and entry.classes != spec.sizes.num_classes:
        raise ModelError(
            f"not the published {entry.name}: it has {spec.sizes.num_classes} classes, not {entry.classes}"
        )
    return replace(spec, source=entry.url, licence=entry.licence, rate=entry.rate or spec.rate)


def _hold_against(entry: CatalogEntry, sha256: str) -> None:
    if not sha256.startswith(known := known_sha256(entry)):
        raise ModelError(
            f"not the published {entry.name}: its SHA-256 is {sha256[:16]}..., not {known[:16]}...; "
            "bring it in under another --name if it is meant"
        )


@contextmanager
def _writing() -> Iterator[Path]:
    """The one who changes the models' folder; an empty folder to build in, on the same disk, swept afterwards.

    What a killed process left there is swept too. Raises ModelError where another process is at it for long.
    """
    root = models_dir()
    try:
        make_private_dir(root)
        with lock_file(root / f"{_INCOMING}.lock", wait_s=_PATIENCE_S):
            incoming = root / _INCOMING
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir(mode=0o700)
            try:
                yield incoming
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
    except LockHeldError:
        raise ModelError("another vtag is bringing a model in: try again when it is done") from None
    except OSError as error:
        reason = printable(error.strerror or str(error))
        raise ModelError(f"{display_path(root)} cannot be written: {reason}") from error


def _install(arrived: Checkpoint | _ImageFile, name: str, incoming: Path) -> Path:
    """Build the model's folder in `incoming` and move it into place."""
    _refuse_taken(name)
    if isinstance(arrived, Checkpoint) and arrived.onnx:
        save_onnx_folder(arrived, incoming / name)
    elif isinstance(arrived, Checkpoint):
        save_model_folder(arrived, incoming / name)
    else:
        save_image_folder(arrived.path, arrived.spec, incoming / name)
    return (incoming / name).rename(models_dir() / name)
