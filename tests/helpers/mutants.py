"""Mutated copies of video files: bits that flipped, ends that lack, boxes that moved, sizes that are absurd."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

_ABSURD = (0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 24)
_HEAD_BYTES = 4096  # where most headers are


def mutate(data: bytes, seed: int) -> bytes:
    """A mutant of `data`; the same for the same seed."""
    rng = random.Random(seed)
    mutant = data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if len(mutant) < 64:
            break
        mutant = rng.choice(_MUTATIONS)(mutant, rng)
    return mutant


def _flip_bits(data: bytes, rng: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 8, 64, 512))):
        mutant[_position(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(mutant)


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _remove_middle(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data))
    return data[:first] + data[first + rng.choice((1, 4, 188, 4096)) :]


def _repeat_part(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data))
    part = data[first : first + rng.choice((4, 188, 4096))]
    return data[:first] + part * rng.choice((2, 10)) + data[first:]


def _write_absurd_size(data: bytes, rng: random.Random) -> bytes:
    mutant, first = bytearray(data), _position(data, rng) & ~3
    mutant[first : first + 4] = struct.pack(rng.choice((">I", "<I")), rng.choice(_ABSURD))
    return bytes(mutant)


def _swap_boxes(data: bytes, rng: random.Random) -> bytes:
    """Of MP4: the boxes at the top in another order, one of them twice or not at all."""
    boxes = list(_boxes(data))
    if len(boxes) < 2:
        return _zero_block(data, rng)
    rng.shuffle(boxes)
    if rng.random() < 0.5:
        boxes[rng.randrange(len(boxes))] = rng.choice(boxes)
    return b"".join(boxes)


def _zero_block(data: bytes, rng: random.Random) -> bytes:
    first = rng.randrange(len(data))
    return data[:first] + bytes(rng.choice((16, 512, 4096))) + data[first + 512 :]


def _boxes(data: bytes) -> list[bytes]:
    boxes, first = [], 0
    while first + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, first)
        if size < 8 or not data[first + 4 : first + 8].isalnum():
            break
        boxes.append(data[first : first + size])
        first += size
    return boxes


def _position(data: bytes, rng: random.Random) -> int:
    """A place in the file; every second one near its beginning or its end, where the headers are."""
    place = rng.randrange(4)
    if place == 0:
        return rng.randrange(min(len(data), _HEAD_BYTES))
    if place == 1:
        return len(data) - 1 - rng.randrange(min(len(data), _HEAD_BYTES))
    return rng.randrange(len(data))


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip_bits,
    _truncate,
    _remove_middle,
    _repeat_part,
    _write_absurd_size,
    _swap_boxes,
    _zero_block,
)
