"""The pixels of a clip: colours, orientation, fields, range, high dynamic range; the published pipelines."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.footage import make_numbered, make_video, read_number, read_numbers
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.errors import VideoError
from vtag.engine.video.read.hdr import HLG, PQ, to_sdr
from vtag.engine.video.read.probe import probe
from vtag.engine.video.read.published import read_protocol_views
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.resize import resize_bilinear
from vtag.engine.video.read.sampling import Sampling, published_indices
from vtag.engine.video.read.views import (
    Orientation,
    published_center_crop,
    published_resize,
    published_uniform_crops,
)

USUAL = Sampling.create(32, 15.0)
# top left red, top right green, bottom left blue, bottom right grey
CORNERS = np.array([[[220, 40, 40], [40, 200, 40]], [[40, 40, 220], [130, 130, 130]]], np.uint8)


def four_corners(width: int, height: int) -> np.ndarray:
    return CORNERS[np.arange(height)[:, None] * 2 // height, np.arange(width) * 2 // width]


def corners_of(view: np.ndarray) -> np.ndarray:
    """The colours in the middle of the four quarters of a view."""
    h, w = view.shape[:2]
    return np.array(
        [
            [view[h // 4, w // 4], view[h // 4, 3 * w // 4]],
            [view[3 * h // 4, w // 4], view[3 * h // 4, 3 * w // 4]],
        ]
    )


def first_view(path: Path, view: str = "center") -> np.ndarray:
    return next(iter(read_clips(path, Sampling.create(32, 15.0, view=view)))).pixels[0, 0]


def make_corner_video(path: Path, width: int = 160, height: int = 120, **kwargs: object) -> Path:
    return make_video(
        path, seconds=1, width=width, height=height, draw=lambda i: four_corners(width, height), **kwargs
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("c.mp4", "libx264", "yuv420p"),
        ("c.mp4", "libx264", "yuv444p"),
        ("c.mp4", "libx264", "yuv422p10le"),
        ("c.mp4", "libx265", "yuv420p10le"),
        ("c.mkv", "libx264", "yuvj420p"),
        ("c.mov", "mjpeg", "yuvj420p"),
        ("c.mov", "png", "rgb24"),
        ("c.mov", "png", "rgba"),
        ("c.mkv", "ffv1", "bgr0"),
        ("c.avi", "rawvideo", "bgr24"),
        ("c.mov", "prores_ks", "yuv444p10le"),
        ("c.gif", "gif", "rgb8"),
        ("c.webm", "libvpx-vp9", "yuva420p"),
    ],
)
def test_colours_are_right_in_every_pixel_format(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = make_corner_video(tmp_path / name, codec=codec, pix_fmt=pix_fmt)
    tolerance = 45 if pix_fmt == "rgb8" else 10
    for view in ("center", "full", "three"):
        difference = np.abs(corners_of(first_view(path, view)).astype(int) - CORNERS)
        if view != "three":  # its first crop shows the left side
            assert difference.max() <= tolerance


@pytest.mark.parametrize(("space", "span"), list(product([1, 6], [1, 2])))
def test_colour_matrix_and_range_of_the_stream_are_used(tmp_path: Path, space: int, span: int) -> None:
    colour = {"colorspace": space, "color_range": span, "color_trc": 1, "color_primaries": 1}
    path = make_corner_video(tmp_path / "c.mp4", colour=colour)
    assert np.abs(corners_of(first_view(path)).astype(int) - CORNERS).max() <= 8


def test_a_grey_video_has_three_equal_channels(tmp_path: Path) -> None:
    view = first_view(make_corner_video(tmp_path / "grey.mkv", codec="ffv1", pix_fmt="gray"))
    assert (view[..., 0] == view[..., 1]).all() and (view[..., 1] == view[..., 2]).all()
    assert view.std() > 10


@pytest.mark.parametrize(
    ("turn", "quarters"),
    [
        ((0, False, False), [[0, 1], [2, 3]]),
        ((90, False, False), [[1, 3], [0, 2]]),  # counter-clockwise: the right side comes up
        ((180, False, False), [[3, 2], [1, 0]]),
        ((-90, False, False), [[2, 0], [3, 1]]),
        ((0, True, False), [[1, 0], [3, 2]]),
        ((0, False, True), [[2, 3], [0, 1]]),
    ],
)
@pytest.mark.parametrize("name", ["turned.mp4", "turned.mov"])
def test_a_rotated_or_mirrored_video_is_upright(
    tmp_path: Path, name: str, turn: tuple[int, bool, bool], quarters: list[list[int]]
) -> None:
    path = make_corner_video(tmp_path / name, turn=turn)
    expected = CORNERS.reshape(4, 3)[np.array(quarters)]
    for view in ("center", "full"):
        assert np.abs(corners_of(first_view(path, view)).astype(int) - expected).max() <= 8
    quarter = turn[0] in (90, -90)
    info = probe(path)
    assert (info.width, info.height) == ((120, 160) if quarter else (160, 120))
    assert info.rotation == -turn[0] % 360
    assert first_view(path, "full").shape == ((352, 256, 3) if quarter else (256, 352, 3))


def test_pixel_aspect_is_corrected(tmp_path: Path) -> None:
    """A circle that is stored as an ellipse is a circle in the clip."""
    y, x = np.mgrid[0:240, 0:160]
    ellipse = np.repeat(
        (((x - 80) / 40) ** 2 + ((y - 120) / 80) ** 2 < 1)[..., None] * 255, 3, axis=2
    ).astype(np.uint8)
    path = make_video(
        tmp_path / "round.mkv",
        seconds=1,
        width=160,
        height=240,
        draw=lambda i: ellipse,
        pixel_aspect=Fraction(2),
    )
    disc = first_view(path)[..., 1] > 127
    assert abs(int(disc.any(0).sum()) - int(disc.any(1).sum())) <= 3
    assert probe(path).width == 320


def test_interlaced_pictures_show_no_combing(tmp_path: Path) -> None:
    """The two fields of a frame are from different times; alternating rows of both would be a comb."""
    comb = np.zeros((288, 352, 3), np.uint8)
    comb[0::2, 60:180], comb[1::2, 180:300] = 255, 255
    path = make_video(
        tmp_path / "fields.mpg", seconds=1, fps=25, codec="mpeg2video", width=352, height=288,
        draw=lambda i: comb, interlaced=True, options={"b": "8000000"},
    )  # fmt: skip
    assert probe(path).interlaced
    view = first_view(path, "full").astype(int)
    assert view[:, 120:125].mean() > 200  # the upper field alone
    assert view[:, 240:245].mean() < 60
    progressive = make_video(
        tmp_path / "frames.mpg", seconds=1, fps=25, codec="mpeg2video", width=352, height=288, draw=lambda i: comb,
        options={"b": "8000000"},
    )  # fmt: skip
    assert not probe(progressive).interlaced
    assert 90 < first_view(progressive, "full")[:, 120:125].mean() < 170


def test_shrinking_averages_instead_of_picking(tmp_path: Path) -> None:
    """Fine stripes become grey: resizing without a filter would give moiré."""
    stripes = np.zeros((720, 1280, 3), np.uint8)
    stripes[:, ::2] = 255
    path = make_video(
        tmp_path / "fine.mkv",
        seconds=0.2,
        width=1280,
        height=720,
        codec="ffv1",
        pix_fmt="bgr0",
        draw=lambda i: stripes,
    )
    view = first_view(path)
    assert abs(view.mean() - 127.5) < 4 and view.std() < 40  # 127 if it picked


@pytest.mark.parametrize("size", [(640, 8), (8, 640), (4, 2), (2, 2)])
def test_extreme_shapes_give_clips_of_the_usual_size(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make_video(
        tmp_path / "shape.mkv", seconds=1, width=size[0], height=size[1], codec="ffv1", pix_fmt="bgr0"
    )
    long = 512 if max(size) >= 2 * min(size) else 256
    for view, shape in (
        ("center", (1, 32, 224, 224, 3)),
        ("full", (1, 32, 256, long, 3) if size[0] >= size[1] else (1, 32, long, 256, 3)),
        ("three", (3, 32, 224, 224, 3)),
    ):
        (clip,) = read_clips(path, Sampling.create(32, 15.0, view=view))
        assert clip.pixels.shape == shape


# --- high dynamic range ---------------------------------------------------------------------------------------


def _pq(nits: float) -> int:
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    y = (nits / 10000) ** m1
    return round(((c1 + c2 * y) / (1 + c3 * y)) ** m2 * 65535)


def test_a_grey_card_of_a_pq_video_is_grey_and_white_is_nearly_white() -> None:
    picture = np.array([[[_pq(n)] * 3 for n in (0, 0.18 * 203, 203, 1000, 10000)]], np.uint16)
    black, card, white, bright, brightest = to_sdr(picture, PQ)[0].astype(int)
    assert (black == 0).all()
    assert np.abs(card - 118).max() <= 2  # 18 % of white in sRGB
    assert (white > 225).all() and (white < 255).all()
    assert (bright == 255).all() and (brightest == 255).all()


def test_hlg_is_nearly_what_an_ordinary_screen_would_show() -> None:
    picture = np.array([[[round(v * 65535)] * 3 for v in (0, 0.38, 0.75, 1)]], np.uint16)
    black, card, white, brightest = to_sdr(picture, HLG)[0].astype(int)
    assert (black == 0).all()
    assert 95 < card.mean() < 140  # BT.2408: a grey card is coded at 38 %
    assert 220 < white.mean() < 255  # and diffuse white at 75 %
    assert (brightest == 255).all()


@given(st.lists(st.integers(0, 65535), min_size=3, max_size=3), st.sampled_from([PQ, HLG]))
def test_brighter_codes_never_become_darker(codes: list[int], transfer: int) -> None:
    greys = to_sdr(np.array([[[c] * 3 for c in sorted(codes)]], np.uint16), transfer)[0, :, 0].astype(int)
    assert (np.diff(greys) >= 0).all()


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_an_hdr_video_becomes_viewable(tmp_path: Path, transfer: int) -> None:
    """Half white at 203 nits, half a grey card, coded as a camera would: PQ or HLG, 10 bits, BT.2020."""
    white, card = (
        (_pq(203), _pq(0.18 * 203)) if transfer == PQ else (round(0.75 * 65535), round(0.38 * 65535))
    )
    picture = np.full((120, 160, 3), card, np.uint16)
    picture[:, 80:] = white
    colour = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = make_video(
        tmp_path / "hdr.mp4",
        seconds=1,
        codec="libx265",
        pix_fmt="yuv420p10le",
        colour=colour,
        draw=lambda i: picture,
    )
    assert probe(path).hdr
    view = first_view(path).astype(int)
    assert 90 < view[:, 40].mean() < 140
    assert 220 < view[:, 180].mean() < 255
    assert np.ptp(view[100, 40]) <= 4  # still grey
    sdr = make_video(tmp_path / "sdr.mp4", seconds=1, codec="libx265", pix_fmt="yuv420p10le")
    assert not probe(sdr).hdr


# --- the published pipelines ----------------------------------------------------------------------------------


def formula(width: int, height: int) -> np.ndarray:
    """A picture that is easy to generate in other languages."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    channels = [
        (101 * c + 3 * (c + 1) * y + 7 * x + (x * y) // (5 + c) + (x * x * 3 + y * y * 5) // 7) % 256
        for c in range(3)
    ]
    return np.stack(channels, -1).astype(np.uint8)


