"""Pictures: letterbox, orientation, colour and the scaler's fidelity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from shortcast.errors import BundleError
from shortcast.runtime.contract import PictureContract
from shortcast.runtime.pictures import SCALER_FLAGS, PictureScaler, orientation_of, sane_pixel_aspect

CONTRACT = PictureContract()
WHITE = 255


def grey_frame(width: int, height: int, level: int = WHITE, pixel_format: str = "rgb24") -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), level, np.uint8), format="rgb24")
    return frame.reformat(format=pixel_format)


def lit_box(picture: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of what is not black, half-open."""
    rows, columns = picture.any(axis=(1, 2)).nonzero()[0], picture.any(axis=(0, 2)).nonzero()[0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def first_frame(path: Path) -> tuple[av.VideoFrame, Fraction | None]:
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        return next(container.decode(stream)), stream.sample_aspect_ratio


def psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


@pytest.mark.parametrize(
    ("size", "pixel_aspect", "box"),
    [
        ((96, 160), None, (0, 160, 0, 96)),
        ((1080, 1920), None, (0, 160, 3, 93)),  # 9:16 is narrower than 96:160
        ((1920, 1080), None, (53, 107, 0, 96)),
        ((100, 100), None, (32, 128, 0, 96)),
        ((100, 100), Fraction(2), (56, 104, 0, 96)),  # anamorphic: shown 200x100
        ((100, 100), Fraction(1, 2), (0, 160, 8, 88)),
        ((100, 100), Fraction(1000), (32, 128, 0, 96)),  # absurd: taken as square
        ((161, 121), None, (44, 116, 0, 96)),
    ],
)
def test_letterbox_keeps_the_display_aspect_ratio_and_centres(
    size: tuple[int, int], pixel_aspect: Fraction | None, box: tuple[int, int, int, int]
) -> None:
    picture = PictureScaler(CONTRACT, pixel_aspect=pixel_aspect).scale(grey_frame(*size))
    assert picture.shape == (160, 96, 3)
    assert picture.dtype == np.uint8
    assert lit_box(picture) == box


@pytest.mark.parametrize("size", [(1, 1), (2, 4000), (4000, 2), (7, 5)])
def test_extreme_sizes_still_give_a_picture(size: tuple[int, int]) -> None:
    picture = PictureScaler(CONTRACT).scale(grey_frame(*size))
    assert picture.shape == (160, 96, 3)
    assert picture.max() == WHITE


@pytest.mark.parametrize(
    "pixel_format",
    [
        "yuv420p",
        "yuvj420p",
        "yuv422p",
        "yuv444p",
        "yuv420p10le",
        "yuv444p12le",
        "yuva420p",
        "nv12",
        "p010le",
        "gray",
        "bgra",
        "rgb48le",
        "gbrp",
    ],
)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_grey_keeps_its_level_in_every_pixel_format(pixel_format: str, level: int) -> None:
    picture = PictureScaler(CONTRACT).scale(grey_frame(192, 320, level, pixel_format))
    np.testing.assert_allclose(picture.astype(int), level, atol=2)


def test_size_and_format_may_change_from_picture_to_picture() -> None:
    scaler = PictureScaler(CONTRACT)
    for width, height, pixel_format in [(192, 320, "yuv420p"), (320, 192, "yuv420p"), (192, 320, "yuv420p10le"), (192, 320, "yuv420p")]:
        again = PictureScaler(CONTRACT).scale(grey_frame(width, height, 200, pixel_format))
        np.testing.assert_array_equal(scaler.scale(grey_frame(width, height, 200, pixel_format)), again)


@pytest.mark.parametrize("change", [{"fit": "crop"}, {"scaler": "bilinear"}, {"colour": "bgr24"}])
def test_a_contract_that_is_not_implemented_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(BundleError, match="letterbox"):
        PictureScaler(replace(CONTRACT, **change))


@pytest.mark.parametrize(
    ("aspect", "expected"), [(None, 1), (Fraction(0), 1), (Fraction(4, 3), Fraction(4, 3)), (Fraction(9), 1), (Fraction(1, 9), 1)]
)
def test_pixel_aspect_outside_reason_counts_as_square(aspect: Fraction | None, expected: Fraction) -> None:
    assert sane_pixel_aspect(aspect) == expected


# A red patch in the top left corner of an otherwise grey coded picture, and the corner in which a viewer sees it.
CORNERS = {
    (0, False): "top left",
    (90, False): "bottom left",
    (180, False): "bottom right",
    (270, False): "top right",
    (0, True): "top right",
}


@pytest.mark.parametrize("rotation", CORNERS)
def test_display_matrix_turns_and_mirrors(make_clip: Callable[..., Path], rotation: tuple[int, bool]) -> None:
    coded = np.full((64, 128, 3), 128, np.uint8)
    coded[:16, :32] = (255, 0, 0)
    path = make_clip("turned.mp4", pictures=[(i / 25, coded) for i in range(3)], size=(128, 64), rotation=rotation)
    frame, _ = first_frame(path)
    picture = PictureScaler(CONTRACT).scale(frame)
    top, bottom, left, right = lit_box(picture)
    assert (bottom - top > right - left) == (rotation[0] in (90, 270))
    seen = picture[top:bottom, left:right].astype(int)
    redness = seen[..., 0] - seen[..., 1]
    corner = {
        "top left": redness[:8, :8],
        "top right": redness[:8, -8:],
        "bottom left": redness[-8:, :8],
        "bottom right": redness[-8:, -8:],
    }
    assert max(corner, key=lambda name: corner[name].mean()) == CORNERS[rotation]
    assert corner[CORNERS[rotation]].mean() > 100
    assert orientation_of(frame).rotation == rotation[0]


def test_a_real_clip_with_a_quarter_turn_shows_its_twin_turned(data_clips: Path) -> None:
    upright, aspect = first_frame(data_clips / "derived" / "vertical_jfk.mp4")
    turned, _ = first_frame(data_clips / "derived" / "rotated90_jfk.mp4")
    wide = replace(CONTRACT, height=96, width=160)
    expected = np.rot90(PictureScaler(CONTRACT, pixel_aspect=aspect).scale(upright))
    np.testing.assert_array_equal(PictureScaler(wide, pixel_aspect=aspect).scale(turned), expected)


def area_average(size: int, target: int) -> NDArray[np.float64]:
    """float (target, size): each row averages the source interval that one target pixel covers."""
    edges = np.linspace(0, size, target + 1)
    starts, stops = np.maximum(edges[:-1, None], np.arange(size)), np.minimum(edges[1:, None], np.arange(1, size + 1))
    return np.clip(stops - starts, 0, None) * target / size


@pytest.mark.parametrize("clip", ["derived/vertical_jfk.mp4", "real/bigbuckbunny.mp4", "real/hdr10-av1.mp4", "odd/bt709_full_range.mp4"])
def test_scaling_is_an_area_average_of_the_full_picture(data_clips: Path, clip: str) -> None:
    frame, _ = first_frame(data_clips / clip)
    picture = PictureScaler(CONTRACT).scale(frame).astype(float)
    full = VideoReformatter().reformat(frame, format="rgb24", interpolation=SCALER_FLAGS, dst_color_range=ColorRange.JPEG)
    rgb = full.to_ndarray().astype(float)
    scale = min(96 / frame.width, 160 / frame.height)
    height, width = round(frame.height * scale), round(frame.width * scale)
    top, left = (160 - height) // 2, (96 - width) // 2
    rows, columns = area_average(frame.height, height), area_average(frame.width, width)
    expected = np.einsum("ab,bcd,ec->aed", rows, rgb, columns, optimize=True)
    assert psnr(picture[top : top + height, left : left + width], expected) >= 38
