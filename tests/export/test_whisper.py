"""Checkpoints of every kind -> CTranslate2, on a tiny Whisper with random weights; what is damaged is refused in one sentence."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from shortcast.errors import WeightsError
from shortcast.export.ctranslate2_file import read_ctranslate2
from shortcast.export.whisper import RECORD, convert_whisper
from shortcast.export.whisper_reference import WhisperReference
from shortcast.export.whisper_source import special_tokens, whisper_source
from shortcast.export.whisper_weights import load_whisper
from shortcast.runtime.contract import SoundContract
from shortcast.runtime.transcript import Transcriber
from shortcast.runtime.whisper import SoundEncoder, WhisperWeights, find_whisper

if TYPE_CHECKING:
    from tests.export.conftest import TinyWhisper

    Damage = Callable[[str, Callable[[Path], None]], Path]

KINDS = ("hugging_face", "openai")
CONTRACT = SoundContract(embedding_dim=32)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def converted(tiny_whisper: TinyWhisper, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The Hugging Face directory, stored in each type."""
    folder = tmp_path_factory.mktemp("converted")
    for compute in ("float32", "float16", "int8"):
        convert_whisper(tiny_whisper.hugging_face, folder / compute, compute=compute)  # type: ignore[arg-type]
    return {path.name: path for path in folder.iterdir()}


def noise(seconds: float = 2.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(3).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)


def test_kinds_of_source_are_told_apart(tiny_whisper: TinyWhisper, converted: dict[str, Path]) -> None:
    assert whisper_source(tiny_whisper.hugging_face).kind == "hugging-face"
    assert whisper_source(tiny_whisper.openai).kind == "openai"
    assert whisper_source(tiny_whisper.openai / "tiny.pt") == whisper_source(tiny_whisper.openai)
    assert whisper_source(converted["int8"]).kind == "ctranslate2"


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_weights_are_the_ones_that_were_saved(tiny_whisper: TinyWhisper, kind: str) -> None:
    loaded = load_whisper(whisper_source(getattr(tiny_whisper, kind))).state_dict()
    expected = tiny_whisper.model.state_dict()
    assert loaded.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(loaded[name], weight), name


@pytest.mark.parametrize(("stored", "rounding"), [("float32", 0.0), ("float16", 2.0**-11), ("int8", 0.5 / 127)])
def test_a_converted_file_reads_back_as_the_weights_it_was_made_from(
    tiny_whisper: TinyWhisper, converted: dict[str, Path], stored: str, rounding: float
) -> None:
    """Relative to the value in float16, to the largest of its row in int8, where norms, biases and positions stay float32."""
    loaded = load_whisper(whisper_source(converted[stored])).state_dict()
    for name, weight in tiny_whisper.model.state_dict().items():
        rows = weight.abs().reshape(len(weight), -1)
        allowed = rounding * (rows.amax(dim=1, keepdim=True) if stored == "int8" else rows) + (1e-7 if rounding else 0)
        error = (loaded[name] - weight).abs().reshape(len(weight), -1)
        assert bool((error <= allowed * 1.001).all()), name
        if stored == "int8" and (weight.ndim == 1 or "embed_positions" in name):
            assert float(error.max()) == 0.0, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_runtime_agrees_with_pytorch_on_every_kind(tiny_whisper: TinyWhisper, tmp_path: Path, kind: str) -> None:
    made = convert_whisper(getattr(tiny_whisper, kind), tmp_path / "out", compute="float32")
    encoder = SoundEncoder(WhisperWeights(made.path, "test"), SoundContract(embedding_dim=32, whisper_sha256=made.sha256))
    reference = WhisperReference.load(getattr(tiny_whisper, kind))
    samples, mask = noise(), np.arange(32_000) < 20_000
    found, expected = encoder.embed(samples, mask), reference.embed(samples, mask)
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert float(np.abs(expected - reference.embed(samples, ~mask)).max()) > 0.01


