"""A clip keeps what the streams of its video carry, read by ffprobe; what it does not keep, the cut says."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import srt
from _pytest.mark import ParameterSet
from helpers.footage import make_video

from vtag.engine.errors import VideoError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.scan.content_facts import register_video
from vtag.engine.video.read.probe import probe_stream
from vtag.engine.video.write.cut import CutClip, cut
from vtag.engine.video.write.losses import list_losses

Run = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe to read clips with")

PICTURE = "-f lavfi -i testsrc2=s=96x72:r=10:d=3"
SOUNDS = "-f lavfi -i sine=440:d=3 -f lavfi -i sine=880:d=3 -map 0 -map 1 -map 2"
H264 = "-c:v libx264 -g 10 -preset ultrafast"
H265 = "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=10"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10"
SAID = (
    "-metadata title=Trip -metadata creation_time=2020-01-02T03:04:05Z -metadata:s:v title=main "
    "-metadata:s:v language=fra -metadata:s:a:0 language=deu -metadata:s:a:1 language=eng "
    "-metadata:s:a:1 title=Director -disposition:a:0 0 -disposition:a:1 default"
)
HDR = (
    ":colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)
INTERLACED = "-vf interlace=lowpass=0 -flags +ildct+ilme"
SOURCES = {  # name: the arguments of ffmpeg that make it
    "tags.mp4": f"{PICTURE} {SOUNDS} {H264} -c:a aac {SAID}",
    "tags.mov": f"{PICTURE} {SOUNDS} {H264} -c:a pcm_s16le {SAID}",
    "tags.mkv": f"{PICTURE} {SOUNDS} {H264} -c:a libmp3lame {SAID}",
    "tags.webm": f"{PICTURE} {SOUNDS} {VP9} -c:a libopus {SAID}",
    "tags.ts": f"{PICTURE} {SOUNDS} {H264} -c:a aac {SAID}",
    "phone.mov": f"{PICTURE} {H265} -tag:v hvc1",
    "camera.mp4": f"{PICTURE} {H265} -tag:v hev1",
    "hdr.mp4": f"{PICTURE} {H265}{HDR} -pix_fmt yuv420p10le -tag:v hvc1",
    "hdr.mkv": f"{PICTURE} {H265}{HDR} -pix_fmt yuv420p10le",
    "wide.mp4": f"{PICTURE} -vf setsar=4/3 {H264} -color_range pc -colorspace bt470bg -color_primaries bt470bg",
    "wide.webm": f"{PICTURE} -vf setsar=4/3 {VP9}",
    "wide.mov": f"{PICTURE} -vf setsar=4/3 -c:v prores_ks -pix_fmt yuv422p10le",
    "turned.mp4": f"{PICTURE} {H264} -metadata:s:v rotate=90",
    "fields.mp4": f"{PICTURE} {H264} {INTERLACED}",
    "fields.mpg": f"{PICTURE} -c:v mpeg2video -g 10 {INTERLACED}",
    "around.mp4": f"{PICTURE} -f lavfi -i anoisesrc=d=3 -af channelmap=0|0|0|0|0|0:5.1 {H264} -c:a aac",
    "voice.mp4": f"{PICTURE} -f lavfi -i sine=440:d=3:r=24000 {H264} -c:a aac",
    "words.mkv": f"{PICTURE} -i words.srt -map 0 -map 1 {H264} -c:s srt -metadata:s:s language=ita",
    "cover.mp4": f"{PICTURE} -i cover.jpg -map 0 -map 1 {H264} -c:v:1 copy -disposition:v:1 attached_pic",
    "chapters.mkv": f"{PICTURE} -i chapters.txt -map 0 -map_chapters 1 {H264}",
    "grey.mkv": f"{PICTURE} -c:v ffv1 -pix_fmt gray",
    "see-through.mov": f"{PICTURE} -c:v qtrle -pix_fmt argb",
}
# a sentence of the cut that covers the difference of a field
SAID_BY = {
    "language": "the language of", "title": "the title of", "marks": "the mark", "aspect": "the aspect",
    "primaries": "the colour primaries", "transfer": "the transfer curve", "matrix": "the colour matrix",
    "Mastering display metadata": "the HDR mastering data", "Content light level metadata": "the HDR light level",
    "channels": "channels of", "fields": "the fields",
}  # fmt: skip


FAST = ("tags.mp4", "tags.mkv", "phone.mov", "wide.webm", "turned.mp4", "words.mkv", "fields.mp4")


def with_slow(names: Iterable[str], fast: Sequence[str]) -> list[ParameterSet]:
    """`names` as parameters; those that are not `fast` are slow."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "words.srt").write_text("1\n00:00:00,500 --> 00:00:02,500\nhello\n")
    (folder / "chapters.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\ntitle=A\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=3000\ntitle=B\n"
    )
    ffmpeg(folder, "-f lavfi -i color=red:s=32x32 -frames:v 1 cover.jpg")
    return folder


