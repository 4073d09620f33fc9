"""One decoded picture -> the model's uint8 input: turned upright, scaled by swscale straight to its final size, letterboxed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from ..errors import BundleError, MediaError
from .contract import PictureContract

SCALER = "area+accurate_rnd+full_chroma"
SCALER_FLAGS = 0x20 | 0x40000 | 0x2000
"""SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT of libswscale/swscale.h: PyAV names them from 18 on and takes the numbers before."""

SANE_PIXEL_ASPECT = (Fraction(1, 8), Fraction(8))
"""A sample aspect ratio outside this range is a damaged header, and pixels are taken as square."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a display matrix turns a coded picture upright: transposed first, then mirrored."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise, one of 0, 90, 180, 270; a mirror image keeps the rotation it has without its mirror in x."""
        if self.transpose:
            return 90 if self.mirror_y else 270
        return 180 if self.mirror_y else 0

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels uint8 (h, w, 3) as coded -> a view of them upright."""
        upright = pixels.transpose(1, 0, 2) if self.transpose else pixels
        return upright[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Reads a frame's display matrix, snapped to the nearest quarter turn.

    `frame.rotation` alone is not enough: it reports a mirror image (a selfie camera's matrix) as half a turn.
    """
    # FFmpeg's display.h: x' = a x + c y, y' = b x + d y, stored as a b u c d v x y w in 16.16 fixed point.
    a, b, c, d = _matrix(frame)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
    return Orientation(mirror_x=a < 0, mirror_y=d < 0)


def _matrix(frame: av.VideoFrame) -> tuple[int, ...]:
    try:
        side_data = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    except ValueError:  # PyAV cannot list side data of a kind it has no name for, as spatial video has
        return _QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if side_data is None:
        return _QUARTER_TURNS[0]
    numbers = np.frombuffer(bytes(side_data), np.int32)
    return tuple(numbers[[0, 1, 3, 4]].tolist())


_QUARTER_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""a, b, c, d of 0, 90, 180 and 270 degrees counter-clockwise."""


def display_size(width: int, height: int, *, pixel_aspect: Fraction, orientation: Orientation) -> tuple[int, int]:
    """Width and height in square pixels of a coded picture, upright."""
    wide = max(1, round(width * pixel_aspect))
    return (height, wide) if orientation.transpose else (wide, height)


def sane_pixel_aspect(aspect: Fraction | None) -> Fraction:
    """A stream's sample aspect ratio, or 1 where it is unknown or absurd."""
    low, high = SANE_PIXEL_ASPECT
    return Fraction(aspect) if aspect and low <= aspect <= high else Fraction(1)


class PictureScaler:
    """Scales pictures of one stream to a contract's size. Not thread-safe; one per stream.

    The whole picture is fitted into (H, W) with its display aspect ratio kept and centred on black. Colour follows the frame's own
    matrix and range (unspecified means FFmpeg's default, BT.601 limited); alpha is ignored; HDR (PQ, HLG) is converted without tone
    mapping, so it looks flat.

    One `VideoReformatter` with one thread serves all pictures: `frame.reformat` builds a scaler and its threads for every frame
    (PyAV issue 2320).
    """

    def __init__(self, contract: PictureContract, *, pixel_aspect: Fraction | None = None) -> None:
        """Prepares to scale.

        Args:
            contract: size, fit, scaler and colour.
            pixel_aspect: the stream's sample aspect ratio; None means square pixels.

        Raises:
            BundleError: the contract asks for a fit, scaler or colour that is not implemented.
        """
        if (contract.fit, contract.scaler, contract.colour) != ("letterbox", SCALER, "rgb24"):
            raise BundleError(
                f"contract: pictures are made with fit 'letterbox', scaler {SCALER!r}, colour 'rgb24'; "
                f"got {contract.fit!r}, {contract.scaler!r}, {contract.colour!r}"
            )
        self._height, self._width = contract.height, contract.width
        self._pixel_aspect = sane_pixel_aspect(pixel_aspect)
        self._reformatter = VideoReformatter()
        # Read once per angle: a frame whose side data was looked at is part of a reference cycle, and at 3 MB each for 1080p the
        # garbage collector comes too late.
        self._orientations: dict[int, Orientation] = {}

    def scale(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """One decoded frame of any size and pixel format.

        Returns:
            uint8 (H, W, 3) RGB.

        Raises:
            MediaError: swscale cannot convert this pixel format.
        """
        orientation = self._orientations.get(frame.rotation)
        if orientation is None:
            orientation = self._orientations[frame.rotation] = orientation_of(frame)
        height, width = self._fitted(frame, orientation)
        top, left = (self._height - height) // 2, (self._width - width) // 2
        picture = np.zeros((self._height, self._width, 3), np.uint8)
        coded = (width, height) if orientation.transpose else (height, width)
        picture[top : top + height, left : left + width] = orientation.apply(self._converted(frame, *coded))
        return picture

    def _fitted(self, frame: av.VideoFrame, orientation: Orientation) -> tuple[int, int]:
        wide, high = display_size(frame.width, frame.height, pixel_aspect=self._pixel_aspect, orientation=orientation)
        scale = min(self._width / wide, self._height / high)
        return (min(self._height, max(1, round(high * scale))), min(self._width, max(1, round(wide * scale))))

    def _converted(self, frame: av.VideoFrame, height: int, width: int) -> NDArray[np.uint8]:
        try:
            small = self._reformatter.reformat(
                frame, width, height, "rgb24", interpolation=SCALER_FLAGS, dst_color_range=ColorRange.JPEG, threads=1
            )
            return np.asarray(small.to_ndarray(), np.uint8)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError(f"a picture of {frame.width}x{frame.height} {frame.format.name} cannot be converted: {error}") from error
