"""Each export format is read back by another program or library, and compared with the moments."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit
from xml.etree import ElementTree as ET

import av
import opentimelineio as otio
import pytest
import rdflib
import srt
import webvtt
from helpers.footage import make_video
from helpers.library_factory import add_video
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.errors import VtagError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.exports import FORMATS, exported_moments, format_writer, xmp
from vtag.engine.library.exports.exported_moments import ExportedMoment
from vtag.engine.library.search.moments import Moment, search
from vtag.engine.video_clock import VideoClock

Run = Callable[..., subprocess.CompletedProcess[str]]
ODD = 'a, "b"; <i>c</i> & {d} #1 = \\ é --> f'
LABELS = ("archery", ODD, "=1+1", "two\nlines\n\n3\n00:00:01,000 --> 00:00:02,000")


@pytest.fixture
def video_folder(vtag_home: Path, tmp_path: Path) -> Path:
    """Two videos, of 30 and 24 frames a second, whose labels contain the formats' special characters."""
    with LibraryWriter.open(vtag_home / "library.db") as library:
        db = library.connection
        db.executemany("INSERT INTO labels (name) VALUES (?)", [(label,) for label in LABELS])
        for number, (name, rate) in enumerate([("a #1 %20; é.mp4", 30.0), ("b.mov", 24.0)]):
            content = add_video(library, tmp_path / "v" / name, seed=number, windows=60, is_scanned=False)
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


def exported(home: Path, query: str = "score>0") -> list[ExportedMoment]:
    with LibraryWriter.open(home / "library.db") as library:
        return exported_moments.with_video_details(
            library.connection, search(library.connection, query, limit=None)
        )


def exported_of_one_video(home: Path) -> list[ExportedMoment]:
    return sorted((i for i in exported(home, "path:b.mov")), key=lambda item: item.moment.start_ms)


def ranges(items: list[ExportedMoment]) -> list[tuple[int, int]]:
    return [(item.moment.start_ms, item.moment.end_ms) for item in items]


def test_losslesscut_gets_three_columns_without_a_heading(video_folder: Path, vtag_home: Path) -> None:
    expected = exported_of_one_video(vtag_home)
    rows = list(csv.reader(io.StringIO(format_writer("csv")(expected))))
    assert [(round(1000 * float(a)), round(1000 * float(b))) for a, b, _ in rows] == ranges(expected)
    assert [label for _, _, label in rows] == [
        "archery", ODD, "'=1+1", "two lines 3 00:00:01,000 --> 00:00:02,000"
    ]  # fmt: skip


def test_the_help_lists_every_format_with_its_programs(vtag: Run) -> None:
    text = vtag("export", "--help", env={**os.environ, "COLUMNS": "100"}).stdout
    for name, info in FORMATS.items():
        assert re.search(rf"{name}\s+{re.escape(info.programs)}", text)
    run = vtag("export", "archery", "--format", "nonsense")
    assert run.returncode == 2 and all(name in run.stderr for name in FORMATS)


def test_json_is_that_of_a_search(video_folder: Path, vtag_home: Path, vtag: Run) -> None:
    exported = json.loads(vtag("export", "score>0", "--format", "json").stdout)
    assert exported == json.loads(vtag("search", "score>0", "--json").stdout)
    assert [m["label"] for m in exported if m["path"].endswith("mov")] == list(LABELS)