_OPENCV = json.loads((Path(__file__).parents[1] / "data" / "opencv_resize.json").read_text())


@pytest.mark.parametrize(("width", "height", "to_width", "to_height", "sha256"), _OPENCV["rows"])
def test_the_resize_is_opencvs_to_the_last_bit(
    width: int, height: int, to_width: int, to_height: int, sha256: str
) -> None:
    resized = resize_bilinear(formula(width, height), to_width, to_height)
    assert hashlib.sha256(resized.tobytes()).hexdigest() == sha256


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.data())
def test_a_region_equals_that_part_of_the_resized_picture(
    w: int, h: int, tw: int, th: int, data: st.DataObject
) -> None:
    x, y = data.draw(st.integers(0, tw - 1)), data.draw(st.integers(0, th - 1))
    rw, rh = data.draw(st.integers(1, tw - x)), data.draw(st.integers(1, th - y))
    picture = formula(w, h)
    resized = resize_bilinear(picture, tw, th)
    assert np.array_equal(resize_bilinear(picture, tw, th, (x, y, rw, rh)), resized[y : y + rh, x : x + rw])


def _plain(path: Path, orientation: Orientation | None = None) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


@pytest.mark.parametrize("seconds", [0.5, 3.0, 5.5])
def test_the_clip_protocol_is_one_clip_of_the_middle(tmp_path: Path, seconds: float) -> None:
    path = make_numbered(tmp_path / "p.mp4", seconds=seconds, width=320, height=240)
    views = read_protocol_views(path)
    pictures = _plain(path)
    ((*indices,),) = published_indices(len(pictures), "clip")
    assert views.shape == (1, 32, 224, 224, 3)
    x, y = published_center_crop(341, 256, 224)
    expected = [resize_bilinear(pictures[i], 341, 256)[y : y + 224, x : x + 224] for i in indices]
    assert np.array_equal(views[0], np.stack(expected))
    assert read_numbers(views) == indices


