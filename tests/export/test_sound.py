"""Which Whisper a bundle hears with: as trained, converted, computed in another type, embedded."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shortcast.errors import WeightsError
from shortcast.export.sound import SoundOptions, choose_sound
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.contract import Contract
from shortcast.runtime.whisper import SoundEncoder, WhisperWeights, find_whisper

if TYPE_CHECKING:
    from tests.export.conftest import TinyWhisper


@pytest.fixture
def contract(demo: Path) -> Contract:
    return Bundle.open(demo).contract


@pytest.fixture
def installed() -> Path:
    found = find_whisper("tiny.en")
    assert found is not None
    return found.path


def test_the_whisper_of_training_needs_no_proof(contract: Contract, sample: Path, installed: Path, tmp_path: Path) -> None:
    for source in (None, installed):
        chosen = choose_sound(contract, SoundOptions(source), sample, tmp_path)
        assert chosen.rows == ()
        assert chosen.file.compute_type == contract.sound.compute_type
        assert not chosen.file.embedded
        assert chosen.explicit == source


def test_the_weights_are_put_into_the_bundle(contract: Contract, sample: Path, tmp_path: Path) -> None:
    chosen = choose_sound(contract, SoundOptions(embed=True), sample, tmp_path)
    assert chosen.file.embedded
    assert chosen.file.sha256 == contract.sound.whisper_sha256
    assert WhisperWeights(tmp_path / "whisper", "here").sha256() == chosen.file.sha256


def test_another_type_of_computation_is_compared_with_pytorch(contract: Contract, sample: Path, tmp_path: Path) -> None:
    chosen = choose_sound(contract, SoundOptions(compute_type="int8"), sample, tmp_path)
    assert chosen.file.compute_type == "int8"
    assert all(row.passed for row in chosen.rows)
    sounds = {row.check.split(", ")[2] for row in chosen.rows}
    assert {"voice", "chord", "silence", "noise", "sample.mp4"} <= sounds
    assert max(row.max_abs_error or 0 for row in chosen.rows) > 0.01


def test_a_checkpoint_is_converted_into_the_bundle(
    contract: Contract, tiny_whisper: "TinyWhisper", sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model trained with the tiny Whisper, exported from its Hugging Face checkpoint in int8."""
    from shortcast.export import sound as sound_module
    from shortcast.export.whisper import convert_whisper

    trained = convert_whisper(tiny_whisper.hugging_face, tmp_path / "trained", compute="float32")
    monkeypatch.setattr(sound_module, "resolve_whisper", lambda *_, **__: WhisperWeights(trained.path, "the usual places"))
    sound = replace(contract.sound, whisper_sha256=trained.sha256, embedding_dim=trained.embedding_dim)
    options = SoundOptions(tiny_whisper.hugging_face, compute_type="int8")
    chosen = choose_sound(replace(contract, sound=sound), options, sample, tmp_path / "bundle")
    assert chosen.file.embedded
    assert chosen.rows
    assert chosen.file.sha256 != trained.sha256
    samples = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    heard = SoundEncoder(WhisperWeights(tmp_path / "bundle" / "whisper", "here"), replace(sound, whisper_sha256="", compute_type="int8"))
    assert heard.embed(samples, np.ones(32_000, np.bool_)) is not None


def test_a_type_that_cannot_be_computed_here_is_refused(contract: Contract, sample: Path, tmp_path: Path) -> None:
    import ctranslate2

    if "float16" in ctranslate2.get_supported_compute_types("cpu"):
        pytest.skip("this CPU computes in float16")
    with pytest.raises(WeightsError, match="float16"):
        choose_sound(contract, SoundOptions(compute_type="float16"), sample, tmp_path)


def test_an_interrupted_conversion_leaves_nothing(tiny_whisper: "TinyWhisper", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shortcast.export import whisper

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(whisper, "_describe", interrupt)
    with pytest.raises(KeyboardInterrupt):
        whisper.convert_whisper(tiny_whisper.hugging_face, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
