"""Stages `pack` and `unpack`: what stage 1 learns from as one small file, for a machine that has little else.

A lent machine with a card takes 64 MiB and has neither the videos nor PyAV. There, `unpack views imitate` needs the
file, the teacher of pictures and a starter to begin from; `head` and `release` then go on with its `imitate.pt` where
the whole footage is. Pictures are smaller than the student sees them and clips have two frames. Needs Pillow.
"""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image

from vtag.engine.system.atomic_write import atomic_path
from vtag.trainer.recipes.starter.data import Item, Pixels
from vtag.trainer.recipes.starter.material import JOINTS_FILE, KINDS, known_joints, open_footage
from vtag.trainer.recipes.starter.states import Plan
from vtag.trainer.recipes.starter.store import write_store

log = logging.getLogger(__name__)

SHORT_SIDE = 96  # pixels
QUALITY = 20  # of WebP
FRAMES = 2  # of a clip: how it changes is asked too
PACK, AXES_FILE = "stage1.zip", "views/axes.pt"


def pack(plan: Plan) -> None:
    """Write PACK into the work folder, from what stage `views` left there."""
    stores = open_footage(plan.work, seed=plan.seed).stores
    known_joints(stores["people"], plan.shared, plan.work)
    path = plan.work / PACK
    with atomic_path(path) as part, ZipFile(part, "w") as file:
        for kind, store in stores.items():
            table = []
            for i, (item, pixels) in enumerate(zip(store.items, store, strict=True)):
                frames = some_frames(pixels)
                file.writestr(f"{kind}/{i}.webp", squeeze(frames))
                table.append([str(item.path), item.label, item.source, len(frames)])
            file.writestr(f"{kind}.json", json.dumps(table))
        for name in (JOINTS_FILE, AXES_FILE):
            file.write(plan.work / name, name)
    log.info("pack: %.1f MB in %s", path.stat().st_size / 1e6, path)


def unpack(plan: Plan) -> None:
    """Put what PACK in the work folder holds where the other stages look for it."""
    (plan.work / "views").mkdir(exist_ok=True)
    with ZipFile(plan.work / PACK) as file:
        for name in (JOINTS_FILE, AXES_FILE):
            (plan.work / name).write_bytes(file.read(name))
        for kind in KINDS:
            table = json.loads(file.read(f"{kind}.json"))
            items = [Item(Path(place), label, source) for place, label, source, _ in table]
            frames = (unsqueeze(file.read(f"{kind}/{i}.webp"), row[-1]) for i, row in enumerate(table))
            write_store(plan.work / f"{kind}.pixels", items, frames)


def some_frames(pixels: Pixels) -> Pixels:
    """A picture, or FRAMES of a clip's, from inside it."""
    if len(pixels) == 1:
        return pixels
    return np.asarray(pixels[np.linspace(0, len(pixels) - 1, FRAMES + 2).round().astype(int)[1:-1]])


def squeeze(frames: Pixels) -> bytes:
    """The frames [T, H, W, 3], one below the other, as one small picture."""
    height, width = frames.shape[1:3]
    scale = SHORT_SIDE / min(height, width)
    size = round(width * scale), round(height * scale)
    small = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in frames]
    out = io.BytesIO()
    Image.fromarray(np.concatenate(small)).save(out, "webp", quality=QUALITY)
    return out.getvalue()


def unsqueeze(data: bytes, count: int) -> Pixels:
    """The `count` frames of a picture that `squeeze` made."""
    picture: Pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return picture.reshape(count, -1, *picture.shape[1:])
