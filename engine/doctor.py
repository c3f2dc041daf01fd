"""Checks the installation: what is there, what is wrong, and the command that fixes it."""

from __future__ import annotations

import contextlib
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from vtag.engine.errors import VtagError
from vtag.engine.models.registry import installed_models, verify_model
from vtag.engine.paths import home, library_path
from vtag.engine.text import display_path, pluralize

_CODECS = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "prores", "mjpeg")
_MIN_FREE_BYTES = 2**30


@dataclass(frozen=True)
class Finding:
    """The result of one check: `state` is ok, warning or wrong; `remedy` is what to do about it."""

    subject: str
    state: str
    message: str
    remedy: str = ""


def run_checks(db: Path | None = None) -> Iterator[Finding]:
    """The findings of all checks. A check that raises is a finding, too, and the others continue."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": _python,
        "torch": _torch,
        "onnxruntime": _onnxruntime,
        "backend": _backend,
        "video": _video,
        "models": _models,
        "library": lambda: _library(library_path(db)),
        "disk": _disk,
    }
    for subject, check in checks.items():
        try:
            yield from check()
        except Exception as error:  # any broken part of an unknown machine is a finding
            yield Finding(subject, "wrong", f"{type(error).__name__}: {error}")


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("vtag", "ok", f"{version('vtag')}, home {display_path(home())}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("torch", "wrong", f"cannot be imported: {error}", "pip install --force-reinstall torch")
        return
    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        total = float(torch.ones(8, device="cuda").sum().cpu())
        yield Finding("device", "ok" if total == 8 else "wrong", f"cuda: {name}")
    elif torch.backends.mps.is_available():
        yield Finding("device", "ok", "mps")
    elif torch.version.cuda and shutil.which("nvidia-smi"):
        yield Finding(
            "device", "warning", "there is an NVIDIA driver, but torch cannot use it", "update the driver"
        )
    else:
        yield Finding("device", "ok", "cpu")


def _onnxruntime() -> Iterator[Finding]:
    packages = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            packages.append(f"{name} {version(name)}")
    if len(packages) > 1:
        yield Finding(
            "onnxruntime",
            "wrong",
            f"{' and '.join(packages)} are installed over each other",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        )
    for name in ("onnx", "onnxruntime"):
        if find_spec(name) is None:
            yield Finding(name, "wrong", "is not installed", f"pip install {name}")
            return
    from vtag.engine.backends import onnx_session

    seconds = onnx_session.time_small_network("cpu")
    message = (
        f"{onnx_session.import_runtime().__version__}, the processor computes (tried in {seconds:.2f} s)"
    )
    yield Finding("onnxruntime", "ok", message)
    yield from _onnx_on_cuda()


def _onnx_on_cuda() -> Iterator[Finding]:
    from vtag.engine.backends import onnx_session

    missing = onnx_session.missing_cuda_libraries()
    libraries = f"CUDA 13's libraries: {'missing ' + ', '.join(missing) if missing else 'all found'}"
    if not onnx_session.cuda_cards():
        yield Finding("onnx cuda", "ok", f"no CUDA card here; {libraries}")
        return
    try:
        seconds = onnx_session.time_small_network("cuda")
        yield Finding("onnx cuda", "ok", f"computes (tried in {seconds:.2f} s); {libraries}")
    except VtagError as error:
        remedy = "pip install --upgrade 'onnxruntime-gpu[cuda,cudnn]'"
        yield Finding("onnx cuda", "warning", f"{error}; {libraries}", remedy)


def _backend() -> Iterator[Finding]:
    """What `--backend auto` means: the backend that the user pinned, and the measured choices."""
    from vtag.engine.backends import autotune, measurements

    try:
        if pinned := autotune.pinned_backend():
            yield Finding("backend", "ok", f"auto is {pinned}: {autotune.BACKEND_VARIABLE} says so")
    except VtagError as error:
        yield Finding("backend", "wrong", str(error), f"unset {autotune.BACKEND_VARIABLE}")
    for choice in measurements.stored_measurements():
        onnx_time = "gives other answers" if choice.onnx_s is None else f"{choice.onnx_s:.2g} s"
        message = f"{choice.backend} (torch {choice.torch_s:.2g} s a clip, onnx {onnx_time}; both fp32)"
        yield Finding("backend", "ok", f"{choice.model} {choice.clip}: {message}")


def _video() -> Iterator[Finding]:
    import av

    libraries = ".".join(map(str, av.library_versions["libavcodec"]))
    yield Finding("av", "ok", f"{av.__version__}, libavcodec {libraries}")
    missing = []
    for codec in _CODECS:
        try:
            av.Codec(codec, "r")
        except av.codec.codec.UnknownCodecError:
            missing.append(codec)
    if missing:
        yield Finding(
            "codecs", "warning", f"cannot decode {', '.join(missing)}", "pip install --force-reinstall av"
        )
    else:
        yield Finding("codecs", "ok", ", ".join(_CODECS))


def _models() -> Iterator[Finding]:
    names = [model.name for model in installed_models()]
    for name in names:
        try:
            verify_model(name)
            yield Finding("model", "ok", name)
        except VtagError as error:
            yield Finding("model", "wrong", str(error), f"vtag models remove {name}")
    if not names:
        yield Finding("model", "warning", "none is here", "vtag models list")


def _library(path: Path) -> Iterator[Finding]:
    from vtag.engine.library.database import check_health, observations_path, open_reader

    if not path.is_file():
        yield Finding("library", "ok", f"none yet at {display_path(path)}")
        return
    try:
        with contextlib.closing(open_reader(path)) as reader:
            integrity, videos, moments = check_health(reader)
    except (VtagError, sqlite3.Error) as error:
        yield Finding("library", "wrong", str(error), "vtag library restore, or name another file with --db")
        return
    contents = f"{pluralize(videos, 'video')}, {pluralize(moments, 'moment')}"
    message = f"{display_path(path)}: {contents}, SQLite {sqlite3.sqlite_version}"
    yield Finding(
        "library", "ok" if integrity == "ok" else "wrong", message if integrity == "ok" else integrity
    )
    for file in (path, observations_path(path)):
        if sys.platform != "win32" and file.exists() and file.stat().st_mode & 0o077:
            yield Finding(
                "permissions", "warning", f"{display_path(file)} can be read by others", f"chmod 600 '{file}'"
            )


def _disk() -> Iterator[Finding]:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state = "ok" if free > _MIN_FREE_BYTES else "warning"
    yield Finding("disk", state, f"{free / 2**30:.1f} GiB free at {display_path(folder)}")