def test_the_test_protocol_is_four_clips_by_three_crops(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "p.mp4", seconds=6, width=240, height=320)
    views = read_protocol_views(path, protocol="test")
    pictures = _plain(path)
    size = published_resize(240, 320, 224)
    expected = [
        np.stack([resize_bilinear(pictures[i], *size)[y : y + 224, x : x + 224] for i in clip])
        for x, y in published_uniform_crops(*size, 224)
        for clip in published_indices(len(pictures), "test")
    ]
    assert np.array_equal(views, np.stack(expected))


def test_other_sizes_follow_the_same_scheme(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "p.mp4", seconds=3)
    views = read_protocol_views(path, frames=8, step=4, short_side=112, crop=96)
    assert views.shape == (1, 8, 96, 96, 3)
    assert [read_number(f, 96 / 112) for f in views[0]] == published_indices(90, "clip", frames=8, step=4)[0]


def test_predict_uses_the_upright_picture(tmp_path: Path) -> None:
    path = make_corner_video(tmp_path / "turned.mp4", turn=(90, False, False))
    expected = CORNERS.reshape(4, 3)[[[1, 3], [0, 2]]]
    assert np.abs(corners_of(read_protocol_views(path)[0, 0]).astype(int) - expected).max() <= 8


def test_predict_of_a_truncated_video_uses_the_frames_that_decode(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "cut.mp4", seconds=4, options={"g": "5", "bf": "0"})
    with av.open(str(path)) as container:
        last = [(p.pos, p.size) for p in container.demux(video=0) if p.size][-60:]
    data = bytearray(path.read_bytes())
    for position, size in last:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    assert read_numbers(read_protocol_views(path)) == published_indices(60, "clip")[0]


def test_predict_of_an_extreme_shape_needs_no_huge_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.mkv", seconds=1, width=16000, height=8, codec="ffv1", pix_fmt="bgr0")
    assert read_protocol_views(path, protocol="test").shape == (12, 32, 224, 224, 3)


def test_predict_of_no_video_raises(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no")
    with pytest.raises(VideoError, match="no usable picture"):
        read_protocol_views(tmp_path / "no.mp4")


@pytest.mark.parametrize("protocol", ["clip", "test"])
def test_predict_of_the_published_example_has_the_published_pixels(shared: Path, protocol: str) -> None:
    golden = json.loads((shared / "golden" / "paddle_example.json").read_text())
    golden = golden["predict" if protocol == "clip" else "test"]["input"]
    views = read_protocol_views(shared / "clips" / "archery__022.avi", protocol=protocol)  # type: ignore[arg-type]
    channels_first = np.ascontiguousarray(views.reshape(-1, 224, 224, 3).transpose(3, 0, 1, 2))
    assert hashlib.sha256(channels_first.tobytes()).hexdigest() == golden["sha256_uint8_cthw"]
