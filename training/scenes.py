"""Pictures for made clips: painted backdrops under a moving camera, sprites that cross them, and cuts between scenes.

A scene is painted once, on a canvas larger than the picture; a frame is a zoomed window into it with the sprites drawn over. The
`Look` governs what can be seen: how fast camera and sprites move, how bright and how warm the picture is, and how often it cuts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Picture = NDArray[np.uint8]

LONGEST_SCENE_S, SHORTEST_SCENE_S = 9.0, 1.0
DARKEST, BRIGHTEST = 0.10, 0.72
"""Mean luma of a scene, of 1."""
PAN_PER_S, SPRITE_PER_S = 0.55, 1.1
"""Fastest travel, in picture widths a second."""

_MARGIN = 1.6
"""Canvas size over picture size: room for the camera."""
_COOL, _WARM = np.array([0.55, 0.92, 1.65], np.float32), np.array([1.42, 0.93, 0.40], np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Look:
    """What the pictures of one clip look like; every field in [0, 1]."""

    motion: float
    brightness: float
    warmth: float
    """From blue to orange, through grey."""
    cuts: float
    """From a cut every 9 s to one every second, on a logarithmic scale."""


@dataclass(frozen=True, slots=True)
class _Sprite:
    colour: NDArray[np.float32]
    """float32 (S, S, 3), 0 to 255."""
    alpha: NDArray[np.float32]
    """float32 (S, S, 1), 0 to 1."""
    start: NDArray[np.float64]
    speed: NDArray[np.float64]
    """Both (2,): down and right, in pixels and pixels a second."""


@dataclass(frozen=True, slots=True)
class _Scene:
    canvas: Picture
    sprites: tuple[_Sprite, ...]
    start: NDArray[np.float64]
    speed: NDArray[np.float64]
    """Both (2,): the camera, down and right, in pixels and pixels a second."""
    zoom_start: float
    zoom_per_s: float


def film(look: Look, *, height: int, width: int, fps: Fraction, frames: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Films scenes one after the other.

    Args:
        look: what they look like.
        height: picture height in pixels.
        width: picture width in pixels.
        fps: frames per second.
        frames: how many to give.
        rng: paints and moves.

    Yields:
        uint8 (H, W, 3) RGB, `frames` of them.
    """
    left = frames
    while left > 0:
        scene_s = LONGEST_SCENE_S * (SHORTEST_SCENE_S / LONGEST_SCENE_S) ** look.cuts * rng.uniform(0.75, 1.25)
        scene = _paint(look, height, width, rng)
        shown = min(left, max(1, round(scene_s * fps)))
        for index in range(shown):
            yield _frame(scene, float(index / fps), height, width)
        left -= shown


def still(look: Look, *, height: int, width: int, frames: int, rng: np.random.Generator) -> Iterator[Picture]:
    """One picture of one scene, held: uint8 (H, W, 3) RGB, `frames` times."""
    picture = _frame(_paint(look, height, width, rng), 0.0, height, width)
    for _ in range(frames):
        yield picture


def black(*, height: int, width: int, frames: int) -> Iterator[Picture]:
    """Nothing to see: uint8 (H, W, 3), `frames` times."""
    picture = np.zeros((height, width, 3), np.uint8)
    for _ in range(frames):
        yield picture


def _paint(look: Look, height: int, width: int, rng: np.random.Generator) -> _Scene:
    rows, columns = round(height * _MARGIN), round(width * _MARGIN)
    light = (_hills, _city, _bokeh)[rng.integers(3)](rows, columns, rng)
    warmth = float(np.clip(look.warmth + rng.normal(0, 0.04), 0, 1))
    mean = float(np.clip(DARKEST + (BRIGHTEST - DARKEST) * look.brightness + rng.normal(0, 0.02), 0.06, 0.8))
    gamma = _gamma_for(light, mean)
    canvas = _grade(light**gamma, warmth, rng)
    size = min(height, width)
    sprites = tuple(_sprite(look, size, (height, width), mean, warmth, rng) for _ in range(rng.integers(2, 5)))
    pan = look.motion * PAN_PER_S * rng.uniform(0.8, 1.2) * width
    return _Scene(
        canvas=np.round(255 * canvas).astype(np.uint8),
        sprites=sprites,
        start=rng.uniform(0, 2, 2) * (rows - height, columns - width),
        speed=pan * _direction(rng),
        zoom_start=rng.uniform(1.0, 1.2),
        zoom_per_s=0.15 * look.motion * rng.choice((-1, 1)),
    )


