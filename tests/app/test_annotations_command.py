"""`vtag tag` and `vtag words` as a person uses them, and the file that keeps a person's words."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.library_factory import add_video, fill_library
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations import annotation_file, annotation_log, merging, undo_redo
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import search
from vtag.engine.library.store import heads

Vtag = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def videos(tmp_path: Path, vtag_home: Path) -> Path:
    """Two videos of 8 s, seen by a model; the library is at home."""
    with LibraryWriter.open(vtag_home / "library.db") as library:
        heads.use_model(library, fill_library(library, tmp_path / "v", 2))
    return tmp_path / "v"


def ran(done: subprocess.CompletedProcess[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_person_corrects_and_takes_it_back(vtag: Vtag, videos: Path, tmp_path: Path) -> None:
    first, *rest = ran(vtag("search", "yoga")).stdout.splitlines()
    number = first.split()[0]
    assert ran(vtag("tag", "reject", number)).stderr.startswith("rejected yoga 0:00:0")
    assert ran(vtag("search", "yoga")).stdout.splitlines() == rest
    ran(vtag("tag", "add", videos / "0.mp4", "Grandma", "--from", "0:01.5", "--to", "3"))
    assert ran(vtag("search", "grandma")).stdout.endswith(f"1.00  0:00:01-0:00:03  Grandma  {videos}/0.mp4\n")
    assert ran(vtag("tag", "undo")).stderr == "undone: added Grandma 0:00:01-0:00:03\n"
    assert ran(vtag("tag", "undo")).stderr.startswith("undone: rejected yoga")
    assert ran(vtag("search", "yoga")).stdout.splitlines() == [first, *rest]
    log = ran(vtag("tag", "log")).stdout.splitlines()
    assert [line.endswith(f"{videos}/0.mp4  (undone)") or "yoga" in line for line in log] == [True, True]
    assert [c["action"] for c in json.loads(ran(vtag("tag", "log", "--json")).stdout)] == [
        "added",
        "rejected",
    ]


def test_a_label_is_renamed_and_removed_as_a_whole_and_brought_back(vtag: Vtag, videos: Path) -> None:
    def found(label: str) -> int:
        return len(vtag("search", f'label:"{label}" source:user').stdout.splitlines())

    for number in range(2):
        ran(vtag("tag", "add", videos / f"{number}.mp4", "waving"))
    assert ran(vtag("words", "rename", "waving", "greeting")).stderr == "renamed 2 annotations\n"
    assert (found("waving"), found("greeting")) == (0, 2)
    assert ran(vtag("words", "remove", "greeting")).stderr == "forgotten 2 annotations\n"
    assert found("greeting") == 0
    for _ in range(2):
        ran(vtag("tag", "undo"))
    assert found("waving") == 2
    assert (
        "no annotation of yours with the label 'greeting'"
        in ran(vtag("words", "remove", "greeting"), 1).stderr
    )
    ran(vtag("tag", "confirm", ran(vtag("search", "yoga")).stdout.split()[0]))
    assert "still finds yoga" in ran(vtag("words", "remove", "yoga")).stderr


def test_a_video_that_was_never_scanned_can_be_tagged(vtag: Vtag, tmp_path: Path) -> None:
    (tmp_path / "new.mp4").write_bytes(b"some bytes")
    ran(vtag("tag", "add", tmp_path / "new.mp4", "birthday"))
    (line,) = ran(vtag("words")).stdout.splitlines()
    assert line.endswith(f"added      birthday (all of it)  {tmp_path}/new.mp4")
    assert "birthday" in ran(vtag("search", "birthday")).stdout


def test_tags_of_a_video_that_was_never_scanned_end_with_it(vtag: Vtag, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", seconds=4, fps=8)
    ran(vtag("tag", "add", video, "birthday"))
    ran(vtag("tag", "add", video, "cake", "--from", "1"))
    ran(vtag("tag", "add", video, "song", "--from", "2", "--to", "60"))
    rows = csv.DictReader(ran(vtag("search", "birthday OR cake OR song", "--csv")).stdout.splitlines())
    assert {(row["start_ms"], row["end_ms"]) for row in rows} == {
        ("0", "4000"), ("1000", "4000"), ("2000", "4000")
    }  # fmt: skip
    assert "ends at 4.0 s" in ran(vtag("tag", "add", video, "late", "--from", "5"), 1).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tag", "confirm", "99999"], 1, "no moment 99999"),
        (["tag", "confirm", "x"], 2, "is no moment id"),
        (["tag", "add", "none.mp4", "x"], 1, "none.mp4 cannot be read"),
        (["tag", "add", ".", "x"], 1, "is no file"),
        (["tag", "undo"], 1, "nothing to undo"),
        (["tag", "add", "v/0.mp4", "x", "--from", "yesterday"], 2, "no time"),
        (["tag", "add", "v/0.mp4", "x", "--from", "12"], 1, "ends at 8.0 s"),
        (["words", "import", "none"], 1, "cannot be read"),
        (["words", "export", "v/0.mp4"], 1, "is there already"),
        (["words", "export", "v/none/x"], 1, "cannot be written"),
        (["words", "export", "v/busy"], 1, "v/busy cannot be written"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    vtag: Vtag, videos: Path, arguments: list[str], code: int, said: str
) -> None:
    (videos / "busy.part").mkdir()
    done = ran(vtag(*arguments, cwd=videos.parent), code)
    assert said in " ".join(done.stderr.replace("│", " ").split()) and not done.stdout
    assert code == 2 or done.stderr.count("\n") == 1


def test_words_travel_in_a_file_of_their_own(vtag: Vtag, videos: Path, tmp_path: Path) -> None:
    ran(vtag("tag", "add", videos / "0.mp4", "Grandma", "--from", "1", "--to", "3"))
    ran(vtag("tag", "rename", ran(vtag("search", "yoga")).stdout.split()[0], "stretching"))
    file = tmp_path / "words.jsonl"
    assert ran(vtag("words", "export", file)).stderr == f"wrote 3 annotations to {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ran(vtag("words", "export", "-")).stdout == file.read_text(encoding="utf-8")
    there = ran(vtag("words", "import", file)).stderr
    assert there == "read 3 annotations: 0 taken, 3 known already\n"
    new = tmp_path / "new" / "library.db"
    first = ran(vtag("words", "import", file, "--db", new)).stderr
    assert (
        first
        == "read 3 annotations: 3 taken, 0 known already\n3 annotations wait for a scan to find the video\n"
    )
    assert len(ran(vtag("words", "--homeless", "--db", new)).stdout.splitlines()) == 3
    with LibraryWriter.open(new) as library:  # the video comes home
        add_video(library, tmp_path / "elsewhere" / "0.mp4", seed=0, is_scanned=False)
    assert "elsewhere/0.mp4" in ran(vtag("search", "grandma", "--db", new)).stdout
    ran(vtag("tag", "undo", "--db", new))
    assert not ran(vtag("words", "--db", new)).stdout


def test_a_replaced_files_words_are_homeless_and_say_where_they_were(vtag: Vtag, videos: Path) -> None:
    ran(vtag("tag", "add", videos / "0.mp4", "Grandma"))
    (videos / "0.mp4").write_bytes(b"another video")
    ran(vtag("tag", "add", videos / "0.mp4", "Grandpa"))
    (line,) = ran(vtag("words", "--homeless")).stdout.splitlines()
    assert line.endswith(f"Grandma (all of it)  {videos}/0.mp4")


GOOD = {
    "content": "3-" + "0" * 32,
    "label": "yoga",
    "start_ms": 0,
    "end_ms": 5,
    "verdict": "added",
    "said_at": "2024-01-01T00:00:00+00:00",
}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON"),
        ("[" * 60000, "no JSON"),
        ("[]", "no JSON object"),
        ("x" * 70000, "too long"),
        ({"label": ""}, "its label"),
        ({"label": "a\x1bb"}, "its label"),
        ({"label": 3}, "its label"),
        ({"start_ms": 9}, "in order"),
        ({"start_ms": None}, "in order"),
        ({"start_ms": True}, "in order"),
        ({"end_ms": 1e300}, "in order"),
        ({"verdict": "maybe"}, "one of added, confirmed, rejected"),
        ({"content": "../x"}, "no key"),
        ({"content": "9" * 19 + "-" + "0" * 32}, "no key"),
        ({"said_at": "soon\x1b[0m"}, r"'soon\\x1b\[0m' is no date"),
        ({"said_at": None}, "is no date"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_taken(
    library: LibraryWriter, line: str | dict[str, object], said: str
) -> None:
    wrong = line if isinstance(line, str) else json.dumps({**GOOD, **line})
    lines = [json.dumps(GOOD).encode(), b"", wrong.encode()]
    with pytest.raises(LibraryError, match=f"f, line 3.*{said}"):
        annotation_file.import_lines(library, lines, "f")
    assert (
        annotation_log.list_annotations(library.connection)
        == []
        == library.connection.execute("SELECT * FROM contents").fetchall()
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("from_stdin", [False, True])
def test_a_file_that_a_shell_rewrote_is_read(
    vtag: Vtag, vtag_home: Path, tmp_path: Path, encoding: str, from_stdin: bool
) -> None:
    file = tmp_path / "words.jsonl"
    file.write_bytes(
        (json.dumps(GOOD | {"label": "K\u00fcche"}, ensure_ascii=False) + "\r\n").encode(encoding)
    )
    with file.open("rb") as stdin:
        ran(vtag("words", "import", "-" if from_stdin else file, stdin=stdin))
    with LibraryWriter.open(vtag_home / "library.db") as library:
        assert [a.label for a in annotation_log.list_annotations(library.connection)] == ["K\u00fcche"]


def test_of_two_words_on_a_place_the_later_counts_whatever_its_zone(library: LibraryWriter) -> None:
    def take(verdict: str, said_at: str) -> int:
        line = json.dumps({**GOOD, "verdict": verdict, "said_at": said_at}).encode()
        return len(annotation_file.import_lines(library, [line], "f")[0].after)

    assert take("added", "2024-01-01T10:00:00+00:00") == 1
    assert take("rejected", "2024-01-01T11:00:00+05:00") == 0  # four hours earlier
    assert take("rejected", "2024-01-01T12:00:00") == 1
    assert take("confirmed", "9999-01-01T00:00:00+00:00") == 1
    (word,) = annotation_log.list_annotations(library.connection)
    assert word.verdict == "confirmed" and word.said_at < "9999"
    assert take("confirmed", "9999-01-01T00:00:00+00:00") == 0


SPOKEN = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["yoga", "archery", "näh en"]),
        st.sampled_from([(None, None), (0, 2000), (1000, 5000)]),
        st.sampled_from(annotation_log.VERDICTS),
        st.integers(0, 3).map(lambda day: f"2024-01-0{day + 1}T00:00:00+00:00"),
    ),
    max_size=12,
)


@given(here=SPOKEN, there=SPOKEN)
@settings(max_examples=12, deadline=None)
def test_a_merge_is_the_same_twice_and_loses_no_place(
    tmp_path_factory: pytest.TempPathFactory, here: list[tuple], there: list[tuple]
) -> None:
    def as_words(spoken: list[tuple]) -> list[annotation_log.Annotation]:
        return [
            annotation_log.Annotation(f"{c}-{'a' * 32}", la, *span, verdict, at)
            for c, la, span, verdict, at in spoken
        ]

    folder = tmp_path_factory.mktemp("merge")
    with LibraryWriter.open(folder / "a.db") as one, LibraryWriter.open(folder / "b" / "b.db") as other:
        merging.merge_annotations(one, as_words(here))
        merging.merge_annotations(other, as_words(there))
        before = annotation_log.list_annotations(one.connection)
        lines = [line.encode() for line in annotation_file.export_lines(other.connection)]
        annotation_file.import_lines(one, lines, "f")
        merged = annotation_log.list_annotations(one.connection)
        places = {w[:4] for w in before} | {w[:4] for w in annotation_log.list_annotations(other.connection)}
        assert {w[:4] for w in merged} == places and len(merged) == len(places)
        for word in [*before, *annotation_log.list_annotations(other.connection)]:
            (kept,) = [w for w in merged if w[:4] == word[:4]]
            assert kept.said_at >= word.said_at or kept.verdict == word.verdict
        assert annotation_file.import_lines(one, lines, "f")[0].id == 0
        assert annotation_log.list_annotations(one.connection) == merged
        if merged != before:
            undo_redo.undo(one)
        assert set(annotation_log.list_annotations(one.connection)) == set(before)


def test_a_path_that_is_no_text_is_exported_whole(library: LibraryWriter, tmp_path: Path) -> None:
    name = os.fsdecode(b"na\xefve.mp4")
    annotation_log.add(library, add_video(library, tmp_path / name, is_scanned=False), "yoga")
    (line,) = annotation_file.export_lines(library.connection)
    assert json.loads(line)["path"].endswith("na\ufffdve.mp4") and json.loads(line)["path_bytes"]
    assert search(library.connection, "yoga")[0].path.endswith(b"na\xefve.mp4")


def test_a_truncated_file_in_utf_16_is_an_error_in_one_sentence(vtag: Vtag, tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_bytes('{"label"'.encode("utf-16")[:-1])
    run = vtag("words", "import", path)
    assert run.returncode == 1
    assert "line 1 is no JSON" in run.stderr