def test_the_reference_encoder_is_that_of_transformers(tiny_whisper: TinyWhisper) -> None:
    """Over 30 s, the only length that library's own encoder takes."""
    from shortcast.runtime.features import log_mel

    mel = log_mel(np.pad(noise(), (0, 28 * 16_000)))[None]
    with torch.inference_mode():
        theirs = tiny_whisper.model.model.encoder(torch.from_numpy(mel)).last_hidden_state[0].numpy()
    reference = WhisperReference.load(tiny_whisper.hugging_face)
    np.testing.assert_allclose(reference.encode(mel)[0], theirs, atol=1e-5)
    np.testing.assert_allclose(reference.frames(noise(), padded=True), theirs[:100], atol=1e-5)


def test_too_little_sound_is_no_sound_for_the_reference_too(tiny_whisper: TinyWhisper) -> None:
    assert WhisperReference.load(tiny_whisper.hugging_face).embed(noise(), np.zeros(32_000, bool)) is None


def test_the_record_says_what_was_made(tiny_whisper: TinyWhisper, tmp_path: Path) -> None:
    made = convert_whisper(tiny_whisper.openai, tmp_path / "int8")
    assert made.to_json() == json.loads((made.path / RECORD).read_text())
    assert made.sha256 == WhisperWeights(made.path, "test").sha256()
    assert (made.compute, made.source_kind, made.mel_bins, made.embedding_dim) == ("int8", "openai", 80, 32)
    assert set(made.weight_bytes) == {"int8", "float32"}
    assert made.bytes == (made.path / "model.bin").stat().st_size < 0.6 * made.source_bytes
    assert sorted(path.name for path in made.path.iterdir()) == [
        "config.json",
        RECORD,
        "model.bin",
        "preprocessor_config.json",
        "tokenizer.json",
        "vocabulary.json",
    ]


def test_one_source_gives_one_file(tiny_whisper: TinyWhisper, converted: dict[str, Path], tmp_path: Path) -> None:
    again = [convert_whisper(getattr(tiny_whisper, kind), tmp_path / kind, compute="int8") for kind in KINDS]
    assert {made.sha256 for made in again} == {WhisperWeights(converted["int8"], "test").sha256()}


def test_faster_whisper_can_write_words_with_it(converted: dict[str, Path]) -> None:
    model = Transcriber(converted["int8"]).model
    segments, _ = model.transcribe(noise(1.0), vad_filter=False, max_new_tokens=5, temperature=0.0, beam_size=1)
    assert all(isinstance(segment.text, str) for segment in segments)


def test_a_converted_whisper_is_stored_anew_in_a_smaller_type_only(converted: dict[str, Path], tmp_path: Path) -> None:
    made = convert_whisper(converted["float32"], tmp_path / "int8", compute="int8")
    assert made.sha256 == WhisperWeights(converted["int8"], "test").sha256()
    with pytest.raises(WeightsError, match="is stored in integers: float32 would only be larger"):
        convert_whisper(converted["int8"], tmp_path / "float32", compute="float32")


