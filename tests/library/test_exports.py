"""Every export is read back by a program that is not vtag: what was found is what they understand."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import av
import opentimelineio as otio
import pytest
import rdflib
import srt
import webvtt
from helpers.shelf import add_video
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.errors import VtagError
from vtag.engine.library.database import Library
from vtag.engine.library.exports import FORMATS, exported_moments, format_writer, xmp
from vtag.engine.library.exports.exported_moments import ExportedMoment
from vtag.engine.library.search.moments import Moment, search

Run = Callable[..., subprocess.CompletedProcess[str]]
ODD = 'a, "b"; <i>c</i> & {d} #1 = \\ é --> f'
LABELS = ("archery", ODD, "=1+1", "two\nlines\n\n3\n00:00:01,000 --> 00:00:02,000")


@pytest.fixture
def shelf(vtag_home: Path, tmp_path: Path) -> Path:
    """Two videos, of 30 and 24 frames a second, with moments whose labels mean something to formats."""
    with Library.open(vtag_home / "library.db") as library:
        db = library.connection
        db.executemany("INSERT INTO labels (name) VALUES (?)", [(label,) for label in LABELS])
        for number, (name, rate) in enumerate([("a #1 %20; é.mp4", 30.0), ("b.mov", 24.0)]):
            content = add_video(library, tmp_path / "v" / name, seed=number, windows=60, look=False)
            db.execute(
                "UPDATE contents SET frame_rate = ?, duration_ms = 60000 WHERE id = ?", (rate, content)
            )
            for label in range(len(LABELS)):
                start = 1000 * (3 * label + 1) + 500
                db.execute(
                    "INSERT INTO segments (content_id, label_id, start_ms, end_ms, score, verdict) "
                    "VALUES (?, ?, ?, ?, ?, 'confirmed')",
                    (content, label + 1, start, start + 2000, 0.9 - label / 10),
                )
    return tmp_path / "v"


def found(home: Path, query: str = "score>0") -> list[ExportedMoment]:
    with Library.open(home / "library.db") as library:
        return exported_moments.with_video_details(
            library.connection, search(library.connection, query, limit=None)
        )


def of_one(home: Path) -> list[ExportedMoment]:
    return sorted((i for i in found(home, "path:b.mov")), key=lambda item: item.moment.start_ms)


def spans(of: list[ExportedMoment]) -> list[tuple[int, int]]:
    return [(item.moment.start_ms, item.moment.end_ms) for item in of]


def test_losslesscut_gets_three_columns_without_a_heading(shelf: Path, vtag_home: Path) -> None:
    wanted = of_one(vtag_home)
    rows = list(csv.reader(io.StringIO(format_writer("csv")(wanted))))
    assert [(round(1000 * float(a)), round(1000 * float(b))) for a, b, _ in rows] == spans(wanted)
    assert [label for _, _, label in rows] == [
        "archery", ODD, "'=1+1", "two lines 3 00:00:01,000 --> 00:00:02,000"
    ]  # fmt: skip


def test_json_is_that_of_a_search(shelf: Path, vtag_home: Path, vtag: Run) -> None:
    exported = json.loads(vtag("export", "score>0", "--format", "json").stdout)
    assert exported == json.loads(vtag("search", "score>0", "--json").stdout)
    assert [m["label"] for m in exported if m["path"].endswith("mov")] == list(LABELS)


def test_subtitles_are_read_with_their_times_and_text(shelf: Path, vtag_home: Path) -> None:
    wanted = of_one(vtag_home)
    cues = list(srt.parse(format_writer("srt")(wanted)))
    times = [(round(c.start.total_seconds() * 1000), round(c.end.total_seconds() * 1000)) for c in cues]
    assert times == spans(wanted)
    assert [c.index for c in cues] == [1, 2, 3, 4]
    assert cues[0].content == "archery"
    assert not any(set(c.content) & set("<>{}\n") for c in cues)
    captions = webvtt.from_string(format_writer("vtt")(wanted)).captions
    assert [(c.start_in_seconds, c.end_in_seconds) for c in captions] == [
        (a // 1000, b // 1000) for a, b in spans(wanted)
    ]
    assert [c.start[-4:] for c in captions] == [".500"] * 4
    raw = [c.raw_text for c in captions]
    assert raw[1] == ODD.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_chapters_are_read_by_libav(shelf: Path, vtag_home: Path, tmp_path: Path) -> None:
    wanted = of_one(vtag_home)
    (tmp_path / "c.ffmetadata").write_text(format_writer("chapters")(wanted), encoding="utf-8")
    with av.open(str(tmp_path / "c.ffmetadata"), format="ffmetadata") as container:
        chapters = container.chapters()
    assert [
        (int(c["start"] * c["time_base"] * 1000), int(c["end"] * c["time_base"] * 1000)) for c in chapters
    ] == spans(wanted)
    assert [c["metadata"]["title"] for c in chapters] == [
        "archery", ODD, "=1+1", "two lines 3 00:00:01,000 --> 00:00:02,000"
    ]  # fmt: skip


def test_an_otio_timeline_points_at_the_frames_of_each_video(shelf: Path, vtag_home: Path) -> None:
    wanted = found(vtag_home)
    timeline = otio.adapters.read_from_string(format_writer("otio")(wanted), "otio_json")
    clips = list(timeline.find_clips())
    assert len(clips) == len(wanted) == 8
    for clip, (moment, duration_ms, rate) in zip(clips, wanted, strict=True):
        span, media = clip.source_range, clip.media_reference
        assert span.start_time.rate == rate
        assert abs(span.start_time.to_seconds() * 1000 - moment.start_ms) <= 500 / rate
        assert abs(span.end_time_exclusive().to_seconds() * 1000 - moment.end_ms) <= 500 / rate
        assert media.available_range.duration.to_seconds() * 1000 == duration_ms
        assert unquote_to_bytes(urlsplit(media.target_url).path) == moment.path
        assert clip.metadata["vtag"]["start_ms"] == moment.start_ms
        assert clip.markers[0].name == clip.name == " ".join(moment.label.split())


def test_an_edl_has_an_event_a_moment(shelf: Path, vtag_home: Path) -> None:
    wanted = sorted(found(vtag_home), key=lambda item: -item.frame_rate)
    timeline = otio.adapters.read_from_string(format_writer("edl")(wanted), "cmx_3600", rate=30)
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == [os.fsdecode(item.file_name) for item in wanted]
    for clip, item in zip(clips, wanted, strict=True):
        assert abs(clip.source_range.start_time.to_seconds() * 1000 - item.moment.start_ms) <= 17
        assert abs(clip.source_range.duration.to_seconds() * 1000 - 2000) <= 34
        assert [marker.name for marker in clip.markers] == [" ".join(item.moment.label.split())]


def test_keywords_are_understood_by_a_reader_of_rdf(shelf: Path, vtag_home: Path, vtag: Run) -> None:
    run = vtag("export", "path:b.mov", "--format", "xmp")
    assert run.returncode == 0 and run.stdout.strip() == str(shelf / "b.mov.xmp")
    lists = read_rdf((shelf / "b.mov.xmp").read_bytes())
    names = [" ".join(label.split()) for label in LABELS]
    assert sorted(lists["subject"]) == sorted(names)
    assert sorted(lists["TagsList"]) == sorted("vtag/" + name.replace("/", "∕") for name in names)
    assert sorted(lists["hierarchicalSubject"]) == sorted(f"vtag|{name}" for name in names)
    again = vtag("export", "path:b.mov", "--format", "xmp")
    assert again.stdout == "" and "0 sidecars written" in again.stderr


FOREIGN = """<?xml version="1.0" encoding="UTF-8"?>
<!-- by hand -->
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description r:about="uuid:1" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
    xmlns:d="http://purl.org/dc/elements/1.1/" xmlns:my="http://example.org/my/">
   <d:subject><r:Bag><r:li>Grandma</r:li><r:li>archery</r:li></r:Bag></d:subject>
   <d:description><r:Alt><r:li xml:lang="x-default">1 &lt; 2 &amp; so on</r:li></r:Alt></d:description>
   <my:secret r:parseType="Resource"><my:a>x</my:a></my:secret>
  </r:Description>
 </r:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def test_a_sidecar_that_is_there_keeps_all_that_it_had() -> None:
    merged = xmp.merge(FOREIGN.encode(), ["archery", "yoga"])
    assert merged is not None
    before, after = read_graph(FOREIGN.encode()), read_graph(merged)
    kept = {(p, str(o)) for _, p, o in before if not isinstance(o, rdflib.BNode)}
    assert kept <= {(p, str(o)) for _, p, o in after}
    lists = read_rdf(merged)
    assert lists["subject"] == ["Grandma", "archery", "yoga"]
    assert lists["TagsList"] == ["vtag/archery", "vtag/yoga"]
    for part in (
        b"<!-- by hand -->",
        b"<?xpacket begin=",
        b'<?xpacket end="w"?>',
        b"1 &lt; 2 &amp; so on",
        b"x:xmptk",
    ):
        assert part in merged
    assert {str(s) for s, p, _ in after if str(p).endswith("subject")} == {"uuid:1"}
    assert xmp.merge(merged, ["yoga"]) is None


