"""Speeds measured once on this machine and stored in VTAG_HOME, so that later scans compute the same way.

`autotune.py` measures Torch and ONNX Runtime, `bf16.py` measures bfloat16. Both store their results here. A result
holds for one computer, its number of CPUs and the versions of the runtimes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vtag.engine.backends.protocol import usable_processors
from vtag.engine.paths import home, make_private_dir
from vtag.engine.swin.config import ModelSpec
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.system.locks import lock_file


@dataclass(frozen=True)
class Measurement:
    """Seconds a clip with each runtime, and the faster `backend`. `onnx_s` is None if the answers differed."""

    model: str
    clip: str  # TxHxW
    backend: str
    torch_s: float
    onnx_s: float | None


def measurement_key(spec: ModelSpec) -> str:
    """The key of a model's measurement on this machine, at the model's own clip size."""
    return f"{spec.backbone_hash[:32]} {'x'.join(map(str, spec.clip_size))} {_machine()}"


def stored_measurements() -> list[Measurement]:
    """All measurements of this machine with the installed versions."""
    return [measurement for key, measurement in read_measurements().items() if key.endswith(_machine())]


def read_measurements() -> dict[str, Measurement]:
    """All stored measurements by key, of other versions, too. Skips entries that are not sound."""
    try:
        entries = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {key: measurement for key, entry in entries.items() if (measurement := _parse(entry))}


def save_measurement(key: str, measurement: Measurement) -> None:
    """Add a measurement to the stored ones. Raises OSError."""
    entries = {name: asdict(entry) for name, entry in {**read_measurements(), key: measurement}.items()}
    write_atomically(_file(), json.dumps(entries, indent=1).encode())


@contextmanager
def measurement_lock() -> Iterator[None]:
    """Lets one process measure at a time. Raises LockHeldError if another one does, OSError if it cannot write."""
    make_private_dir(_file().parent)
    with lock_file(_file().with_suffix(".lock")):
        yield


def read_bf16_gain(torch_version: str) -> float | None:
    """How many times as fast bfloat16 is as float32 on this machine. None if that is not stored."""
    try:
        return float(_bf16_file(torch_version).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def save_bf16_gain(torch_version: str, gain: float) -> None:
    """Store the gain, unless another process has done so. If it cannot be stored, it is measured again next time."""
    file = _bf16_file(torch_version)
    with suppress(OSError):
        make_private_dir(file.parent)
        with open(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as handle:
            handle.write(f"{gain:.2f}")


def _file() -> Path:
    return home() / "cache" / "backends.json"


def _bf16_file(torch_version: str) -> Path:
    machine = f"{platform.node()} {usable_processors()} torch {torch_version}"
    return home() / "cache" / f"bf16-{hashlib.blake2b(machine.encode(), digest_size=6).hexdigest()}"


def _machine() -> str:
    """This computer and the versions of its runtimes."""
    runtime = _version("onnxruntime-gpu") or _version("onnxruntime")
    return f"{platform.node()} {usable_processors()} torch {_version('torch')} onnxruntime {runtime}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _parse(entry: Any) -> Measurement | None:
    """The measurement in a JSON entry. None if the entry is not one."""
    try:
        measurement = Measurement(**entry)
    except TypeError:
        return None
    has_texts = isinstance(measurement.model, str) and isinstance(measurement.clip, str)
    has_numbers = isinstance(measurement.torch_s, float) and isinstance(measurement.onnx_s, float | None)
    return measurement if has_texts and has_numbers and measurement.backend in ("torch", "onnx") else None