def ffmpeg(folder: Path, arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments.split()], cwd=folder, check=True)


def ffprobe(path: str, *options: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", *options, "-of", "json", path]
    report: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return report


def read_facts(path: str, picture: int = 0) -> dict[str, dict[str, object]]:
    """What ffprobe says of the picture and of each sound, in terms that do not depend on the container.

    `picture` is the index of the picture's stream.
    """
    report = ffprobe(path, "-show_streams", "-show_frames", "-read_intervals", "%+#1")
    facts: dict[str, dict[str, object]] = {}
    for stream in report["streams"]:
        is_cover = stream.get("disposition", {}).get("attached_pic")
        kind = "cover" if is_cover else "picture" if stream["index"] == picture else stream["codec_type"]
        name = f"{kind} {sum(key.startswith(kind) for key in facts) + 1}"
        if name.startswith(("picture", "audio")):
            facts[name] = stream_facts(stream)
        else:
            facts[name] = {}
    for frame in report.get("frames", []):
        for data in frame.get("side_data_list", []):
            if frame.get("stream_index") == picture and data["side_data_type"] in SAID_BY:
                facts["picture 1"][data["side_data_type"]] = True
    return facts


def stream_facts(stream: dict[str, Any]) -> dict[str, object]:
    tags = {name.lower(): text for name, text in stream.get("tags", {}).items()}
    facts: dict[str, object] = {
        "language": tags.get("language", "").replace("und", ""),
        "title": tags.get("title", ""),
        "handler": tags.get("handler_name", ""),
        "marks": {name for name, is_set in stream.get("disposition", {}).items() if is_set},
    }
    if stream["codec_type"] == "audio":
        return {**facts, "channels": stream["channels"]}
    turned = next((int(d["rotation"]) for d in stream.get("side_data_list", []) if "rotation" in d), 0)
    across, down = (int(n) for n in stream.get("sample_aspect_ratio", "1:1").replace("N/A", "1:1").split(":"))
    aspect = stream["width"] * (across or 1) / (stream["height"] * (down or 1))
    is_rgb = stream["pix_fmt"].startswith(("rgb", "bgr", "gbr", "argb", "pal"))
    has_own_range = is_rgb or stream["pix_fmt"].startswith("gray") or stream.get("color_range") == "tv"
    fields = {
        "codec": stream["codec_name"],
        "codec tag": stream["codec_tag_string"],
        "aspect": 1 / aspect if turned % 180 else aspect,
        "rotation": turned,
        "primaries": stream.get("color_primaries"),
        "transfer": stream.get("color_transfer"),
        "matrix": None if is_rgb else stream.get("color_space"),
        "range": None if has_own_range else stream.get("color_range"),
        "fields": stream.get("field_order", "progressive") not in ("progressive", "unknown"),
    }
    return facts | fields


def check_kept(source: str, done: CutClip, *, reencode: bool) -> None:
    """Every difference between a video and its clip is one that has to be, or is said."""
    clip = os.fsdecode(done.path)
    before, after = read_facts(source, probe_stream(source).stream_index), read_facts(clip)
    is_mov = all("mp4" in ffprobe(path, "-show_format")["format"]["format_name"] for path in (source, clip))
    for name, facts in before.items():
        if name not in after:
            kind = {"subtitle": "subtitle track", "audio": "sound track", "video": "picture track",
                    "cover": "cover picture"}.get(name.split()[0], "data track")  # fmt: skip
            assert any(kind in loss for loss in done.not_kept), (name, done.not_kept)
            continue
        for field, value in facts.items():
            now = after[name].get(field)
            if field == "title" and value in (after[name]["title"], after[name]["handler"]):
                continue
            if field == "marks":
                value, now = value - now, set()  # type: ignore[operator]
            if field in ("codec", "codec tag") and (reencode or (field == "codec tag" and not is_mov)):
                continue
            if field in ("handler", "rotation") and (reencode or not is_mov):
                continue
            if field == "aspect" and math.isclose(value, now, rel_tol=0.03):  # type: ignore[arg-type]
                continue
            if value and value not in ("unknown", "reserved") and value != now:
                assert any(SAID_BY.get(field, "?") in loss for loss in done.not_kept), (
                    name,
                    field,
                    value,
                    now,
                )


@pytest.mark.parametrize("reencode", [False, True], ids=["copied", "encoded"])
@pytest.mark.parametrize("name", with_slow(SOURCES, FAST))
def test_a_clip_keeps_what_its_streams_carry(
    material: Path, tmp_path: Path, name: str, reencode: bool
) -> None:
    source = material / name
    if not source.exists():
        ffmpeg(material, f"{SOURCES[name]} {name}")
    done = cut(os.fsencode(source), 1000, 2000, os.fsencode(tmp_path / "clip"), reencode=reencode)
    check_kept(str(source), done, reencode=reencode)
    expected_losses = {"see-through.mov": ("transparency",)} if reencode else {}
    if name.startswith(("tags", "phone", "turned", "fields", "around", "voice", "chapters", "camera")):
        assert not done.not_kept
    for loss in expected_losses.get(name, ()):
        assert any(loss in text for text in done.not_kept)


@pytest.mark.slow
@pytest.mark.parametrize("reencode", [False, True], ids=["copied", "encoded"])
@pytest.mark.parametrize("folder", ["clips", "awkward"])
def test_clips_of_all_shared_videos_keep_what_their_streams_carry(
    shared: Path, tmp_path: Path, folder: str, reencode: bool
) -> None:
    done = 0
    for number, source in enumerate(sorted(path for path in (shared / folder).iterdir() if path.is_file())):
        try:
            clip = cut(os.fsencode(source), 300, 1300, os.fsencode(tmp_path / str(number)), reencode=reencode)
        except VideoError:
            assert folder == "awkward", source
            continue
        check_kept(str(source), clip, reencode=reencode)
        done += 1
    assert done > 30


@pytest.mark.parametrize("reencode", [False, True], ids=["copied", "encoded"])
def test_a_picture_that_players_tilt_keeps_it_or_says_so(tmp_path: Path, reencode: bool) -> None:
    source = make_video(tmp_path / "tilted.mp4", seconds=1, width=64, height=48, turn=(30, False, False))
    clip = cut(os.fsencode(source), 0, 1000, os.fsencode(tmp_path / "clip"), reencode=reencode)
    assert clip.not_kept == (("the tilt of the picture",) if reencode else ())


def first_picture(path: Path) -> np.ndarray:
    """The first picture as ffmpeg displays it, RGB [64, 96, 3]."""
    size = "scale=96:64:flags=neighbor"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-vf", size, "-pix_fmt", "rgb24"]
    pixels = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(pixels, np.uint8).reshape(64, 96, 3).astype(int)


COLOURS = {  # name: how six fields of pure colours are stored
    "rgb.mov": "-c:v png", "planar.mkv": "-c:v ffv1 -pix_fmt gbrp", "palette.gif": "-filter_complex "
    "split[a][b];[a]palettegen[p];[b][p]paletteuse", "argb.mov": "-c:v qtrle -pix_fmt argb",
    "rgb264.mp4": "-c:v libx264rgb", "jpeg.avi": "-c:v mjpeg -q:v 2 -pix_fmt yuvj444p",
    "full709.mp4": "-vf scale=out_range=pc:out_color_matrix=bt709 -c:v libx264 -color_range pc -colorspace bt709 "
    "-pix_fmt yuv420p", "plain.mp4": "-c:v libx264 -pix_fmt yuv420p",
    "video709.mkv": "-vf scale=out_color_matrix=bt709 -c:v ffv1 -pix_fmt yuv444p -colorspace bt709",
    "deep2020.mkv": "-vf scale=out_color_matrix=bt2020nc -c:v ffv1 -pix_fmt yuv422p10le -colorspace bt2020nc",
    "grey.mkv": "-c:v ffv1 -pix_fmt gray", "deepgrey.mkv": "-c:v ffv1 -pix_fmt gray10le",
}  # fmt: skip


def make_columns(material: Path, name: str) -> Path:
    """A video of six columns of pure colours."""
    columns = ":".join(
        f"{channel}='255*bitand(trunc(X/16)+1,{bit})/{bit}'"
        for channel, bit in (("r", 1), ("g", 2), ("b", 4))
    )
    source = f"-f lavfi -i color=black:s=96x64:r=10:d=1,format=gbrp,geq={columns} {COLOURS[name]} {name}"
    ffmpeg(material, source)
    return material / name


def check_columns(clip: Path, source: Path) -> None:
    """The columns of a clip are those of its video, and the clip says how it stores them."""
    middles = np.s_[20:44, 8::16]
    assert np.abs(first_picture(clip)[middles] - first_picture(source)[middles]).max() <= 6
    (stream,) = ffprobe(str(clip), "-show_streams")["streams"]
    assert stream.get("color_space") != "gbr"


@pytest.mark.parametrize("name", with_slow(COLOURS, ("rgb.mov", "full709.mp4", "deepgrey.mkv")))
def test_an_encoded_clip_shows_the_same_colours(material: Path, tmp_path: Path, name: str) -> None:
    source = make_columns(material, name)
    done = cut(os.fsencode(source), 0, 500, os.fsencode(tmp_path / "clip"), reencode=True)
    check_columns(Path(os.fsdecode(done.path)), source)


@pytest.mark.parametrize(("name", "codec"), [("s.mkv", "srt"), ("s.mp4", "mov_text")])
def test_a_copy_has_the_subtitles_of_its_range(tmp_path: Path, name: str, codec: str) -> None:
    cues = ("00:00:03,000 --> 00:00:07,500\nbefore", "00:00:07,600 --> 00:00:09,000\nafter",
            "00:00:09,500 --> 00:00:09,900\nnever")  # fmt: skip
    (tmp_path / "words.srt").write_text("".join(f"{n}\n{cue}\n\n" for n, cue in enumerate(cues, 1)))
    picture = PICTURE.replace("d=3", "d=10")
    ffmpeg(
        tmp_path,
        f"{picture} -i words.srt -map 0 -map 1 {H264} -c:s {codec} -metadata:s:s language=ita {name}",
    )
    done = cut(os.fsencode(tmp_path / name), 6000, 8000, os.fsencode(tmp_path / "clip"))
    ffmpeg(tmp_path, f"-i {os.fsdecode(done.path)} -map 0:s clip.srt")
    shown = [(c.start.total_seconds(), c.end.total_seconds(), c.content) for c in srt.parse(
        (tmp_path / "clip.srt").read_text()
    )]  # fmt: skip
    assert shown == [(0, 1.5, "before"), (1.6, 2, "after")]
    assert (
        not done.not_kept
        and ffprobe(os.fsdecode(done.path), "-show_streams")["streams"][1]["tags"]["language"] == "ita"
    )


def test_chapters_of_the_range_are_cut_to_it(material: Path, tmp_path: Path) -> None:
    if not (material / "chapters.mkv").exists():
        ffmpeg(material, f"{SOURCES['chapters.mkv']} chapters.mkv")
    for reencode in (False, True):
        stem = os.fsencode(tmp_path / f"clip{reencode}")
        done = cut(os.fsencode(material / "chapters.mkv"), 1000, 2000, stem, reencode=reencode)
        chapters = ffprobe(os.fsdecode(done.path), "-show_chapters")["chapters"]
        times = [(float(c["start_time"]), float(c["end_time"]), c["tags"]["title"]) for c in chapters]
        assert times == [(0, 0.5, "A"), (0.5, 1, "B")]


@pytest.mark.parametrize(
    ("name", "rate", "start", "expected"),
    [
        ("t.mov", "25", "10:00:00:00", "10:00:01:00"),
        ("t.mp4", "30000/1001", "00:59:59;00", "01:00:00;00"),
        ("t.mkv", "24000/1001", "10:00:00:12", "10:00:01:12"),
        ("prores.mov", "25", "10:00:00:00", "10:00:01:00"),
    ],
)
@pytest.mark.parametrize("reencode", [False, True], ids=["copied", "encoded"])
def test_a_clip_begins_at_the_cameras_timecode_of_its_first_picture(
    tmp_path: Path, name: str, rate: str, start: str, expected: str, reencode: bool
) -> None:
    timecode = f"-timecode {start}" if name != "t.mkv" else f"-metadata timecode={start}"
    nominal = round(Fraction(rate))
    codec = "-c:v prores_ks" if name == "prores.mov" else f"{H264} -g {nominal}"
    ffmpeg(tmp_path, f"-f lavfi -i testsrc2=s=96x72:r={rate}:d=3 {codec} {timecode} {name}")
    start_ms = round(1000 * nominal / Fraction(rate))  # of the second key frame
    done = cut(
        os.fsencode(tmp_path / name), start_ms, 2500, os.fsencode(tmp_path / "clip"), reencode=reencode
    )
    picture = ffprobe(os.fsdecode(done.path), "-show_streams")["streams"][0]
    assert {tag.lower(): text for tag, text in picture["tags"].items()}["timecode"] == expected
    assert not any("track" in each for each in done.not_kept)


def test_the_transparency_of_webm_is_copied_or_said_to_be_lost(tmp_path: Path) -> None:
    ffmpeg(tmp_path, f"{PICTURE} {VP9} -pix_fmt yuva420p clear.webm")
    copied, encoded = (
        cut(os.fsencode(tmp_path / "clear.webm"), 1000, 2000, os.fsencode(tmp_path / "c"), reencode=reencode)
        for reencode in (False, True)
    )
    assert copied.not_kept == () and encoded.not_kept == ("the transparency",)


def test_the_command_says_in_one_line_what_is_not_kept(
    vtag: Run, vtag_home: Path, material: Path, tmp_path: Path
) -> None:
    with LibraryWriter.open(vtag_home / "library.db") as library:
        for name in ("words.mkv", "turned.mp4"):
            ffmpeg(material, f"{SOURCES[name]} {tmp_path / name}")
            annotation_log.add(
                library, register_video(library, os.fsencode(tmp_path / name)), "wave", 1000, 2000
            )
    run = vtag("cut", "wave", "-o", tmp_path / "clips", "--reencode")
    assert run.stderr.splitlines() == ["2 clips written", "not kept: 1 subtitle track (in 1 clip)"]


def test_the_name_of_a_lost_tag_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    """It is a stranger's text, which `vtag cut` prints."""
    source = make_video(
        tmp_path / "a.mkv", seconds=1, metadata={"\x1b]0;owned\x07\u202e": "x", "long" * 99: "x"}
    )
    clip = make_video(tmp_path / "b.mkv", seconds=1)
    [loss] = list_losses(os.fsencode(source), 0, os.fsencode(clip))
    assert loss.startswith("the tags ") and loss.isprintable() and len(loss) < 150
