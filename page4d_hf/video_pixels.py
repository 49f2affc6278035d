"""The pixels of a decoded video frame as sRGB: colour matrix, high dynamic range, interlaced fields.

FFmpeg's scaler knows the colour matrix of a frame alone: what is not tagged it takes for BT.601, HDR it hands on as if
it were SDR, and the two fields of an interlaced frame, which are of two moments, it leaves woven into each other.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av

# Numbers of ITU-T H.273: transfer characteristics, and matrix coefficients that are not told.
PQ, HLG = 16, 18
UNSPECIFIED = 2
LARGEST_SD = (1024, 576)  # (width, height); untagged video beyond is BT.709, as players take it

REFERENCE_WHITE = 203.0  # cd/m^2, what SDR's white becomes (ITU-R BT.2408)
HLG_PEAK = 1000.0  # cd/m^2, of the display that HLG's system gamma is for
HLG_GAMMA = 1.2
KNEE = 0.8  # of SDR's white: what is darker stays as it is, what is brighter is compressed into the rest
LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
# Linear RGB of BT.2020 to that of BT.709 (ITU-R BT.2407).
FROM_2020 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def to_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """A decoded frame as sRGB, `(H, W, 3)` uint8, scaled to a size (width, height)."""
    frame = deinterlaced(frame)
    width, height = size or (frame.width, frame.height)
    hdr = is_hdr(frame)
    rgb: Any = frame.reformat(
        width=width,
        height=height,
        format="rgb48le" if hdr else "rgb24",
        src_colorspace=_matrix(frame),
        interpolation="BICUBIC",
    ).to_ndarray()
    pixels: npt.NDArray[np.uint8] = tone_mapped(rgb, int(frame.color_trc)) if hdr else rgb
    return pixels


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether a frame says that it is HLG or PQ (HDR10, Dolby Vision's base layer)."""
    return int(frame.color_trc) in (PQ, HLG)


def remarks(frame: av.VideoFrame) -> list[str]:
    """Sentences on the conversions that a video's frames go through; empty where there are none."""
    sentences = []
    if is_hdr(frame):
        kind = "HLG" if int(frame.color_trc) == HLG else "PQ"
        sentences.append(f"is HDR ({kind}); its frames are tone-mapped to sRGB")
    if frame.interlaced_frame:
        sentences.append("is interlaced; of each frame one field is kept, and the other's lines are interpolated")
    return sentences


def deinterlaced(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame whose lines are all of the moment of its first field; a progressive one as it is.

    Lines between are interpolated along edges in the one field (FFmpeg's estdif): no other frame is looked at, so that
    frames can be decoded in any order.
    """
    if not frame.interlaced_frame:
        return frame
    import av.filter

    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
        ),
        graph.add("estdif", "mode=frame"),
        graph.add("buffersink"),
    ).configure()
    graph.vpush(frame)
    graph.vpush(None)
    return graph.vpull()


def tone_mapped(rgb: npt.NDArray[np.uint16], transfer: int) -> npt.NDArray[np.uint8]:
    """HDR of BT.2020, full range of 16 bits, as sRGB: white is 203 cd/m^2, and what is brighter is compressed without a
    change of hue. `transfer` is `HLG` (ITU-R BT.2100, with the system gamma of 1,000 cd/m^2) or `PQ` (SMPTE ST 2084).
    """
    linear = _linear(transfer)[rgb]  # of HLG the scene's light, of PQ the display's
    if transfer == HLG:
        luminance = cv2.transform(linear, LUMINANCE_2020[None])[..., None]
        linear *= (HLG_PEAK / REFERENCE_WHITE) * np.power(luminance, HLG_GAMMA - 1, out=luminance)
    linear = np.maximum(cv2.transform(linear, FROM_2020), 0)
    brightest = np.maximum(linear.max(axis=-1, keepdims=True), 1e-6)
    compressed = KNEE + (1 - KNEE) * -np.expm1((KNEE - brightest) / (1 - KNEE))
    linear *= np.where(brightest > KNEE, compressed / brightest, 1)
    mapped: npt.NDArray[np.uint8] = _srgb()[np.rint(linear * 65535).astype(np.uint16)]
    return mapped


def _matrix(frame: av.VideoFrame) -> str | None:
    """The colour matrix to decode with; None: as the frame says, or BT.601."""
    large = frame.width > LARGEST_SD[0] or frame.height > LARGEST_SD[1]
    return "ITU709" if int(frame.colorspace) == UNSPECIFIED and large else None


@lru_cache
def _linear(transfer: int) -> npt.NDArray[np.float32]:
    """Light of each of 65,536 code values: HLG's in units of its peak, PQ's in units of SDR's white."""
    signal = np.linspace(0, 1, 65536)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    nits = 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return np.asarray(nits / REFERENCE_WHITE, np.float32)


@lru_cache
def _srgb() -> npt.NDArray[np.uint8]:
    """The 8-bit code value of each of 65,536 steps of light (IEC 61966-2-1)."""
    light = np.linspace(0, 1, 65536)
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    codes: npt.NDArray[np.uint8] = np.rint(255 * signal).astype(np.uint8)
    return codes