def test_what_is_there_is_replaced_only_by_force(tiny_whisper: TinyWhisper, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(WeightsError, match="exists; give --force"):
        convert_whisper(tiny_whisper.hugging_face, out)
    assert (out / "mine").exists()
    convert_whisper(tiny_whisper.hugging_face, out, force=True)
    assert not (out / "mine").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_conversion_leaves_nothing(
    tiny_whisper: TinyWhisper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    """Stopped after the converter has written its files, before they are renamed; what was there stays."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.bin").write_bytes(b"mine")

    def interrupt(path: Path) -> None:
        assert path.stat().st_size > 10_000
        raise stop

    monkeypatch.setattr("shortcast.export.whisper.read_ctranslate2", interrupt)
    with pytest.raises(stop):
        convert_whisper(tiny_whisper.hugging_face, out, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "model.bin").read_bytes() == b"mine"


def change_json(name: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **changes})) and None


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1000]) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def drop_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.encoder.layers.1.fc1.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rename_a_weight(folder: Path) -> None:
    plain = torch.load(folder / "tiny.pt", weights_only=True)
    state = plain["model_state_dict"]
    state["encoder.blocks.0.mlp.9.weight"] = state.pop("encoder.blocks.0.mlp.0.weight")
    torch.save(plain, folder / "tiny.pt")


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def another_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("kind", "harm", "told"),
    [
        ("hugging_face", remove("tokenizer.json"), r"holds no tokenizer\.json: put the one of the same Whisper beside"),
        ("openai", remove("tokenizer.json"), r"holds no tokenizer\.json"),
        ("hugging_face", remove("config.json"), "holds no Whisper model: expected a CTranslate2 directory"),
        ("hugging_face", remove("model.safetensors"), r"holds no weights: expected model\*\.safetensors"),
        ("openai", remove("tiny.pt"), "holds no Whisper model: expected a CTranslate2 directory"),
        ("hugging_face", change_json("config.json", model_type="bert"), "is of model_type 'bert', expected 'whisper'"),
        ("hugging_face", write("config.json", "{"), "cannot be read as JSON"),
        ("hugging_face", cut("model.safetensors"), "does not load as a Whisper model"),
        ("hugging_face", drop_a_weight, r"lacks 1 weights of its model, model\.encoder\.layers\.1\.fc1\.weight for one"),
        ("hugging_face", write("preprocessor_config.json", '{"feature_size": 128}'), "says 128 mel bins, and the weights take 80"),
        ("openai", cut("tiny.pt"), "is no OpenAI Whisper checkpoint"),
        ("openai", rename_a_weight, "does not hold the weights its own sizes call for"),
        ("openai", lambda folder: torch.save([1], folder / "tiny.pt"), "is no OpenAI Whisper checkpoint"),
        ("openai", lambda folder: (folder / "other.pt").touch(), r"holds 2 \*\.pt files: give the one to convert"),
        ("openai", another_tokenizer, r"is not Whisper's: it has no <\|startoftranscript\|>"),
        ("openai", write("tokenizer.json", "{}"), r"tokenizer\.json cannot be read"),
    ],
)
def test_a_damaged_source_is_refused_in_one_sentence(
    damaged: Damage, tmp_path: Path, kind: str, harm: Callable[[Path], None], told: str
) -> None:
    source = damaged(kind, harm)
    with pytest.raises(WeightsError, match=told) as refused:
        convert_whisper(source, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_file_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is no directory: expected a CTranslate2 directory"):
        whisper_source(tmp_path / "nowhere")


class Code:
    """A pickle of this makes a file when it is read carelessly."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.made,)


@pytest.mark.parametrize(("kind", "name"), [("openai", "tiny.pt"), ("hugging_face", "pytorch_model.bin")])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(damaged: Damage, tmp_path: Path, kind: str, name: str, zipped: bool) -> None:
    def hide(folder: Path) -> None:
        (folder / "model.safetensors").unlink(missing_ok=True)
        if zipped:
            torch.save({"dims": Code(tmp_path / "ran"), "model_state_dict": {}}, folder / name)
        else:
            (folder / name).write_bytes(pickle.dumps(Code(tmp_path / "ran"), protocol=2))

    source = damaged(kind, hide)
    with pytest.raises(WeightsError, match=r"is no OpenAI Whisper checkpoint|does not load as a Whisper model"):
        convert_whisper(source, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [0, 4, 40, 5_000])
def test_a_cut_ctranslate2_file_is_refused(converted: dict[str, Path], tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes((converted["int8"] / "model.bin").read_bytes()[:kept])
    with pytest.raises(WeightsError, match="is not a whole CTranslate2 model"):
        read_ctranslate2(path)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"\x05\x00\x00\x00")
    with pytest.raises(WeightsError, match=r"no CTranslate2 model of layout 6 \(it says 5\)"):
        read_ctranslate2(path)


def test_an_unknown_type_is_refused(tiny_whisper: TinyWhisper, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="compute is one of int8, float16, float32, got 'int4'"):
        convert_whisper(tiny_whisper.hugging_face, tmp_path / "out", compute="int4")  # type: ignore[arg-type]


def test_tokens_never_written_are_those_of_the_published_model() -> None:
    """The rules, applied to tiny.en's tokenizer, against the list that its conversion by others carries."""
    weights = find_whisper("tiny.en")
    assert weights is not None
    published = json.loads((weights.path / "config.json").read_text())
    tokens = special_tokens(whisper_source(weights.path).tokenizer(), multilingual=False)
    assert tokens["suppress_tokens"] == published["suppress_ids"]
    assert tokens["begin_suppress_tokens"] == published["suppress_ids_begin"]
    assert len(tokens["lang_to_id"]) == 99
