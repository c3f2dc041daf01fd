"""What is built from the tree is the tree: packages, assets and type marks, in the wheel and by way of the sdist."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("app", "engine", "trainer", "assets")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_RECIPES = ROOT / "trainer" / "recipes"
_JUNK = ("__pycache__", "*.pyc", ".DS_Store")
_BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def in_tree() -> set[str]:
    """Every file of the four rooms as the wheel names it; the recipes of the models that ship stay out."""
    found = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if _RECIPES in path.parents or "__pycache__" in path.parts:
                continue
            if path.is_file() and path.name != ".DS_Store":
                found.add(f"vtag/{path.relative_to(ROOT).as_posix()}")
    return found


def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def build(source: Path, kind: str, target: Path) -> Path:
    """Build a `wheel` or `sdist` of `source` with the backend that pyproject.toml names."""
    pytest.importorskip("setuptools", minversion="77")
    target.mkdir(exist_ok=True)
    run = subprocess.run(
        [sys.executable, "-c", _BUILD, f"build_{kind}", str(target)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    return target / run.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns(*_JUNK))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    return build(source, "sdist", folder / "dist")


def test_the_packages_that_are_listed_are_those_of_the_tree() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    there = {
        "vtag." + ".".join(path.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
        if _RECIPES not in path.parents
    }
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == there


def test_no_module_lies_outside_a_package() -> None:
    assert [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    ] == []


def test_the_wheel_that_is_built_from_the_sdist_has_every_file(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    wheel = build(unpacked, "wheel", tmp_path / "dist")
    assert in_wheel(wheel) == in_tree()
    assert {f"vtag/{room}/py.typed" for room in ROOMS} <= in_wheel(wheel)
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert "vtag = vtag.app.__main__:main" in archive.read(entry_points).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_the_version_is_one() -> None:
    told = PROJECT["project"]["version"]
    assert version("vtag") == told
    assert f"## {told}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
