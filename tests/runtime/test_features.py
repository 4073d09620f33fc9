import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from shortcast.runtime.features import encoder_frame_mask, log_mel


def chirp(seconds: float) -> NDArray[np.float32]:
    t = np.arange(round(seconds * 16_000)) / 16_000
    noise = np.random.default_rng(0).normal(0, 0.01, t.size)
    return (0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) * (t % 0.5 < 0.4) + noise).astype(np.float32)


@pytest.mark.parametrize(("seconds", "mel_bins"), [(2.0, 80), (3.0, 80), (2.0, 128)])
def test_equals_the_extractor_of_faster_whisper(seconds: float, mel_bins: int) -> None:
    samples = chirp(seconds)
    reference = FeatureExtractor(feature_size=mel_bins)(samples, padding=0)[:, : samples.size // 160]
    mel = log_mel(samples, mel_bins=mel_bins)
    assert mel.shape == (mel_bins, samples.size // 160)
    assert mel.dtype == np.float32
    np.testing.assert_allclose(mel, reference, atol=1e-5)


def test_a_chunk_equals_the_contiguous_spectrogram_away_from_its_ends() -> None:
    """The loudest frame is inside the chunk, so both are clipped at the same level; only reflection at the ends differs."""
    samples = chirp(6.0)
    samples[40_000:40_400] *= 2
    whole, chunk = log_mel(samples), log_mel(samples[32_000:64_000])
    np.testing.assert_allclose(chunk[:, 2:-2], whole[:, 202:398], atol=1e-5)


def test_silence_is_finite() -> None:
    assert np.isfinite(log_mel(np.zeros(32_000, np.float32))).all()


def test_an_encoder_frame_is_real_when_half_of_it_is() -> None:
    mask = np.zeros(960, bool)
    mask[:480] = True
    np.testing.assert_array_equal(encoder_frame_mask(mask), [True, True, False])
