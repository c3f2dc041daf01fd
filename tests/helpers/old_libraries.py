"""Libraries that earlier versions of vtag made, each with what its own search found, in tests/data/libraries.

`python -m helpers.old_libraries m012`, run in tests/, adds one of the version that is here.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "data" / "libraries"
NAMES = tuple(sorted(path.name.removesuffix(".tar.xz") for path in _FOLDER.glob("*.tar.xz")))
QUERY = 'archery OR yoga OR "riding a bike" OR grandma'


def unpack(name: str, folder: Path) -> Path:
    """Unpack the library of a schema into `folder`; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(_FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "library.db"


def found_then(library: Path) -> list[list[Any]]:
    """What the search of the version that made an unpacked library found for QUERY."""
    return list(json.loads((library.parent / "found.json").read_text()))


def main(name: str) -> None:
    """Make a library with this version: three scanned videos, and a tag added, one confirmed and one rejected."""
    from helpers.footage import make_video
    from helpers.small_model import make_model
    from helpers.undisturbed import run_vtag

    def vtag(*arguments: str | Path) -> str:
        ran = run_vtag(*arguments, "--db", folder / "library.db")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "films").mkdir()
        for seed in range(3):
            make_video(folder / "films" / f"{seed}.mp4", seconds=4, fps=4, width=64, height=48, seed=seed)
        model = make_model(folder / "tiny")
        vtag("scan", folder / "films", "--model", model, "--threshold", "0.05")
        vtag("tag", "reject", str(json.loads(vtag("search", "yoga", "--json"))[0]["id"]))
        vtag("tag", "add", folder / "films" / "2.mp4", "grandma's cat")
        vtag("tag", "confirm", str(json.loads(vtag("search", "archery", "--json"))[0]["id"]))
        rows = [
            [
                os.path.basename(m["path"]),
                m["label"],
                m["start_ms"],
                m["end_ms"],
                m["source"],
                round(m["score"], 3),
            ]
            for m in json.loads(vtag("search", "--sure", "--limit", "100", "--json", QUERY))
        ]
        _pack(name, folder, sorted(rows))


def _pack(name: str, folder: Path, rows: list[list[Any]]) -> None:
    """Write the archive, without what tells of this machine."""
    contents = {"found.json": json.dumps(rows, indent=0).encode()}
    for file in ("library.db", "observations.db"):
        with closing(sqlite3.connect(folder / file)) as connection:
            if file == "library.db":
                connection.execute("UPDATE runs SET host = 'elsewhere', pid = 1")
                connection.execute("UPDATE volumes SET key = 'uuid:' || id")
                connection.commit()
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("VACUUM")
        contents[file] = (folder / file).read_bytes()
    with tarfile.open(_FOLDER / f"{name}.tar.xz", "w:xz") as archive:
        for file, data in contents.items():
            info = tarfile.TarInfo(file)
            info.size, info.mode = len(data), 0o600
            archive.addfile(info, io.BytesIO(data))


if __name__ == "__main__":
    main(sys.argv[1])
