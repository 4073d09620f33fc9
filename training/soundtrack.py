"""Sound for made clips: a music-like bed with a tempo, an energy and a timbre, and spoken lines over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .speech import RATE_HZ, Speaker, Voice

VOICES = ("en-us", "en-us+m3", "en-us+f2", "en-gb-x-rp")

SLOWEST_BPM, FASTEST_BPM = 70.0, 170.0
QUIETEST_DBFS, LOUDEST_DBFS = -38.0, -14.0
SPEECH_DBFS = -18.0
ROOM_DBFS = -66.0
"""A room is never digitally silent; a track that is says that its sound is missing."""

SLOT_S = 2.2
"""One sentence starts in every slot; the longest sentence of the slowest voice ends within it."""
LEAD_S = 0.3
"""How far into its slot a sentence may start."""

HOOKS = (
    "Wait for it, wait for it!",
    "You won't believe this!",
    "Here is the secret trick!",
    "Stop scrolling right now!",
    "Nobody talks about this!",
    "Watch until the very end!",
    "This changes everything!",
    "Don't make this mistake!",
    "What happens next is crazy!",
    "You need to see this!",
    "I can't believe it worked!",
    "This is your sign to try!",
)
PLAIN = (
    "The bus stops near the park.",
    "We had soup for our lunch.",
    "The table is made of wood.",
    "My brother lives in a town.",
    "It rained a little on Monday.",
    "The shop opens at nine.",
    "She put the cup on a shelf.",
    "There are trees by the road.",
    "He reads the paper at home.",
    "The train leaves from here.",
    "Our garden has a small gate.",
    "They walked along the river.",
)

_ROOTS_HZ = (110.0, 123.5, 130.8, 146.8, 164.8)
_PROGRESSIONS = ((0, 5, 7, 0), (0, 9, 5, 7), (0, 7, 9, 5), (9, 5, 0, 7))
_CHORD = (0, 4, 7, 12)


@dataclass(frozen=True, slots=True)
class Band:
    """How the music plays; every field in [0, 1]."""

    tempo: float
    """From 70 to 170 beats per minute, on an even scale."""
    energy: float
    """From -38 to -14 dBFS, and from soft to hard drums."""
    timbre: float
    """From a pure to a buzzing tone; it sways nothing but the sound."""


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence to speak."""

    text: str
    start_s: float


def slots(duration_s: float) -> int:
    """How many sentences a clip of this length has room for, at least one."""
    return max(1, int((duration_s - LEAD_S) // SLOT_S))


def soundtrack(band: Band, lines: Sequence[Line], *, voice: Voice, duration_s: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Mixes music, spoken lines and a little room noise.

    Args:
        band: how the music plays.
        lines: what is said; none for music alone.
        voice: who says it.
        duration_s: length in seconds.
        rng: chooses key, chords and noise.

    Returns:
        float32 (S,) at `RATE_HZ`, mono, in (-1, 1).

    Raises:
        DataError: there are lines to speak and eSpeak NG is missing.
    """
    length = round(duration_s * RATE_HZ)
    mix = music(band, length=length, rng=rng) + _at_level(rng.standard_normal(length), ROOM_DBFS)
    if lines:
        speaker = Speaker()
        for line in lines:
            _add(mix, _at_level(speaker.say(line.text, voice), SPEECH_DBFS), round(line.start_s * RATE_HZ))
    return np.tanh(mix).astype(np.float32)


def music(band: Band, *, length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Chords, a bass note and drums on a steady beat.

    Args:
        band: how it plays.
        length: samples at `RATE_HZ`.
        rng: chooses key, chords and noise.

    Returns:
        float64 (length,) at the level the energy asks for.
    """
    beat = 60.0 / (SLOWEST_BPM + (FASTEST_BPM - SLOWEST_BPM) * band.tempo) * RATE_HZ
    root_hz, chords = rng.choice(_ROOTS_HZ), _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    kick, snare, hat = _drums(rng)
    notes = [[_note(root_hz * 2 ** ((chord + step) / 12), band.timbre) for step in _CHORD] for chord in chords]
    bass = [_note(root_hz * 2 ** (chord / 12) / 2, 0.3) for chord in chords]
    out = np.zeros(length)
    for half in range(int(2 * length / beat) + 1):
        at, step = round(half * beat / 2), half // 2
        chord = step // 4 % 4
        _add(out, 0.35 * notes[chord][half % 4], at)
        if half % 2:
            _add(out, (0.3 + 0.5 * band.energy) * hat, at)
        else:
            _add(out, 0.6 * bass[chord], at)
            _add(out, (0.5 + 1.0 * band.energy) * (snare if step % 2 else kick), at)
    return _at_level(out, QUIETEST_DBFS + (LOUDEST_DBFS - QUIETEST_DBFS) * band.energy)


def _note(pitch_hz: float, timbre: float) -> NDArray[np.float64]:
    """A plucked tone of half a second; harmonics fall off more slowly as the timbre rises."""
    t = np.arange(RATE_HZ // 2) / RATE_HZ
    harmonics = np.arange(1, 11)
    weights = harmonics ** -(3.0 - 2.2 * timbre)
    wave = np.sin(2 * np.pi * pitch_hz * harmonics[:, None] * t) * weights[:, None] / weights.sum()
    return np.asarray(wave.sum(axis=0) * np.exp(-5 * t) * np.minimum(1, t * 200))


def _drums(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    t = np.arange(round(0.18 * RATE_HZ)) / RATE_HZ
    kick = np.sin(2 * np.pi * (50 * t + 4 * (1 - np.exp(-30 * t)))) * np.exp(-18 * t)
    noise = rng.standard_normal(t.size)
    snare = 0.5 * noise * np.exp(-25 * t) + 0.4 * np.sin(2 * np.pi * 190 * t) * np.exp(-22 * t)
    hat = 0.5 * np.diff(noise, append=0.0) * np.exp(-70 * t)
    return kick, snare, hat


def _at_level(wave: NDArray[np.floating], dbfs: float) -> NDArray[np.float64]:
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) or 1.0
    return np.asarray(wave, dtype=np.float64) * (10 ** (dbfs / 20) / rms)


def _add(mix: NDArray[np.float64], part: NDArray[np.float64], at: int) -> None:
    """Adds a part in place; what runs over the end is cut."""
    room = max(0, mix.size - at)
    mix[at : at + part.size] += part[:room]
