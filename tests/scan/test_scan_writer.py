"""The order in which a scan stores a video: whoever looks meanwhile, or comes after a kill, sees nothing wrong."""

from __future__ import annotations

from pathlib import Path

from helpers.footage import make_video
from helpers.library_scan import rewrite_metadata, run_scan
from helpers.small_model import make_model

from vtag.engine.library.database import LibraryWriter


def test_a_content_is_known_and_unfinished_before_its_features_are_stored(
    library: LibraryWriter, tmp_path: Path
) -> None:
    """`clean` removes features of unknown contents, and a killed scan's features are not all that there is."""
    file = tmp_path / "videos" / "one.mp4"
    file.parent.mkdir()
    make_video(file, seconds=2)
    rewritten = file.with_name("two.mp4")
    stored: list[tuple[int, int]] = []

    def look(statement: str) -> None:
        if statement.startswith("INSERT"):
            contents = library.connection.execute("SELECT count(*) FROM contents").fetchone()[0]
            unfinished = library.connection.execute("SELECT count(*) FROM unfinished").fetchone()[0]
            stored.append((contents, unfinished))

    library.observations.set_trace_callback(look)
    model = make_model(tmp_path / "tiny")
    run_scan(library, model, file)
    rewritten.write_bytes(file.read_bytes())
    rewrite_metadata(rewritten, "the same pictures")
    assert run_scan(library, model, rewritten).scanned == 0  # its features are copied, and complete
    assert stored == [(1, 1), (2, 0)]
    assert library.connection.execute("SELECT count(*) FROM unfinished").fetchone() == (0,)