def test_subtitles_are_read_with_their_times_and_text(video_folder: Path, vtag_home: Path) -> None:
    expected = exported_of_one_video(vtag_home)
    cues = list(srt.parse(format_writer("srt")(expected)))
    times = [(round(c.start.total_seconds() * 1000), round(c.end.total_seconds() * 1000)) for c in cues]
    assert times == ranges(expected)
    assert [c.index for c in cues] == [1, 2, 3, 4]
    assert cues[0].content == "archery"
    assert not any(set(c.content) & set("<>{}\n") for c in cues)
    captions = webvtt.from_string(format_writer("vtt")(expected)).captions
    assert [(c.start_in_seconds, c.end_in_seconds) for c in captions] == [
        (a // 1000, b // 1000) for a, b in ranges(expected)
    ]
    assert [c.start[-4:] for c in captions] == [".500"] * 4
    raw = [c.raw_text for c in captions]
    assert raw[1] == ODD.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_chapters_are_read_by_libav(video_folder: Path, vtag_home: Path, tmp_path: Path) -> None:
    expected = exported_of_one_video(vtag_home)
    (tmp_path / "c.ffmetadata").write_text(format_writer("chapters")(expected), encoding="utf-8")
    with av.open(str(tmp_path / "c.ffmetadata"), format="ffmetadata") as container:
        chapters = container.chapters()
    assert [
        (int(c["start"] * c["time_base"] * 1000), int(c["end"] * c["time_base"] * 1000)) for c in chapters
    ] == ranges(expected)
    assert [c["metadata"]["title"] for c in chapters] == [
        "archery", ODD, "=1+1", "two lines 3 00:00:01,000 --> 00:00:02,000"
    ]  # fmt: skip


def test_chapters_of_moments_that_overlap_follow_each_other(tmp_path: Path) -> None:
    spans = {"run": (500, 2500), "jump": (500, 1500), "fall": (1000, 2000), "late": (2800, 3000)}
    items = [
        ExportedMoment(Moment(1, b"/v.mp4", label, *span, 1.0, None, "user", True), 3000, 25.0)
        for label, span in spans.items()
    ]
    (tmp_path / "c.ffmetadata").write_text(format_writer("chapters")(items))
    video = make_video(tmp_path / "a.mp4", seconds=3, fps=8)
    merged = tmp_path / "b.mkv"  # by the command of docs/search.md
    command = ("ffmpeg", "-v", "error", "-i", video, "-i", tmp_path / "c.ffmetadata", "-map_metadata", "1")
    subprocess.run([*command, "-c", "copy", merged], check=True)
    with av.open(str(merged)) as container:
        chapters = [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
            for c in container.chapters()
        ]
    assert chapters == [
        (0.5, 1.0, "run, jump"), (1.0, 1.5, "run, jump, fall"), (1.5, 2.0, "run, fall"),
        (2.0, 2.5, "run"), (2.8, 3.0, "late"),
    ]  # fmt: skip


def test_an_otio_timeline_points_at_the_frames_of_each_video(video_folder: Path, vtag_home: Path) -> None:
    expected = exported(vtag_home)
    timeline = otio.adapters.read_from_string(format_writer("otio")(expected), "otio_json")
    clips = list(timeline.find_clips())
    assert len(clips) == len(expected) == 8
    for clip, (moment, duration_ms, clock, *_) in zip(clips, expected, strict=True):
        rate = float(clock.timecode_rate)
        span, media = clip.source_range, clip.media_reference
        assert span.start_time.rate == rate
        assert abs(span.start_time.to_seconds() * 1000 - moment.start_ms) <= 500 / rate
        assert abs(span.end_time_exclusive().to_seconds() * 1000 - moment.end_ms) <= 500 / rate
        assert media.available_range.duration.to_seconds() * 1000 == duration_ms
        assert unquote_to_bytes(urlsplit(media.target_url).path) == moment.path
        assert clip.metadata["vtag"]["start_ms"] == moment.start_ms
        assert clip.markers[0].name == clip.name == " ".join(moment.label.split())


def test_an_edl_has_an_event_a_moment(video_folder: Path, vtag_home: Path) -> None:
    expected = sorted(exported(vtag_home), key=lambda item: -item.clock.timecode_rate)
    timeline = otio.adapters.read_from_string(format_writer("edl")(expected), "cmx_3600", rate=30)
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == [os.fsdecode(item.file_name) for item in expected]
    for clip, item in zip(clips, expected, strict=True):
        assert abs(clip.source_range.start_time.to_seconds() * 1000 - item.moment.start_ms) <= 17
        assert abs(clip.source_range.duration.to_seconds() * 1000 - 2000) <= 34
        assert [marker.name for marker in clip.markers] == [" ".join(item.moment.label.split())]


def test_keywords_are_understood_by_a_reader_of_rdf(video_folder: Path, vtag_home: Path, vtag: Run) -> None:
    result = vtag("export", "path:b.mov", "--format", "xmp")
    assert result.returncode == 0 and result.stdout.strip() == str(video_folder / "b.mov.xmp")
    lists = read_rdf((video_folder / "b.mov.xmp").read_bytes())
    names = [" ".join(label.split()) for label in LABELS]
    assert sorted(lists["subject"]) == sorted(names)
    assert sorted(lists["TagsList"]) == sorted("vtag/" + name.replace("/", "∕") for name in names)
    assert sorted(lists["hierarchicalSubject"]) == sorted(f"vtag|{name}" for name in names)
    second_run = vtag("export", "path:b.mov", "--format", "xmp")
    assert second_run.stdout == "" and "0 sidecars written" in second_run.stderr


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


def test_an_existing_sidecar_keeps_its_content() -> None:
    merged = xmp.merge(FOREIGN.encode(), ["archery", "yoga"])
    assert merged is not None
    original, merged_graph = read_graph(FOREIGN.encode()), read_graph(merged)
    literals = {(p, str(o)) for _, p, o in original if not isinstance(o, rdflib.BNode)}
    assert literals <= {(p, str(o)) for _, p, o in merged_graph}
    lists = read_rdf(merged)
    assert lists["subject"] == ["Grandma", "archery", "yoga"]
    assert lists["TagsList"] == ["Grandma", "archery", "vtag/archery", "vtag/yoga"]
    for part in (
        b"<!-- by hand -->",
        b"<?xpacket begin=",
        b'<?xpacket end="w"?>',
        b"1 &lt; 2 &amp; so on",
        b"x:xmptk",
    ):
        assert part in merged
    assert {str(s) for s, p, _ in merged_graph if str(p).endswith("subject")} == {"uuid:1"}
    assert xmp.merge(merged, ["yoga"]) is None


@given(st.lists(st.text(max_size=20), max_size=5), st.lists(st.text(max_size=20), max_size=5))
@settings(max_examples=100, deadline=None)
def test_any_labels_are_read_back_from_a_sidecar(first: list[str], second: list[str]) -> None:
    first_merge = xmp.merge(None, first)
    both = xmp.merge(first_merge, second) or first_merge
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
def test_an_invalid_sidecar_is_left_alone(sidecar: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4.xmp"
    path.write_bytes(sidecar)
    with pytest.raises(VtagError, match=r"a\.mp4\.xmp: .* it was left as it is"):
        xmp.merge_into(os.fsencode(path), ["yoga"])
    assert path.read_bytes() == sidecar and os.listdir(tmp_path) == ["a.mp4.xmp"]


def test_an_invalid_sidecar_does_not_stop_the_others(video_folder: Path, vtag: Run, tmp_path: Path) -> None:
    (video_folder / "b.mov.xmp").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    result = vtag("export", "score>0", "--format", "xmp")
    assert result.returncode == 3 and "not sound XML" in result.stderr
    assert result.stdout.splitlines() == [str(video_folder / "a #1 %20; é.mp4.xmp")]
    assert (video_folder / "b.mov.xmp").read_text() == "mine"
    assert vtag("export", "score>0", "--format", "xmp", "-o", tmp_path / "x").returncode == 0
    assert sorted(os.listdir(tmp_path / "x")) == ["a #1 %20; é.mp4.xmp", "b.mov.xmp"]


@pytest.mark.parametrize("name", ["csv", "srt", "vtt", "chapters"])
def test_a_format_of_one_video_makes_a_file_for_each(
    video_folder: Path, vtag: Run, tmp_path: Path, name: str
) -> None:
    stdout_run = vtag("export", "score>0", "--format", name)
    assert stdout_run.returncode == 1 and "2 were found" in stdout_run.stderr and stdout_run.stdout == ""
    out = tmp_path / "out"
    result = vtag("export", "score>0", "--format", name, "-o", out)
    assert result.returncode == 0, result.stderr
    suffix = FORMATS[name].suffix
    assert sorted(os.listdir(out)) == [f"a #1 %20; é{suffix}", f"b{suffix}"]
    one_video = vtag("export", "path:b.mov", "--format", name)
    assert one_video.stdout == (out / f"b{suffix}").read_text(encoding="utf-8")
    assert vtag("export", "path:b.mov", "--format", name, "-o", f"{tmp_path}/one/").returncode == 0
    assert os.listdir(tmp_path / "one") == [f"b{suffix}"]
    (out / f"b{suffix}").write_text("precious")
    assert "there already" in vtag("export", "score>0", "--format", name, "-o", out).stderr
    assert (out / f"b{suffix}").read_text() == "precious"
    assert vtag("export", "score>0", "--format", name, "-o", out, "--overwrite").returncode == 0
    assert (out / f"b{suffix}").read_text(encoding="utf-8") == one_video.stdout


def test_a_word_with_a_hyphen_is_no_folder(video_folder: Path, vtag: Run, tmp_path: Path) -> None:
    result = vtag("export", "archery", "-outdoors", "--format", "json", "-o", tmp_path / "o.json")
    assert result.returncode == 0, result.stderr
    assert len(json.loads((tmp_path / "o.json").read_text())) == 2


@given(st.text(max_size=30), st.integers(0, 10**8), st.integers(1, 10**6), st.binary(max_size=9))
@settings(max_examples=100, deadline=None)
def test_no_label_breaks_a_format(label: str, start: int, length: int, name: bytes) -> None:
    path = b"/x/\xff" + name.replace(b"/", b"").replace(b"\0", b"") + b".mp4"
    item = ExportedMoment(
        Moment(1, path, label, start, start + length, 0.5, None, "user", True),
        start + length,
        VideoClock.assumed(29.97),
    )
    assert len(list(csv.reader(io.StringIO(format_writer("csv")([item, item]))))) == 2
    assert len(list(srt.parse(format_writer("srt")([item, item])))) == 2
    timeline = otio.adapters.read_from_string(format_writer("otio")([item]), "otio_json")
    assert (
        unquote_to_bytes(urlsplit(next(iter(timeline.find_clips())).media_reference.target_url).path) == path
    )
    for name in ("kdenlive", "fcpxml", "matroska"):
        text = format_writer(name)([item, item]).encode("utf-8", "replace")
        texts = texts_of(ET.fromstring(text))
        assert not label.isalnum() or any(label in part for part in texts)
    for name in ("mpv", "m3u8"):
        lines = format_writer(name)([item, item]).splitlines()
        uris = [line.split(",")[0] for line in lines if line.startswith("file://")]
        assert [unquote_to_bytes(urlsplit(uri).path) for uri in uris] == [path, path]


def texts_of(root: ET.Element) -> list[str]:
    """All texts and attributes of a document."""
    return [text for element in root.iter() for text in (element.text or "", *element.attrib.values())]


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


def test_sidecars_go_to_every_copy_that_the_query_fits(vtag_home: Path, vtag: Run, tmp_path: Path) -> None:
    with LibraryWriter.open(vtag_home / "library.db") as library:
        for folder in ("backup", "photos", "gone"):
            content = add_video(library, tmp_path / folder / "x.avi", is_scanned=False)
        annotation_log.add(library, content, "wave", 1000, 2000)
    (tmp_path / "gone" / "x.avi").unlink()

    def sidecars() -> list[str]:
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.xmp"))

    run = vtag("export", "wave path:photos/*", "--format", "xmp")
    assert run.stdout == f"{tmp_path}/photos/x.avi.xmp\n" and sidecars() == ["photos/x.avi.xmp"]
    run = vtag("export", "wave", "--format", "xmp")
    assert "1 sidecar written, 1 had all keywords already" in run.stderr
    assert sidecars() == ["backup/x.avi.xmp", "photos/x.avi.xmp"]