def _frame(scene: _Scene, t: float, height: int, width: int) -> Picture:
    """The scene t seconds after its cut: uint8 (H, W, 3)."""
    rows, columns, _ = scene.canvas.shape
    corner = _bounce(scene.start + scene.speed * t, np.array([rows - height, columns - width]))
    zoom = 1.0 + float(_bounce(np.array([scene.zoom_start - 1.0 + scene.zoom_per_s * t]), np.array([0.4]))[0])
    down = (corner[0] + height / 2 + (np.arange(height) - height / 2) / zoom).astype(np.intp)
    right = (corner[1] + width / 2 + (np.arange(width) - width / 2) / zoom).astype(np.intp)
    picture: Picture = scene.canvas.take(down, axis=0).take(right, axis=1)
    for sprite in scene.sprites:
        _draw(picture, sprite, t)
    return picture


def _draw(picture: Picture, sprite: _Sprite, t: float) -> None:
    size = sprite.alpha.shape[0]
    room = np.array(picture.shape[:2]) - size
    top, left = _bounce(sprite.start + sprite.speed * t, room).astype(int)
    under = picture[top : top + size, left : left + size]
    under[:] = under + (sprite.colour - under) * sprite.alpha


def _bounce(position: NDArray[np.float64], limit: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Folds a straight path into [0, limit], turning round at the ends."""
    return np.asarray(limit - np.abs(position % (2 * limit) - limit))


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(angle), np.cos(angle)])


def _grade(light: Plane, warmth: float, rng: np.random.Generator) -> Plane:
    """Luma (H, W) in [0, 1] -> colour (H, W, 3) in [0, 1] of about the same luma."""
    tint = _tint(warmth)
    shadow = tint * (1 + rng.normal(0, 0.05, 3)).astype(np.float32)
    spread = light[..., None] * (tint + (shadow - tint) * (1 - light[..., None]))
    return np.clip(spread, 0, 1)


def _tint(warmth: float) -> NDArray[np.float32]:
    """Gain of red, green and blue, (3,), of luma 1."""
    tint = (_COOL + (_WARM - _COOL) * np.float32(warmth)).astype(np.float32)
    return np.asarray(tint / (tint @ _LUMA))


def _gamma_for(light: Plane, mean: float) -> float:
    """The exponent that brings the mean of `light` to `mean`."""
    sample, gamma = light[::4, ::4], 1.0
    for _ in range(4):
        gamma *= float(np.log(mean) / np.log(np.mean(sample**gamma)))
    return gamma


def _noise(rows: int, columns: int, cells: int, rng: np.random.Generator) -> Plane:
    """Smooth noise (rows, columns) in [0, 1], `cells` bumps across, with three finer octaves."""
    out = np.zeros((rows, columns), np.float32)
    for octave in range(4):
        across = cells * 2**octave
        down = max(2, round(across * rows / columns))
        out += _stretch(rng.random((down + 1, across + 1), np.float32), rows, columns) * np.float32(0.5**octave)
    return np.asarray(out / np.float32(1.875))


def _stretch(grid: Plane, rows: int, columns: int) -> Plane:
    """Bilinear upsampling to (rows, columns)."""
    for axis, length in ((0, rows), (1, columns)):
        where = np.linspace(0, grid.shape[axis] - 1.001, length, dtype=np.float32)
        low = where.astype(np.intp)
        part = (where - low).reshape((-1, 1) if axis == 0 else (1, -1))
        grid = grid.take(low, axis=axis) * (1 - part) + grid.take(low + 1, axis=axis) * part
    return grid


def _ridge(columns: int, cells: int, rng: np.random.Generator) -> Plane:
    return np.asarray(_noise(2, columns, cells, rng)[0])


def _hills(rows: int, columns: int, rng: np.random.Generator) -> Plane:
    """Clouds over three ranges of hills, the near ones darker."""
    height = np.arange(rows, dtype=np.float32)[:, None] / rows
    light = 0.95 - 0.35 * height + 0.25 * (_noise(rows, columns, 4, rng) - 0.5)
    for depth in range(3):
        top = 0.35 + 0.2 * depth + 0.3 * (_ridge(columns, 3 + depth, rng) - 0.5)
        ground = 0.62 - 0.17 * depth + 0.3 * (_noise(rows, columns, 14, rng) - 0.5)
        light = np.where(height > top, ground, light)
    return np.clip(light, 0.03, 1).astype(np.float32)


def _city(rows: int, columns: int, rng: np.random.Generator) -> Plane:
    """Houses with lit windows against the sky."""
    height = np.arange(rows, dtype=np.float32)[:, None] / rows
    light = 0.9 - 0.3 * height + 0.15 * (_noise(rows, columns, 3, rng) - 0.5)
    window = max(3, columns // 48)
    left = 0
    while left < columns:
        wide = int(rng.integers(4, 9)) * 2 * window
        top = int(rng.uniform(0.15, 0.7) * rows)
        house = light[top:, left : left + wide]
        house[:] = rng.uniform(0.2, 0.5)
        lit = rng.uniform(0.1, 1.0, (house.shape[0] // (2 * window) + 1, house.shape[1] // (2 * window) + 1))
        panes = np.kron(lit, np.pad(np.ones((window, window)), ((window, 0), (window, 0))))[: house.shape[0], : house.shape[1]]
        np.copyto(house, panes.astype(np.float32), where=panes > 0)
        left += wide
    return np.clip(light, 0.03, 1).astype(np.float32)


def _bokeh(rows: int, columns: int, rng: np.random.Generator) -> Plane:
    """Lights out of focus before a soft background."""
    light: Plane = 0.15 + 0.35 * _noise(rows, columns, 5, rng)
    for _ in range(40):
        radius = int(rng.uniform(0.02, 0.09) * columns) + 2
        top, left = int(rng.integers(0, rows - 2 * radius)), int(rng.integers(0, columns - 2 * radius))
        spot = light[top : top + 2 * radius, left : left + 2 * radius]
        spot += np.float32(rng.uniform(0.1, 0.5)) * _disc(2 * radius)
    return np.clip(light, 0.03, 1).astype(np.float32)


def _disc(size: int) -> Plane:
    """A filled circle (size, size) with a soft edge, 0 to 1."""
    across = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    return np.clip((1 - np.hypot(across[:, None], across[None])) * size / 4, 0, 1).astype(np.float32)


def _sprite(look: Look, size: int, picture: tuple[int, int], mean: float, warmth: float, rng: np.random.Generator) -> _Sprite:
    """A ball lit from the upper left, or a card with rounded corners."""
    side = int(size * rng.uniform(0.16, 0.34))
    across = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    if rng.random() < 0.6:
        alpha = _disc(side)
        shade = 1.15 - 0.6 * np.hypot(across[:, None] + 0.4, across[None] + 0.4)
    else:
        alpha = np.clip((1 - (across[:, None] ** 8 + across[None] ** 8)) * side / 8, 0, 1)
        shade = 0.9 + 0.15 * across[:, None] * across[None]
    hue = np.clip(rng.uniform(0.35, 1.0, 3), 0, 1).astype(np.float32)
    level = np.clip(mean * rng.choice((0.55, 1.7)), 0.04, 0.95)
    colour = np.clip(shade[..., None] * hue / (hue @ _LUMA) * _tint(warmth) * np.float32(level), 0, 1)
    room = np.array(picture) - side
    speed = look.motion * SPRITE_PER_S * rng.uniform(0.6, 1.4) * picture[1]
    return _Sprite(255 * colour, np.asarray(alpha[..., None], np.float32), rng.uniform(0, 2, 2) * room, speed * _direction(rng))
