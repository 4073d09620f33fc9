"""Spoken sentences from eSpeak NG, through the library and voices inside the wheel `espeakng-loader`.

eSpeak NG keeps its state in static variables: pitch flutter goes on where the last sentence stopped, through `espeak_Terminate`
and a new `espeak_Initialize` alike (seen with 1.52), so the same sentence never sounds twice the same. Every sentence therefore gets a
freshly loaded library (4.5 ms), which makes `Speaker.say` a plain function of its arguments. The library is not thread safe
either; a lock lets one sentence through at a time.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

RATE_HZ = 22_050
"""What every eSpeak NG formant voice speaks at."""

# speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT, espeakCHARS_UTF8, espeakRATE, espeakPITCH, POS_CHARACTER
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _RATE, _PITCH, _POS_CHARACTER = 2, 0x8000, 1, 1, 3, 1
_ON_SOUND = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks, and how."""

    name: str = "en-us"
    """An eSpeak NG voice, with an optional variant: `en-us+m3`."""
    pitch: int = 50
    """0 to 99."""
    pace_wpm: int = 175
    """Words per minute, 80 to 450."""


class Speaker:
    """Speaks sentences. Holds nothing but the place of the library, so it may be made and dropped at will."""

    def __init__(self) -> None:
        """Finds the library.

        Raises:
            DataError: `espeakng-loader` is not installed.
        """
        try:
            loader = importlib.import_module("espeakng_loader")
        except ImportError as error:
            raise DataError("speech needs the package espeakng-loader; type: pip install espeakng-loader") from error
        self._library_path: str = loader.get_library_path()
        self._data_path: str = loader.get_data_path()

    def say(self, text: str, voice: Voice | None = None) -> NDArray[np.float32]:
        """Speaks one text; the same arguments give the same samples.

        Args:
            text: English words.
            voice: who speaks; None is `Voice()`.

        Returns:
            float32 (S,) at `RATE_HZ`, mono, in [-1, 1].

        Raises:
            DataError: the library does not load, does not know the voice, or stays silent.
        """
        with _ONE_AT_A_TIME, self._fresh_library() as library:
            parts = _listen(library, text, voice or Voice())
        samples = np.concatenate([np.zeros(0, np.int16), *parts])
        if not samples.any():
            raise DataError(f"eSpeak NG said nothing for {text!r}; expected words")
        return samples.astype(np.float32) / 32768.0

    @contextmanager
    def _fresh_library(self) -> Iterator[ctypes.CDLL]:
        try:
            library = ctypes.CDLL(self._library_path)
        except OSError as error:
            raise DataError(f"eSpeak NG does not load from {self._library_path}: {error}") from error
        try:
            rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, self._data_path.encode(), _DONT_EXIT)
            if rate_hz != RATE_HZ:
                raise DataError(f"eSpeak NG answered {rate_hz} Hz, expected {RATE_HZ}; type: pip install --force-reinstall espeakng-loader")
            yield library
            library.espeak_Terminate()
        finally:
            _unload(library)


def _listen(library: ctypes.CDLL, text: str, voice: Voice) -> list[NDArray[np.int16]]:
    parts: list[NDArray[np.int16]] = []

    def keep(wave: ctypes._Pointer[ctypes.c_short], count: int, events: int | None) -> int:
        if count > 0:
            parts.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    on_sound = _ON_SOUND(keep)
    library.espeak_SetSynthCallback(on_sound)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise DataError(f"eSpeak NG has no voice {voice.name!r}")
    library.espeak_SetParameter(_RATE, voice.pace_wpm, 0)
    library.espeak_SetParameter(_PITCH, voice.pitch, 0)
    words = text.encode()
    library.espeak_Synth(words, ctypes.c_size_t(len(words) + 1), 0, _POS_CHARACTER, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    return parts


def _unload(library: ctypes.CDLL) -> None:
    import _ctypes

    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)
