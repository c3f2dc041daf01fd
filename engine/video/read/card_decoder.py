"""Decoding on an NVIDIA card (NVDEC), which `VTAG_DECODER=cuda` or `cuda:1` asks for.

By default the processor decodes, until `tests/benchmarks/card.py` measured this on a card. Decoded frames stay on the
card. Only those that a window needs are copied to the processor, which scales them as it scales its own.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING

import av
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available

from vtag.engine.errors import VideoError
from vtag.engine.text import printable
from vtag.engine.video.read.container import error_text

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

DECODER_VARIABLE = "VTAG_DECODER"
_DECODER = av.Codec("h264", "r")  # every card that decodes at all decodes it
_OPEN_ERRORS = (av.error.FFmpegError, OSError, NotImplementedError)


def requested_card() -> str | None:
    """The number of the card that `VTAG_DECODER` asks for; None if the processor decodes. Raises VideoError."""
    value = os.environ.get(DECODER_VARIABLE) or "cpu"
    match = re.fullmatch(r"cuda(?::(\d{1,2}))?", value)
    if match is None and value != "cpu":
        raise VideoError(
            f"{DECODER_VARIABLE} is {printable(value)!r}: set it to cpu, cuda or cuda:N, or unset it"
        )
    return None if match is None else match[1] or "0"


def card_accelerator(card: str) -> HWAccel:
    """Settings of libav for decoding on `card`. A stream that the card cannot decode is decoded on the processor."""
    return HWAccel("cuda", card, is_hw_owned=True)


@cache
def keep_card_open(card: str) -> HWAccel | None:
    """Open `card` and keep it open, so that each video of this process opens it quickly; None if that fails."""
    try:
        return card_accelerator(card).create(_DECODER)
    except _OPEN_ERRORS:
        return None


def card_problem(card: str) -> str | None:
    """Why `card` cannot decode; None if it can.

    Opens it for a moment, apart from what else this process does on it: torch may hold the card in its own way.
    """
    if "cuda" not in hwdevices_available():
        return "this PyAV was built without CUDA"
    try:
        HWAccel("cuda", card).create(_DECODER)
    except _OPEN_ERRORS as error:
        return f"CUDA card {card} cannot be opened for it ({error_text(error)})"
    return None


def to_processor(frame: VideoFrame) -> VideoFrame:
    """`frame` in the processor's memory, in the card's own format; a frame that is there already as it is.

    Raises av.error.FFmpegError if it cannot be copied.
    """
    on_card = frame.sw_format
    return frame if on_card is None else frame.reformat(format=on_card.name)
