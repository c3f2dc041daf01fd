"""Converts high dynamic range pictures (PQ and HLG, BT.2020 colours) to 8-bit sRGB.

The FFmpeg in PyAV's wheels has no zscale filter. So this module does it on the scaled picture, with tables.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

PQ = 16  # AVCOL_TRC_SMPTE2084
HLG = 18  # AVCOL_TRC_ARIB_STD_B67

_WHITE_NITS = 203.0  # diffuse white in HDR (ITU-R BT.2408); just below white in the result
_PEAK_NITS = 1000.0  # most footage is graded for this; brighter pixels are white
_KNEE = 0.75  # linear light up to this does not change, above it is compressed
_BT2020_TO_BT709 = np.array(  # ITU-R BT.2087, linear light
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    dtype=np.float32,
)
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)


def is_hdr(transfer: int) -> bool:
    """Whether a frame's transfer characteristic (AVColorTransferCharacteristic) needs mapping."""
    return transfer in (PQ, HLG)


def to_sdr(picture: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """`picture` uint16 [H, W, 3], full-range R'G'B' of `transfer`, as uint8 [H, W, 3] sRGB."""
    light = np.take(_to_light(transfer), picture)
    if (
        transfer == HLG
    ):  # the display's part of the curve depends on luminance (BT.2100: gamma 1.2 at 1000 nits)
        light *= np.maximum(light @ _BT2020_LUMA, 1e-6)[..., None] ** np.float32(0.2)
        light *= np.float32(_PEAK_NITS / _WHITE_NITS)
    light = np.maximum(light @ _BT2020_TO_BT709.T, 0)
    brightest = light.max(axis=-1, keepdims=True)
    light *= _compress(brightest) / np.maximum(
        brightest, 1e-6
    )  # the same factor for all channels keeps the hue
    steps = (light.clip(0, 1) * np.float32(4095) + np.float32(0.5)).astype(np.uint16)
    picture_8bit: NDArray[np.uint8] = np.take(_to_srgb(), steps)
    return picture_8bit


@cache
def _to_light(transfer: int) -> NDArray[np.float32]:
    """Linear light of every 16-bit code: PQ in units of diffuse white, HLG as scene light 0..1."""
    code = np.arange(65536, dtype=np.float64) / 65535
    if transfer == PQ:  # SMPTE ST 2084
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = code ** (1 / m2)
        nits = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
        return (nits / _WHITE_NITS).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ARIB STD-B67
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)


@cache
def _to_srgb() -> NDArray[np.uint8]:
    light = np.arange(4096, dtype=np.float64) / 4095
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(code * 255).astype(np.uint8)
    return table


def _compress(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """`light` unchanged up to the knee, then compressed so that the peak reaches 1 (Reinhard)."""
    headroom = 1 - _KNEE
    peak = (_PEAK_NITS / _WHITE_NITS - _KNEE) / headroom
    excess = np.maximum(light - _KNEE, 0) / headroom
    compressed = excess * (1 + excess / peak**2) / (1 + excess)
    return np.where(light <= _KNEE, light, _KNEE + headroom * compressed).astype(np.float32)