@given(st.lists(st.text(max_size=20), max_size=5), st.lists(st.text(max_size=20), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_labels_go_in_and_come_out(first: list[str], second: list[str]) -> None:
    once = xmp.merge(None, first)
    both = xmp.merge(once, second) or once
    names = {" ".join(xmp.one_line(label).split()) for label in first + second} - {""}
    assert (set(read_rdf(both)["subject"]) if both else set()) == names


@pytest.mark.parametrize(
    "sidecar",
    [
        b"", b"\xff\xfe\x00", b"not xml", b"<a/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', b"<a>" * 100_000,
        FOREIGN.replace("<r:Bag><r:li>Grandma</r:li><r:li>archery</r:li></r:Bag>", "Grandma").encode(),
        FOREIGN.replace("</r:RDF>", "</r:RDF><r:RDF/>").encode(),
    ],
)  # fmt: skip
def test_what_is_no_sidecar_is_left_alone(sidecar: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4.xmp"
    path.write_bytes(sidecar)
    with pytest.raises(VtagError, match=r"a\.mp4\.xmp: .* it was left as it is"):
        xmp.merge_into(os.fsencode(path), ["yoga"])
    assert path.read_bytes() == sidecar and os.listdir(tmp_path) == ["a.mp4.xmp"]


def test_one_bad_sidecar_costs_no_other(shelf: Path, vtag: Run, tmp_path: Path) -> None:
    (shelf / "b.mov.xmp").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    run = vtag("export", "score>0", "--format", "xmp")
    assert run.returncode == 3 and "not sound XML" in run.stderr
    assert run.stdout.splitlines() == [str(shelf / "a #1 %20; é.mp4.xmp")]
    assert (shelf / "b.mov.xmp").read_text() == "mine"
    assert vtag("export", "score>0", "--format", "xmp", "-o", tmp_path / "x").returncode == 0
    assert sorted(os.listdir(tmp_path / "x")) == ["a #1 %20; é.mp4.xmp", "b.mov.xmp"]


@pytest.mark.parametrize("name", ["csv", "srt", "vtt", "chapters"])
def test_a_format_of_one_video_makes_a_file_for_each(
    shelf: Path, vtag: Run, tmp_path: Path, name: str
) -> None:
    several = vtag("export", "score>0", "--format", name)
    assert several.returncode == 1 and "2 were found" in several.stderr and several.stdout == ""
    out = tmp_path / "out"
    run = vtag("export", "score>0", "--format", name, "-o", out)
    assert run.returncode == 0, run.stderr
    suffix = FORMATS[name].suffix
    assert sorted(os.listdir(out)) == [f"a #1 %20; é{suffix}", f"b{suffix}"]
    single = vtag("export", "path:b.mov", "--format", name)
    assert single.stdout == (out / f"b{suffix}").read_text(encoding="utf-8")
    assert vtag("export", "path:b.mov", "--format", name, "-o", f"{tmp_path}/one/").returncode == 0
    assert os.listdir(tmp_path / "one") == [f"b{suffix}"]
    (out / f"b{suffix}").write_text("precious")
    assert "there already" in vtag("export", "score>0", "--format", name, "-o", out).stderr
    assert (out / f"b{suffix}").read_text() == "precious"
    assert vtag("export", "score>0", "--format", name, "-o", out, "--overwrite").returncode == 0
    assert (out / f"b{suffix}").read_text(encoding="utf-8") == single.stdout


def test_a_word_with_a_hyphen_is_no_folder(shelf: Path, vtag: Run, tmp_path: Path) -> None:
    run = vtag("export", "archery", "-outdoors", "--format", "json", "-o", tmp_path / "o.json")
    assert run.returncode == 0, run.stderr
    assert len(json.loads((tmp_path / "o.json").read_text())) == 2


@given(st.text(max_size=30), st.integers(0, 10**8), st.integers(1, 10**6))
@settings(max_examples=100, deadline=None)
def test_no_label_breaks_a_format(label: str, start: int, length: int) -> None:
    item = ExportedMoment(
        Moment(1, b"/x/\xff.mp4", label, start, start + length, 0.5, None, "user", True),
        start + length,
        29.97,
    )
    assert len(list(csv.reader(io.StringIO(format_writer("csv")([item, item]))))) == 2
    assert len(list(srt.parse(format_writer("srt")([item, item])))) == 2
    timeline = otio.adapters.read_from_string(format_writer("otio")([item]), "otio_json")
    assert (
        unquote_to_bytes(urlsplit(next(iter(timeline.find_clips())).media_reference.target_url).path)
        == b"/x/\xff.mp4"
    )


def read_graph(sidecar: bytes) -> rdflib.Graph:
    text = sidecar.decode("utf-8")
    inside = text[text.index("<x:xmpmeta") : text.index("</x:xmpmeta>") + len("</x:xmpmeta>")]
    begin = inside.index("<r:RDF") if "<r:RDF" in inside else inside.index("<rdf:RDF")
    end = inside.rindex(":RDF>") + len(":RDF>")
    return rdflib.Graph().parse(data=inside[begin:end], format="xml", publicID="http://vtag.invalid/")


def read_rdf(sidecar: bytes) -> dict[str, list[str]]:
    """The lists of a sidecar by the names of their properties, in their order."""
    graph = read_graph(sidecar)
    lists = {}
    for _, prop, node in graph:
        if isinstance(node, rdflib.BNode):
            numbered = [(str(p).rpartition("_")[2], str(o)) for p, o in graph.predicate_objects(node)]
            entries = sorted((int(n), value) for n, value in numbered if n.isdigit())
            if entries:
                lists[str(prop).rpartition("/")[2]] = [value for _, value in entries]
    return lists
