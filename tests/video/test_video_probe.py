"""Probing reads what a file contains, and never opens another file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.footage import make_numbered, make_video

from vtag.engine.errors import VideoError
from vtag.engine.video.read.container import UnusableVideo, open_container
from vtag.engine.video.read.dates import find_recording_time
from vtag.engine.video.read.probe import count_frames, probe, probe_stream
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling

USUAL = Sampling.create(32, 15.0)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mkv", "libx264", {}),
        ("a.mov", "libx265", {}),
        ("a.ts", "libx264", {}),
        ("a.mpg", "mpeg2video", {}),
        ("a.avi", "mpeg4", {}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
        ("a.webm", "libvpx", {"deadline": "realtime", "cpu-used": "8"}),
        ("a.flv", "flv", {}),
        ("a.wmv", "wmv2", {}),
        ("a.mov", "mjpeg", {}),
        ("a.nut", "ffv1", {}),
        ("a.gif", "gif", {}),
        ("a.apng", "apng", {}),
    ],
)
def test_duration_and_size_are_right_in_every_container(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    formats = {"mjpeg": "yuvj420p", "gif": "rgb8", "apng": "rgb24"}
    fps = 25 if codec != "gif" else 20
    path = make_video(
        tmp_path / name,
        seconds=2,
        fps=fps,
        codec=codec,
        options=options,
        pix_fmt=formats.get(codec, "yuv420p"),
    )
    reader = read_clips(path, USUAL)
    clips = list(reader)
    info = reader.info
    assert abs(info.duration_ms - 2000) <= 1
    assert (info.width, info.height, info.rotation) == (160, 120, 0)
    assert info.frame_rate == fps
    assert info.codec in (codec, codec.removeprefix("lib"), "h264", "hevc", "vp9", "vp8", "flv1")
    assert [c.pixels.shape for c in clips] == [(1, 32, 224, 224, 3)]


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = make_video(tmp_path / "matroska.mkv", seconds=1)
    disguised = path.rename(tmp_path / "disguised.mp4")
    assert probe(disguised).container == "matroska,webm"


@pytest.mark.parametrize(
    "name",
    [
        "-dash-first.mp4",
        "http:name.mp4",
        "concat:a|b.mp4",
        "file:x.mp4",
        "%03d.mp4",
        "odd ünï ❤ 'quote' & (50%) #1 ; -x.mp4",
        "new\nline.mp4",
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_a_name_like_a_protocol_is_only_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_video(tmp_path / "plain.mp4", seconds=1).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(name).duration_ms == 1000
    assert probe(tmp_path / name).duration_ms == 1000


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_a_name_that_is_not_utf_8_is_opened(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9-\xff.mp4"
    os.rename(make_video(tmp_path / "plain.mp4", seconds=1), name)
    assert probe(name).duration_ms == 1000
    assert len(list(read_clips(name, USUAL))) == 1
    with pytest.raises(VideoError, match=r"caf\\xe9-\\xff\.mp5"):
        probe(name[:-1] + b"5")


def test_metadata_that_is_not_utf_8_is_no_obstacle(tmp_path: Path) -> None:
    path = make_video(tmp_path / "title.avi", seconds=1, codec="mpeg4", metadata={"title": "TITLETITLE"})
    path.write_bytes(path.read_bytes().replace(b"TITLETITLE", b"\xff\xfe\xe9\x80TITLE\x81"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert probe(path).duration_ms == 1000


def test_the_duration_follows_from_packets_also_in_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("large.mp4", "large.mkv", "large.ts", "large.avi", "large.mpg", "large.flv"):
        codec = {"mpg": "mpeg2video", "flv": "flv"}.get(name[-3:], "libx264")
        path = make_video(tmp_path / name, seconds=20, codec=codec, options={"g": "50"})
        small = probe(path)
        with monkeypatch.context() as patch:
            patch.setattr("vtag.engine.video.read.probe.FULL_READ_BYTES", 1000)
            assert abs(probe(path).duration_ms - small.duration_ms) <= 34, name
        assert abs(small.duration_ms - 20_000) <= 34, name


def test_a_wrong_duration_in_the_header_of_a_large_file_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "liar.mkv", seconds=20)
    data = bytearray(path.read_bytes())
    offset = data.index(b"\x44\x89\x88") + 3
    for claimed in (3_000_000.0, 1.0):
        data[offset : offset + 8] = np.array([claimed], dtype=">f8").tobytes()
        path.write_bytes(data)
        monkeypatch.setattr("vtag.engine.video.read.probe.FULL_READ_BYTES", 1000)
        assert abs(probe(path).duration_ms - 20_000) <= 34


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "flv", "nut", "ogv", "mxf"])
def test_the_date_of_every_container_is_read(tmp_path: Path, suffix: str) -> None:
    codec = {"webm": "libvpx", "ogv": "libvpx", "mxf": "mpeg2video", "avi": "mpeg4", "flv": "flv"}.get(suffix)
    tag = "creation_time=2014-03-21T00:00:00" if suffix == "mxf" else "date=2014-03-21"
    path = tmp_path / f"dated.{suffix}"
    source = ["-f", "lavfi", "-i", "testsrc2=s=128x96:r=25:d=1"]
    container = ["-f", "ogg"] if suffix == "ogv" else []
    command = ["ffmpeg", "-v", "error", *source, "-metadata", tag, "-c:v", codec or "libx264", *container]
    subprocess.run([*command, str(path)], check=True)
    assert (probe(path).recorded_at or "")[:10] == "2014-03-21"


@pytest.mark.parametrize(
    ("tags", "recorded_at"),
    [
        ({"DATE": "20140321"}, "20140321"),
        ({"DATE": "20140321T101112Z"}, "20140321T101112Z"),
        ({"DATE": "21.03.2014 10:11:12"}, "2014-03-21T10:11:12"),
        ({"DATE": "Fri, 21 Mar 2014 10:11:12 +0200"}, "2014-03-21T10:11:12+02:00"),
        ({"DATE": "03/04/2014"}, None),  # which of them is the day?
        ({"DateTimeOriginal": "2014:03:21 10:11:12.345+02:00"}, "2014-03-21T10:11:12.345000+02:00"),
        ({"com.apple.quicktime.creationdate": "2014-03-21T10:11:12+0200"}, "2014-03-21T10:11:12+0200"),
        ({"Date": " 2014-03-21 "}, "2014-03-21"),
        ({"MOVIE/DATE_RECORDED": "2014-03-21", "creation_time": "2024-01-01T00:00:00Z"}, "2014-03-21"),
        ({"DateTimeOriginal": "2014:03:21 10:11:12"}, "2014-03-21T10:11:12"),
        ({"DATE_RECORDED": "UTC 2014-03-21 10:11:12"}, "2014-03-21 10:11:12Z"),
        ({"IDIT": "Fri Mar 21 10:11:12 2014"}, "2014-03-21T10:11:12"),
        ({"date": "2014/03/21"}, "2014-03-21"),
        ({"DATE": "2014"}, None),  # a year alone would be a wrong day
        ({"DATE": "UTC"}, None),
        ({"DATE": "9999-99-99", "ICRD": "2014-03-21"}, "2014-03-21"),
    ],
)
def test_a_date_is_read_however_it_is_spelt(tags: dict[str, str], recorded_at: str | None) -> None:
    assert find_recording_time({}, tags) == recorded_at


def test_the_recording_time_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "when.mp4", seconds=1, metadata={"creation_time": "2024-05-06T07:08:09Z"})
    assert probe(path).recorded_at == "2024-05-06T07:08:09.000000Z"
    assert probe(make_video(tmp_path / "never.mp4", seconds=1)).recorded_at is None
    assert (
        find_recording_time({"creation_time": "1904-01-01T00:00:00Z"}) is None
    )  # a clock that was never set
    assert find_recording_time({"creation_time": "last summer"}, {"date": "2020-01-02"}) == "2020-01-02"
    apple = {
        "creation_time": "2024-05-06T07:08:09Z",
        "com.apple.quicktime.creationdate": "2024-05-06T09:08:09+02:00",
    }
    assert find_recording_time(apple) == "2024-05-06T09:08:09+02:00"


def test_frames_are_counted_without_decoding(tmp_path: Path) -> None:
    for name in ("n.mp4", "n.mkv", "n.ts"):
        path = make_numbered(tmp_path / name, seconds=3)
        assert count_frames(path, probe_stream(path)) == 90


# --- which stream is the video --------------------------------------------------------------------------------


def _mux(path: Path, parts: list[tuple[Path, int]], covers: int = 0) -> Path:
    """The video streams of `parts` (path, disposition) in one file; `covers` stills are attached in front."""
    with av.open(str(path), "w") as target:
        sources = []
        for source_path, disposition in parts:
            source = av.open(str(source_path))
            stream = target.add_stream_from_template(source.streams.video[0])
            stream.disposition = av.stream.Disposition(disposition)
            sources.append((source, stream))
        for source, stream in sources:
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
            source.close()
    return path


def test_a_still_in_front_is_not_the_video(tmp_path: Path) -> None:
    still = make_video(
        tmp_path / "still.mkv", seconds=1 / 30, codec="mjpeg", pix_fmt="yuvj420p", width=96, height=96
    )
    video = make_video(tmp_path / "video.mkv", seconds=2)
    both = _mux(tmp_path / "both.mkv", [(still, 1), (video, 0)])
    assert (probe(both).width, probe(both).codec, probe(both).duration_ms) == (160, "h264", 2000)


def test_the_default_one_of_two_video_streams_is_used(tmp_path: Path) -> None:
    small = make_video(tmp_path / "small.mp4", seconds=2)
    large = make_video(tmp_path / "large.mp4", seconds=2, width=320, height=240)
    assert probe(_mux(tmp_path / "first.mkv", [(small, 1), (large, 0)])).width == 160
    assert probe(_mux(tmp_path / "second.mkv", [(large, 0), (small, 1)])).width == 160


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    cover = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24").reformat(
        format="yuvj420p"
    )
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        picture = container.add_stream("mjpeg")
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1152), np.float32), format="fltp", layout="stereo")
        frame.rate = 44100
        container.mux(picture.encode(cover))
        container.mux(picture.encode(None))
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(VideoError, match="no usable picture"):
        probe(path)


# --- nothing else is opened ---------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return make_video(tmp_path / "secret.mp4", seconds=1)


def _references(secret: Path, address: str) -> dict[str, str]:
    """Playlists that libav would follow, by file name."""
    return {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\n{secret.name}\n#EXT-X-ENDLIST\n",
        "address.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile {secret.name}\n",
        "list.mpd": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f'<AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>{address}/</BaseURL>'
        f"</Representation></AdaptationSet></Period></MPD>",
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "list.ism": f'<?xml version="1.0"?><SmoothStreamingMedia src="{address}"/>',
        "list.asx": f'<asx version="3.0"><entry><ref href="{address}/a.wmv"/></entry></asx>',
        "list.ram": f"{address}/a.rm\n",
    }


@pytest.mark.parametrize("as_mp4", [False, True])
def test_no_reference_in_a_file_is_followed(secret: Path, as_mp4: bool) -> None:
    reached = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def wait() -> None:
            try:
                server.accept()[0].close()
                reached.append(1)
            except OSError:
                pass

        server.settimeout(5)
        threading.Thread(target=wait, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name, text in _references(secret, address).items():
            path = secret.parent / ((name + ".mp4") if as_mp4 else name)
            path.write_text(text)
            with pytest.raises(VideoError, match="no usable picture"):
                read_clips(path, USUAL)
        assert not reached


def test_a_quicktime_reference_to_another_file_is_not_followed(secret: Path) -> None:
    """A `dref` with an alias names the file that holds the samples."""
    path = make_numbered(secret.parent / "refers.mov", seconds=1)
    data = path.read_bytes()
    assert b"dref" in data
    offset = data.index(b"dref") - 4
    url = data[offset + 16 :][:12]
    assert url[4:8] == b"url " and url[11] == 1  # self-contained
    path.write_bytes(data[: offset + 16 + 11] + b"\0" + data[offset + 16 + 12 :])  # now it says: elsewhere
    try:
        clips = list(read_clips(path, USUAL))
    except VideoError:
        return
    assert len(clips) == 1  # read as if it held its own samples, which it does


@pytest.mark.parametrize(
    "content", [b"", b"plain text " * 200, bytes(range(256)) * 40, b"GIF89a", b"\x89PNG\r\n\x1a\n"]
)
def test_an_unusable_file_is_explained_on_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "renamed.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert isinstance(caught.value, UnusableVideo)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "no usable picture" in caught.value.reason and "\n" not in caught.value.reason


def test_a_still_picture_is_no_video(tmp_path: Path) -> None:
    frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
    for name in ("still.jpg", "still.png"):
        frame.save(tmp_path / name)
        with pytest.raises(VideoError, match="no usable picture"):
            probe(tmp_path / name)


def test_folders_pipes_and_missing_files_fail_at_once(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="not a file"):
        probe(tmp_path)
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(tmp_path / "absent.mp4")
    with pytest.raises(VideoError, match="cannot be opened"):
        probe(b"nul\0inside.mp4")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        with pytest.raises(VideoError, match="not a file"):
            probe(tmp_path / "pipe.mp4")


def test_a_header_that_claims_a_gigantic_picture_fails(tmp_path: Path) -> None:
    path = make_video(tmp_path / "huge.avi", seconds=1, codec="ffv1", pix_fmt="yuv420p")
    data = bytearray(path.read_bytes())
    offset = data.index(b"strf") + 8
    data[offset + 4 : offset + 12] = np.array([60000, 60000], dtype="<i4").tobytes()
    path.write_bytes(data)
    with pytest.raises(VideoError):
        list(read_clips(path, USUAL))


def test_pixel_aspect_counts_for_the_size(tmp_path: Path) -> None:
    path = make_video(tmp_path / "wide.mkv", seconds=1, width=160, height=120, pixel_aspect=Fraction(4, 3))
    assert (probe(path).width, probe(path).height) == (213, 120)


def test_a_container_is_closed_whatever_happens(tmp_path: Path) -> None:
    path = make_video(tmp_path / "closed.mp4", seconds=1)
    with pytest.raises(RuntimeError), open_container(path) as container:
        raise RuntimeError
    with pytest.raises(AssertionError):
        container.seek(0)
