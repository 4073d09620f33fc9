"""Log-mel: what Whisper hears, computed by numpy exactly as Whisper's own front end computes it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .contract import ENCODER_FRAME_SAMPLES, SAMPLE_RATE_HZ

N_FFT = 400
"""25 ms windows."""
HOP_SAMPLES = 160
"""10 ms: 100 mel frames a second, two for each encoder frame."""
_DYNAMIC_RANGE = 8.0
"""Whisper clips everything more than 80 dB (8 in log10 power) below the loudest bin of the window."""


def log_mel(samples: NDArray[np.float32], *, mel_bins: int = 80) -> NDArray[np.float32]:
    """Whisper's log-mel spectrogram of one window (Radford et al. 2022, section 2.2).

    Args:
        samples: float32 (S,), 16 kHz mono in [-1, 1]; S a multiple of 160 and at least 201. The ends are reflected.
        mel_bins: M, 80 for every Whisper before large-v3.

    Returns:
        float32 (M, S / 160), roughly in [-1, 2].
    """
    padded = np.pad(samples.astype(np.float32, copy=False), N_FFT // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_SAMPLES][:-1]
    spectrum = np.fft.rfft(windows * _hann_window(), axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    # Not `@`: BLAS would share this small product among all cores, and its threads then spin for more than 20 ms on cores others need.
    mel = np.einsum("mk,tk->mt", _mel_filters(mel_bins), power)
    log_power = np.log10(np.maximum(mel, 1e-10))
    log_power = np.maximum(log_power, log_power.max() - _DYNAMIC_RANGE)
    return np.asarray((log_power + 4.0) / 4.0, dtype=np.float32)


def encoder_frame_mask(sample_mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which encoder frames are real: those at least half of whose 320 samples are.

    Args:
        sample_mask: bool (S,), S a multiple of 320.

    Returns:
        bool (S / 320,).
    """
    return np.asarray(sample_mask.reshape(-1, ENCODER_FRAME_SAMPLES).mean(axis=1) >= 0.5)


@lru_cache(maxsize=1)
def _hann_window() -> NDArray[np.float32]:
    """The periodic Hann window that `torch.hann_window` and Whisper use."""
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


@lru_cache(maxsize=4)
def _mel_filters(mel_bins: int) -> NDArray[np.float32]:
    """Slaney's triangular mel filters with area normalisation, float32 (M, N_FFT / 2 + 1), as librosa makes them."""
    frequencies = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE_HZ)
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE_HZ / 2), mel_bins + 2))
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


# Slaney's Auditory Toolbox (1998): linear below 1 kHz (3 mel per 200 Hz), logarithmic above (27 mel per factor of 6.4).
_LINEAR_HZ_PER_MEL = 200.0 / 3
_LOG_FROM_HZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return float(_LOG_FROM_MEL + np.log(hz / _LOG_FROM_HZ) / _LOG_STEP) if hz >= _LOG_FROM_HZ else hz / _LINEAR_HZ_PER_MEL


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < _LOG_FROM_MEL, mel * _LINEAR_HZ_PER_MEL, _LOG_FROM_HZ * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL)))
