from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ctranslate2
import numpy as np
import pytest

from shortcast.errors import WeightsError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.contract import Contract, SoundContract
from shortcast.runtime.tolerances import wider_compute_type
from shortcast.runtime.whisper import SoundEncoder, WhisperWeights, find_whisper, resolve_whisper

SOUND = SoundContract()


@pytest.fixture(scope="module")
def weights() -> WhisperWeights:
    return resolve_whisper("tiny.en")


@pytest.fixture(scope="module")
def encoder(weights: WhisperWeights) -> SoundEncoder:
    return SoundEncoder(weights, SOUND)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)


def test_embeds_one_chunk(encoder: SoundEncoder) -> None:
    embedding = encoder.embed(noise(2), np.ones(32_000, bool))
    assert embedding is not None
    assert embedding.shape == (384,)
    assert embedding.dtype == np.float32
    assert np.isfinite(embedding).all()


def test_workers_that_run_at_once_hear_what_one_hears(weights: WhisperWeights, encoder: SoundEncoder) -> None:
    shared, mask = SoundEncoder(weights, SOUND, workers=3), np.ones(32_000, bool)
    with ThreadPoolExecutor(6) as pool:
        at_once = list(pool.map(lambda seed: shared.embed(noise(2, seed), mask), range(12)))
    np.testing.assert_array_equal(at_once, [encoder.embed(noise(2, seed), mask) for seed in range(12)])


def test_only_valid_frames_are_averaged(encoder: SoundEncoder) -> None:
    """The mean over a window is the mean of the means over its halves: the mask picks frames, and nothing else."""
    samples = noise(2)
    first = np.arange(32_000) < 16_000
    halves = [encoder.embed(samples, first), encoder.embed(samples, ~first)]
    whole = encoder.embed(samples, np.ones(32_000, bool))
    assert whole is not None
    np.testing.assert_allclose(np.mean(halves, axis=0), whole, atol=1e-4)


def test_too_little_sound_is_no_sound(encoder: SoundEncoder) -> None:
    mask = np.zeros(32_000, bool)
    assert encoder.embed(noise(2), mask) is None
    mask[:100] = True
    assert encoder.embed(noise(2), mask) is None


def test_a_silence_tail_moves_the_embedding_a_little(weights: WhisperWeights, encoder: SoundEncoder) -> None:
    tailed = SoundEncoder(weights, replace(SOUND, tail_silence_s=1.0))
    samples, mask = noise(2), np.ones(32_000, bool)
    plain, other = encoder.embed(samples, mask), tailed.embed(samples, mask)
    assert plain is not None
    assert other is not None
    cosine = float(plain @ other / np.linalg.norm(plain) / np.linalg.norm(other))
    assert 0.8 < cosine < 0.9999


def test_the_short_window_agrees_with_the_padded_one_on_speech(encoder: SoundEncoder, weights: WhisperWeights, shared_data: Path) -> None:
    """The measurement behind encoding 2 s alone and not padding to 30 s: per-frame cosine of about 0.93."""
    import ctranslate2
    from faster_whisper.audio import decode_audio

    from shortcast.runtime.features import log_mel

    model = ctranslate2.models.Whisper(str(weights.path), compute_type="float32")
    speech = np.asarray(decode_audio(str(shared_data / "speech" / "jfk.flac")))
    cosines = []
    for start in range(0, 8 * 16_000, 32_000):
        chunk = speech[start : start + 32_000]
        short, padded = (
            np.asarray(model.encode(ctranslate2.StorageView.from_array(log_mel(s)[None])))[0, :100]
            for s in (chunk, np.pad(chunk, (0, 28 * 16_000)))
        )
        cosines += list((short * padded).sum(1) / np.linalg.norm(short, axis=1) / np.linalg.norm(padded, axis=1))
    assert np.mean(cosines) > 0.92


def test_other_weights_than_the_model_was_trained_with_are_refused(weights: WhisperWeights) -> None:
    with pytest.raises(WeightsError, match=r"is not the Whisper tiny\.en this model was trained with"):
        SoundEncoder(weights, replace(SOUND, whisper_sha256="0" * 64))
    SoundEncoder(weights, replace(SOUND, whisper_sha256=weights.sha256()))


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no model\.bin"):
        resolve_whisper("tiny.en", explicit=tmp_path)


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="cannot load"):
        SoundEncoder(WhisperWeights(tmp_path, "test"), SOUND)


def test_the_bundles_own_copy_comes_before_the_package(tmp_path: Path, weights: WhisperWeights) -> None:
    assert resolve_whisper("tiny.en", bundled=tmp_path).origin == weights.origin
    (tmp_path / "model.bin").touch()
    assert resolve_whisper("tiny.en", bundled=tmp_path).path == tmp_path


def test_a_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real hub client, pointed at a port where nothing listens."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_whisper("small") is None
    with pytest.raises(WeightsError, match=r"no Whisper small weights.*--whisper DIR"):
        resolve_whisper("small")


def test_the_pinned_weights_are_the_ones_that_were_tried(weights: WhisperWeights) -> None:
    assert weights.sha256() == "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
    assert Contract().sound.whisper == "tiny.en"


def test_a_type_the_device_lacks_is_an_error_and_never_another_type(weights: WhisperWeights) -> None:
    if "float16" in ctranslate2.get_supported_compute_types("cpu"):
        pytest.skip("this CPU computes in float16")
    with pytest.raises(WeightsError, match=r"cpu can't compute Whisper in float16.*--whisper-compute.*shortcast verify"):
        SoundEncoder(weights, replace(SOUND, compute_type="float16"))


@pytest.mark.parametrize(
    ("asked", "taken", "fits"),
    [
        ("float16", "float16", True),
        ("int8", "int8_float32", True),
        ("int8", "int8_float16", False),
        ("float16", "float32", False),
        ("int8_float16", "int8_float32", False),
    ],
)
def test_what_ctranslate2_takes_for_the_type_asked_for(
    weights: WhisperWeights, monkeypatch: pytest.MonkeyPatch, asked: str, taken: str, fits: bool
) -> None:
    monkeypatch.setattr(ctranslate2.models, "Whisper", lambda *_, **__: SimpleNamespace(compute_type=taken))
    contract = replace(SOUND, compute_type=asked)
    if fits:
        SoundEncoder(weights, contract, device="cuda")
        return
    with pytest.raises(WeightsError, match=rf"would compute in {taken} on this cuda where {asked} was asked for"):
        SoundEncoder(weights, contract, device="cuda")


def test_hearing_in_another_type_changes_the_contract_and_widens_the_proof(demo: Path) -> None:
    bundle = Bundle.open(demo)
    assert bundle.hearing_in(None).sound_contract == bundle.sound_contract
    other = bundle.hearing_in("float16")
    assert other.sound_contract.compute_type == "float16"
    assert other.sound_contract.whisper_sha256 == bundle.sound_contract.whisper_sha256
    assert [wider_compute_type(*pair) for pair in (("float32", "float16"), ("float16", "float32"), ("int8", "float16"))] == [
        "float16",
        "float16",
        "int8",
    ]
