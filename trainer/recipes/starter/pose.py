"""The teacher of motion: BlazePose, used while training only; where a person's joints are in frames.

Needs `ai-edge-litert` and the two networks of the npm package `@mediapipe/pose`, unpacked into a folder. What is done
around them (anchors, the part of the picture that a person fills) follows MediaPipe's graphs (Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from vtag.trainer.recipes.starter.data import Pixels

Floats = npt.NDArray[np.float32]

LANDMARKS, EXTRA = 33, 2  # of a body; then the hips' middle and a point on a circle around the body
DETECTOR_SIZE, LANDMARK_SIZE = 224, 256  # pixels
LEAST_DETECTION, LEAST_PRESENCE = 0.4, 0.4
ROOM = 1.25  # of the part around the circle
PEOPLE = 2  # whose places are kept
# What is kept of a frame: for each landmark x, y (pixels), visibility, presence (0 to 1); then the person's presence,
# and for each of PEOPLE a score, the hips' x, y and the body's size. Zeros: nobody.
FRAME_VALUES = 4 * LANDMARKS + 1 + 4 * PEOPLE


@dataclass(frozen=True)
class Region:
    """A square part of a picture, turned so that the person in it is upright."""

    x: float
    y: float
    side: float
    angle: float  # radians

    def corners(self) -> tuple[Floats, Floats]:
        """Origin [2] and the two sides [2, 2] in pixels of the picture."""
        turn = np.array([[np.cos(self.angle), -np.sin(self.angle)], [np.sin(self.angle), np.cos(self.angle)]])
        origin = np.array([self.x, self.y]) - turn @ np.full(2, self.side / 2)
        return origin.astype(np.float32), (turn * self.side).astype(np.float32)


def region_around(hips: Floats, edge: Floats) -> Region:
    """The part that a person fills whose hips' middle and circle are known."""
    across = edge - hips
    angle = np.arctan2(across[0], -across[1])  # 0 if the circle's point is above the hips
    return Region(float(hips[0]), float(hips[1]), float(2 * ROOM * np.hypot(*across)), float(angle))


class PoseTeacher:
    """BlazePose's detector and landmarks, one thread."""

    def __init__(self, folder: Path) -> None:
        interpreter = import_module("ai_edge_litert.interpreter").Interpreter
        packed = (folder / "pose_solution_packed_assets.data").read_bytes()  # the detector and nothing else
        self._detector = _PoseNetwork(interpreter(model_content=packed, num_threads=1))
        self._landmarks = _PoseNetwork(
            interpreter(model_path=str(folder / "pose_landmark_full.tflite"), num_threads=1)
        )
        self._anchors = detector_anchors()

    def people(self, picture: Pixels) -> list[tuple[float, Floats, Floats]]:
        """Score, hips' middle and circle point of the people in `picture` [H, W, 3], likeliest first."""
        height, width = picture.shape[:2]
        side = max(height, width)
        whole = Region(width / 2, height / 2, side, 0.0)
        boxes, scores = self._detector(warp(picture, whole, DETECTOR_SIZE) * 2 - 1)
        boxes, scores = boxes.reshape(-1, 12), _sigmoid(scores.reshape(-1))
        origin, _ = whole.corners()
        detections: list[tuple[float, Floats, Floats]] = []
        for i in np.argsort(-scores)[:20]:
            if scores[i] < LEAST_DETECTION or len(detections) == PEOPLE:
                break
            points = (boxes[i, 4:].reshape(4, 2) / DETECTOR_SIZE + self._anchors[i]) * side + origin
            hips, edge = points[0], points[1]
            size = np.hypot(*(edge - hips))
            if all(np.hypot(*(hips - other)) > 0.5 * max(size, 1.0) for _, other, _ in detections):
                detections.append((float(scores[i]), hips.astype(np.float32), edge.astype(np.float32)))
        return detections

    def body(self, picture: Pixels, region: Region) -> tuple[float, Floats]:
        """How surely a person is in `region`, and the landmarks [LANDMARKS + EXTRA, 4] in pixels of the picture."""
        answer, presence = self._landmarks(warp(picture, region, LANDMARK_SIZE))[:2]
        points = answer.reshape(-1, 5)[: LANDMARKS + EXTRA]
        origin, sides = region.corners()
        index = origin + (points[:, :2] / LANDMARK_SIZE) @ sides.T
        return float(presence.reshape(-1)[0]), np.concatenate([index, _sigmoid(points[:, 3:])], 1)

    def clip(self, frames: Pixels) -> Floats:
        """What is seen in frames [T, H, W, 3] of one video, one after the other: [T, FRAME_VALUES].

        The person is looked for where the frame before had one, then where the detector finds one, then in the whole.
        """
        out = np.zeros((len(frames), FRAME_VALUES), np.float32)
        region = None
        for t, frame in enumerate(frames):
            detections = self.people(frame)
            for k, (score, hips, edge) in enumerate(detections):
                start = 4 * LANDMARKS + 1 + 4 * k
                out[t, start : start + 4] = (score, *hips, np.hypot(*(edge - hips)))
            tried = [region] if region is not None else []
            tried += [region_around(hips, edge) for _, hips, edge in detections[:1]]
            tried.append(Region(frame.shape[1] / 2, frame.shape[0] / 2, max(frame.shape[:2]), 0.0))
            region = None
            for position in tried:
                presence, points = self.body(frame, position)
                if presence > LEAST_PRESENCE:
                    region = region_around(points[LANDMARKS, :2], points[LANDMARKS + 1, :2])
                    out[t, : 4 * LANDMARKS] = points[:LANDMARKS].reshape(-1)
                    out[t, 4 * LANDMARKS] = presence
                    break
        return out


class _PoseNetwork:
    """A TFLite network: pictures [S, S, 3] in, all its outputs out."""

    def __init__(self, interpreter: Any) -> None:
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def __call__(self, picture: Floats) -> list[Floats]:
        self._interpreter.set_tensor(self._input, picture[None].astype(np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index).copy() for index in self._outputs]


def detector_anchors() -> Floats:
    """Centres [2254, 2] of the detector's boxes, 0 to 1: 2 in each of 28 x 28 places, 2 in 14 x 14, 6 in 7 x 7."""
    rows = []
    for cells, count in ((28, 2), (14, 2), (7, 6)):
        middle = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
        rows.append(grid.repeat(count, 0))
    return np.concatenate(rows).astype(np.float32)


def warp(picture: Pixels, region: Region, size: int) -> Floats:
    """The part `region` of `picture` [H, W, 3], black beyond its edges: float32 [size, size, 3], 0 to 1."""
    origin, sides = region.corners()
    middle = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(middle, middle)
    index = origin + np.stack([x, y], -1) @ sides.T  # pixels of the picture
    grid = torch.from_numpy(2 * index / picture.shape[1::-1] - 1).float()
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    part = F.grid_sample(pixels[None], grid[None], mode="bilinear", align_corners=False)
    return np.asarray(part[0].permute(1, 2, 0).numpy(), np.float32)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x.clip(-50, 50))), np.float32)
