"""Geometry: which part of a picture becomes which pixels."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.video.read.sampling import VIEWS, Sampling
from vtag.engine.video.read.views import (
    Orientation,
    clip_size,
    compute_geometry,
    published_center_crop,
    published_resize,
    published_uniform_crops,
    upright_size,
)

TABLES = json.loads((Path(__file__).parents[1] / "data" / "published_pipelines.json").read_text())
UPRIGHT = Orientation()
SQUARE = Fraction(1)

orientations = st.builds(Orientation, st.booleans(), st.booleans(), st.booleans())
aspects = st.sampled_from(
    [SQUARE, Fraction(16, 15), Fraction(4, 3), Fraction(8, 9), Fraction(1, 60), Fraction(2)]
)
sizes = st.one_of(st.integers(1, 64), st.integers(1, 65535))


@given(
    sizes,
    sizes,
    aspects,
    orientations,
    st.sampled_from(VIEWS),
    st.sampled_from([(256, 224), (224, 224), (97, 64)]),
)
def test_no_geometry_needs_more_pixels_than_its_view(
    width: int, height: int, aspect: Fraction, turned: Orientation, view: str, sides: tuple[int, int]
) -> None:
    sampling = Sampling.create(32, 15.0, view=view, short_side=sides[0], crop=sides[1])
    g = compute_geometry(width, height, aspect, turned, sampling)
    assert g.x >= 0 and g.x + g.width <= width and g.width >= 1
    assert g.y >= 0 and g.y + g.height <= height and g.height >= 1
    assert g.scaled_width * g.scaled_height <= 3 * sampling.short_side**2
    scaled = (g.scaled_height, g.scaled_width) if turned.transpose else (g.scaled_width, g.scaled_height)
    assert len(g.crops) == sampling.view_count
    for x, y in g.crops:
        assert x >= 0 and x + g.crop_width <= scaled[0]
        assert y >= 0 and y + g.crop_height <= scaled[1]
    upright = upright_size(width, height, aspect, turned)
    assert (g.crop_height, g.crop_width) == clip_size(upright, sampling)


@pytest.mark.parametrize(
    ("size", "region"),
    [
        ((320, 240), (54, 14, 212, 212)),
        ((1920, 1080), (488, 68, 944, 944)),
        ((1080, 1920), (68, 488, 944, 944)),
        ((256, 256), (16, 16, 224, 224)),
    ],
)
def test_center_is_the_middle_of_the_short_side(size: tuple[int, int], region: tuple[int, ...]) -> None:
    g = compute_geometry(*size, SQUARE, UPRIGHT, Sampling.create(32, 15.0))
    assert (g.x, g.y, g.width, g.height) == region
    assert (g.crop_width, g.crop_height) == (224, 224)


@pytest.mark.parametrize(
    ("size", "rows_columns", "seen_width"),
    [
        ((320, 240), (256, 352), 320),  # 341 is nearest to 352
        ((1920, 1080), (256, 448), 1920),
        ((1080, 1920), (448, 256), 1080),
        ((512, 512), (256, 256), 512),
        ((640, 8), (256, 512), 16),  # 80:1: the middle 2:1
        ((560, 240), (256, 512), 480),
    ],
)
def test_full_is_the_whole_frame_up_to_two_to_one(
    size: tuple[int, int], rows_columns: tuple[int, int], seen_width: int
) -> None:
    g = compute_geometry(*size, SQUARE, UPRIGHT, Sampling.create(32, 15.0, view="full"))
    assert (g.crop_height, g.crop_width) == rows_columns
    assert g.width == seen_width


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_long_side_of_full_is_a_multiple_of_32(width: int, height: int) -> None:
    sampling = Sampling.create(32, 15.0, view="full")
    rows, columns = clip_size((width, height), sampling)
    assert min(rows, columns) == 256
    assert max(rows, columns) % 32 == 0
    assert max(rows, columns) <= 512
    shape = min(2.0, max(width, height) / min(width, height)) * 256
    assert abs(max(rows, columns) - shape) <= 16


def test_three_crops_are_at_both_ends_and_in_the_middle() -> None:
    g = compute_geometry(1920, 1080, SQUARE, UPRIGHT, Sampling.create(32, 15.0, view="three"))
    assert (g.scaled_width, g.scaled_height) == (398, 224)
    assert g.crops == ((0, 0), (174, 0), (87, 0))
    g = compute_geometry(1080, 1920, SQUARE, UPRIGHT, Sampling.create(32, 15.0, view="three"))
    assert g.crops == ((0, 0), (0, 174), (0, 87))


def test_a_rotated_picture_has_the_geometry_of_the_upright_one() -> None:
    quarter = Orientation(transpose=True, mirror_x=True)
    for view in VIEWS:
        sampling = Sampling.create(32, 15.0, view=view)
        stored = compute_geometry(1920, 1080, SQUARE, quarter, sampling)
        upright = compute_geometry(1080, 1920, SQUARE, UPRIGHT, sampling)
        assert stored.crops == upright.crops
        assert (stored.scaled_height, stored.scaled_width) == (upright.scaled_width, upright.scaled_height)
        assert (stored.height, stored.width) == (upright.width, upright.height)


def test_pixels_that_are_not_square_become_square() -> None:
    assert upright_size(720, 576, Fraction(16, 15), UPRIGHT) == (768, 576)
    assert upright_size(720, 480, Fraction(8, 9), UPRIGHT) == (720, 540)
    g = compute_geometry(720, 576, Fraction(16, 15), UPRIGHT, Sampling.create(32, 15.0))
    assert (g.width, g.height) == (472, 504)  # a square on the screen: 472.5 pixels of 16:15


@pytest.mark.parametrize(
    ("matrix", "rotation"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), 0),
        ((0, 1, 0, -1, 0, 0, 0, 0, 1), 90),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), 180),
        ((0, -1, 0, 1, 0, 0, 0, 0, 1), 270),
        ((-1, 0, 0, 0, 1, 0, 0, 0, 1), 0),  # mirrored only
        ((0, 0, 0, 0, 0, 0, 0, 0, 0), 0),  # nonsense
    ],
)
def test_display_matrices_give_rotations(matrix: tuple[int, ...], rotation: int) -> None:
    assert Orientation.from_display_matrix(tuple(65536 * v for v in matrix)).rotation == rotation


@pytest.mark.parametrize("skew", [0, 600, -600])
@pytest.mark.parametrize(
    ("a", "b", "c", "d"),
    [(x, 0, 0, y) for x in (1, -1) for y in (1, -1)] + [(0, x, y, 0) for x in (1, -1) for y in (1, -1)],
)
def test_a_display_matrix_shows_each_pixel_at_its_place(a: int, b: int, c: int, d: int, skew: int) -> None:
    """Of all turns and mirrors, also of a phone that was not quite level."""
    entries = [65536 * entry or skew for entry in (a, b, c, d)]
    turned = Orientation.from_display_matrix((*entries[:2], 0, *entries[2:], 0, 0, 0, 1 << 30))
    stored = np.arange(6).reshape(2, 3)
    picture = stored.T if turned.transpose else stored
    picture = picture[:: -1 if turned.mirror_y else 1, :: -1 if turned.mirror_x else 1]
    places = {(a * p + c * q, b * p + d * q): stored[q, p] for q in range(2) for p in range(3)}
    left, top = (min(place[axis] for place in places) for axis in (0, 1))
    shown = {(x + left, y + top): picture[y, x] for y in range(len(picture)) for x in range(len(picture[0]))}
    assert shown == places


@pytest.mark.parametrize(
    ("mirror_x", "mirror_y", "level", "quarter"),
    [(False, False, 0, 90), (True, False, 0, 90), (False, True, 0, 270), (True, True, 180, 90)],
)
def test_a_mirrored_picture_has_a_rotation(mirror_x: bool, mirror_y: bool, level: int, quarter: int) -> None:
    assert Orientation(False, mirror_x, mirror_y).rotation == level
    assert Orientation(True, mirror_x, mirror_y).rotation == quarter


def test_sizes_are_rounded_to_the_nearest() -> None:
    assert upright_size(5, 4, Fraction(4, 3), UPRIGHT) == (7, 4)
    assert upright_size(4, 5, Fraction(3, 4), UPRIGHT) == (4, 7)
    assert upright_size(1, 1, SQUARE, UPRIGHT) == upright_size(1, 1, Fraction(8, 9), UPRIGHT) == (1, 1)
    g = compute_geometry(320, 240, SQUARE, UPRIGHT, Sampling.create(32, 15.0, view="three"))
    assert (g.scaled_width, g.scaled_height) == (299, 224)  # 298.67
    assert g.crops == ((0, 0), (75, 0), (37, 0))


@pytest.mark.parametrize(
    ("size", "short_side", "rows_columns"),
    [
        ((1000, 500), 256, (256, 512)),
        ((500, 1000), 256, (512, 256)),
        ((5, 5), 112, (112, 112)),  # a square keeps its shape; 128 is as near
        ((1000, 500), 92, (92, 160)),  # 192 would be nearer to 184, and wider than 2:1
    ],
)
def test_the_long_side_of_full_is_not_beyond_two_to_one(
    size: tuple[int, int], short_side: int, rows_columns: tuple[int, int]
) -> None:
    sampling = Sampling.create(32, 15.0, view="full", short_side=short_side, crop=64)
    assert clip_size(size, sampling) == rows_columns


@pytest.mark.parametrize(
    ("width", "region"), [(3, (0, 3)), (7, (2, 3)), (8, (2, 4)), (1, (0, 1)), (2, (0, 2))]
)
def test_a_region_has_a_pixel_at_least(width: int, region: tuple[int, int]) -> None:
    """Of a picture so wide on the screen that its middle square is less than a stored pixel; even margins."""
    g = compute_geometry(width, 1, Fraction(600), UPRIGHT, Sampling.create(32, 15.0))
    assert (g.x, g.width) == region and type(g.x) is int


@pytest.mark.parametrize("row", TABLES["geometry_table"], ids=lambda r: f"{r['width']}x{r['height']}")
def test_the_published_sizes_and_crops_are_the_published_ones(row: dict) -> None:
    predict = published_resize(row["width"], row["height"], 256)
    assert list(predict) == row["predict_resized_wh"]
    assert list(published_center_crop(*predict, 224)) == row["center_crop_xy_do_round_true"]
    test = published_resize(row["width"], row["height"], 224)
    assert list(test) == row["test_resized_wh"]
    assert [list(xy) for xy in published_uniform_crops(*test, 224)] == row["uniform_crops_xy"]
