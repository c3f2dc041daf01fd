"""Animated scenes for the README's pictures, free of copyright."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from helpers.footage import make_video

WIDE, HIGH, FPS = 640, 384, 12
_FINER = 2  # drawn larger and reduced, so that edges are smooth
Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]
Scene = Callable[["Brush", float], None]  # draws the frame at a time in seconds

_DAY, _DUSK, _COLD, _ROOM = (
    ((94, 160, 214), (214, 235, 244)),
    ((61, 64, 120), (250, 168, 110)),
    ((120, 170, 220), (236, 244, 250)),
    ((92, 74, 96), (168, 128, 116)),
)


class Brush:
    """Draws one frame. Coordinates are pixels of the video."""

    def __init__(self, sky: tuple[Colour, Colour]) -> None:
        rows = np.linspace(0, 1, HIGH * _FINER)[:, None, None]
        top, bottom = (np.array(colour, float)[None, None] for colour in sky)
        pixels = np.broadcast_to(top + (bottom - top) * rows, (HIGH * _FINER, WIDE * _FINER, 3))
        self._image = Image.fromarray(pixels.astype(np.uint8))
        self._draw = ImageDraw.Draw(self._image)

    def polygon(self, points: Points, colour: Colour) -> None:
        self._draw.polygon([(x * _FINER, y * _FINER) for x, y in points], fill=colour)

    def line(self, points: Points, colour: Colour, width: float = 3) -> None:
        self._draw.line([(x * _FINER, y * _FINER) for x, y in points], colour, round(width * _FINER), "curve")

    def disc(self, x: float, y: float, r: float, colour: Colour) -> None:
        self._draw.ellipse([(v * _FINER) for v in (x - r, y - r, x + r, y + r)], fill=colour)

    def ring(self, x: float, y: float, r: float, colour: Colour, width: float = 4) -> None:
        box = [(v * _FINER) for v in (x - r, y - r, x + r, y + r)]
        self._draw.ellipse(box, outline=colour, width=round(width * _FINER))

    def hills(self, base: float, height: float, shift: float, colour: Colour) -> None:
        tops = [
            (x, base - height * (0.5 + 0.5 * math.sin((x + shift) / 97) * math.cos((x + shift) / 41 + 1)))
            for x in range(-8, WIDE + 9, 8)
        ]
        self.polygon([(-8, HIGH), *tops, (WIDE + 8, HIGH)], colour)

    def person(self, x: float, y: float, arms: Points, coat: Colour) -> None:
        """A person with feet at (x, y), and hands at `arms` relative to the shoulders."""
        for side in (-9, 9):
            self.line([(x, y - 42), (x + side, y)], (48, 48, 64), 7)
        self.line([(x, y - 78), (x, y - 42)], coat, 17)
        for dx, dy in arms:
            self.line([(x, y - 76), (x + dx, y - 76 + dy)], coat, 6)
        self.disc(x, y - 98, 12, (222, 178, 146))

    def frame(self) -> np.ndarray:
        return np.asarray(self._image.resize((WIDE, HIGH), Image.Resampling.BOX))


def draw_sailing(brush: Brush, t: float) -> None:
    brush.disc(470, 120, 34, (255, 222, 150))
    brush.hills(210, 44, 300, (84, 96, 128))
    for row in range(7):
        y, colour = 205 + 28 * row, (38 + 6 * row, 104 + 9 * row, 140 + 10 * row)
        wave = [(x, y + 5 * math.sin(x / 34 + t * (1.2 + row / 6) + row)) for x in range(-8, WIDE + 9, 8)]
        brush.polygon([(-8, HIGH), *wave, (WIDE + 8, HIGH)], colour)
        if row == 3:
            x, bob = 150 + 26 * t % 380, 5 * math.sin(1.7 * t)
            y = 286 + bob
            brush.polygon([(x - 62, y), (x + 66, y), (x + 44, y + 26), (x - 46, y + 26)], (122, 62, 48))
            brush.line([(x, y), (x, y - 142)], (90, 60, 44), 4)
            brush.polygon([(x + 5, y - 140), (x + 5, y - 10), (x + 72, y - 14)], (250, 246, 236))
            brush.polygon([(x - 5, y - 128), (x - 5, y - 10), (x - 54, y - 12)], (226, 88, 70))


def draw_kite(brush: Brush, t: float) -> None:
    brush.hills(300, 60, 40, (142, 186, 120))
    brush.hills(350, 50, 210, (96, 152, 84))
    x, y = 430 + 90 * math.sin(0.9 * t), 96 + 36 * math.sin(1.7 * t + 1)
    brush.line([(186, 252), (300, 190 + y / 9), (x, y)], (80, 80, 90), 1.5)
    brush.polygon([(x, y - 42), (x + 28, y), (x, y + 46), (x - 28, y)], (226, 74, 92))
    brush.polygon([(x, y - 42), (x + 28, y), (x, y)], (250, 196, 80))
    tail = [(x + 9 * math.sin(2.4 * t - k / 2) * k / 6, y + 46 + 9 * k) for k in range(9)]
    brush.line(tail, (250, 196, 80), 3)
    brush.person(160, 330, [(26, -2), (22, 10)], (52, 92, 160))


def draw_skiing(brush: Brush, t: float) -> None:
    brush.hills(230, 120, 80, (176, 196, 218))
    brush.polygon([(0, 190), (WIDE, 330), (WIDE, HIGH), (0, HIGH)], (246, 250, 254))
    for k in range(7):
        x = (k * 131 - 40 * t) % 760 - 60
        y = 196 + 0.219 * x + (26 if k % 2 else 4)
        for step in range(3):
            wide = 26 - 6 * step
            brush.polygon(
                [(x - wide, y - 18 * step), (x + wide, y - 18 * step), (x, y - 40 - 18 * step)], (44, 94, 80)
            )
    x, lean = 300 + 70 * math.sin(1.6 * t), 16 * math.cos(1.6 * t)
    y = 216 + 0.219 * x + 30
    brush.line([(x - 150, y - 36 + lean / 2), (x - 40, y - 8)], (208, 222, 236), 5)
    brush.line([(x - 44, y - 10), (x + 52, y + 10)], (40, 44, 60), 5)
    brush.line([(x - 6, y - 4), (x + 12 + lean / 3, y - 34)], (44, 48, 70), 11)
    brush.line([(x + 12 + lean / 3, y - 34), (x + 22 + lean, y - 70)], (214, 74, 62), 17)
    brush.line([(x + 20 + lean, y - 62), (x + 46 + lean, y - 44)], (214, 74, 62), 6)
    brush.line([(x + 46 + lean, y - 44), (x + 28 + lean, y - 2)], (60, 60, 70), 2.5)
    brush.disc(x + 26 + lean, y - 88, 12, (250, 196, 80))


def draw_juggling(brush: Brush, t: float) -> None:
    brush.polygon([(0, 318), (WIDE, 318), (WIDE, HIGH), (0, HIGH)], (96, 70, 66))
    for x in (60, 470):
        brush.polygon([(x, 60), (x + 110, 60), (x + 110, 190), (x, 190)], (120, 150, 176))
        brush.polygon([(x + 6, 66), (x + 104, 66), (x + 104, 184), (x + 6, 184)], (172, 204, 220))
    swing = 8 * math.sin(6 * t)
    brush.person(320, 350, [(-44, 26 + swing), (44, 26 - swing)], (70, 132, 112))
    for k, colour in enumerate([(236, 92, 84), (250, 196, 80), (108, 156, 232)]):
        phase = (t / 1.2 + k / 3) % 1
        side = 1 if int(t / 1.2 + k / 3) % 2 else -1
        brush.disc(320 + side * 52 * (1 - 2 * phase), 292 - 620 * phase * (1 - phase), 13, colour)


def draw_bike(brush: Brush, t: float) -> None:
    brush.hills(250, 90, 30 * t, (150, 182, 170))
    brush.hills(300, 60, 90 * t + 200, (108, 152, 112))
    brush.polygon([(0, 306), (WIDE, 306), (WIDE, HIGH), (0, HIGH)], (98, 98, 108))
    for k in range(8):
        x = (k * 100 - 220 * t) % 800 - 80
        brush.polygon([(x, 344), (x + 46, 344), (x + 42, 350), (x - 4, 350)], (236, 232, 214))
    x, y, turn = 320 + 16 * math.sin(t), 304, 5 * t
    for cx in (x - 52, x + 52):
        brush.ring(cx, y, 34, (40, 42, 52), 5)
        for k in range(4):
            dx, dy = 31 * math.cos(turn + k * math.pi / 4), 31 * math.sin(turn + k * math.pi / 4)
            brush.line([(cx - dx, y - dy), (cx + dx, y + dy)], (150, 152, 160), 1)
    frame = [(x - 52, y), (x - 22, y - 52), (x + 38, y - 54), (x + 2, y), (x - 52, y)]
    brush.line(frame, (214, 74, 62), 6)
    brush.line([(x + 52, y), (x + 36, y - 68)], (214, 74, 62), 6)
    for side in (0, math.pi):
        foot = (x + 2 + 15 * math.cos(turn + side), y + 15 * math.sin(turn + side))
        brush.line([(x - 22, y - 66), (x + 18, y - 44), foot], (48, 52, 84), 9)
    brush.line([(x - 22, y - 68), (x + 6, y - 112)], (60, 118, 176), 18)
    brush.line([(x + 4, y - 106), (x + 36, y - 72)], (60, 118, 176), 7)
    brush.disc(x + 12, y - 132, 13, (222, 178, 146))
    brush.line([(x - 1, y - 138), (x + 12, y - 145), (x + 24, y - 138)], (250, 196, 80), 6)


SCENES: dict[str, tuple[Scene, tuple[Colour, Colour]]] = {
    "sailing": (draw_sailing, _DUSK),
    "flying kite": (draw_kite, _DAY),
    "skiing": (draw_skiing, _COLD),
    "juggling balls": (draw_juggling, _ROOM),
    "riding a bike": (draw_bike, _DAY),
}


def make_film(path: Path, parts: Sequence[tuple[str, float]], *, recorded: str) -> Path:
    """A video of scenes one after the other (name, seconds), recorded at an ISO time."""
    times = [
        (name, k / FPS + 2 * number) for number, (name, s) in enumerate(parts) for k in range(round(s * FPS))
    ]

    def draw(i: int) -> np.ndarray:
        name, t = times[i]
        scene, sky = SCENES[name]
        brush = Brush(sky)
        scene(brush, t)
        return brush.frame()

    seconds = len(times) / FPS
    return make_video(
        path,
        seconds=seconds,
        fps=FPS,
        width=WIDE,
        height=HIGH,
        draw=draw,
        metadata={"creation_time": recorded},
    )
