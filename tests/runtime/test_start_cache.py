"""What is kept between starts: never an error, never somebody else's, never damaged."""

import hashlib
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import WeightsError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.contract import SoundContract
from shortcast.runtime.engines import Tensors, open_engine
from shortcast.runtime.scorer import Scorer
from shortcast.runtime.start_cache import StartCache, file_key, user_cache
from shortcast.runtime.whisper import SoundEncoder, WhisperWeights, resolve_whisper
from shortcast.runtime.whisper_file import read_whisper

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has XDG folders")


@pytest.fixture
def cache(tmp_path: Path) -> StartCache:
    return StartCache(tmp_path / "cache")


def entry(cache: StartCache) -> Path:
    (path,) = cache.folder.iterdir()
    return path


def test_what_is_put_is_got_and_is_the_users_alone(cache: StartCache) -> None:
    assert cache.get("kind", "key") is None
    assert cache.put("kind", "key", b"content")
    assert cache.get("kind", "key") == b"content"
    assert cache.get("kind", "other key") is None
    assert cache.get("other-kind", "key") is None
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry(cache).stat().st_mode) == 0o600
    assert cache.entries() == (1, len(b"content") + 32)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-1] + b"?", id="a byte changed"),
        pytest.param(lambda content: content[:-1], id="cut short"),
        pytest.param(lambda content: content + b"?", id="a byte more"),
        pytest.param(lambda content: b"", id="emptied"),
    ],
)
def test_a_damaged_entry_is_absent_and_made_again(cache: StartCache, damage) -> None:  # type: ignore[no-untyped-def]
    cache.put("kind", "key", b"content")
    path = entry(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("kind", "key") is None
    assert not path.exists()
    assert cache.put("kind", "key", b"content")
    assert cache.get("kind", "key") == b"content"


def test_an_entry_that_others_may_write_is_not_believed(cache: StartCache) -> None:
    cache.put("kind", "key", b"content")
    entry(cache).chmod(0o666)
    assert cache.get("kind", "key") is None


def test_a_link_is_not_followed(cache: StartCache, tmp_path: Path) -> None:
    cache.put("kind", "key", b"content")
    path = entry(cache)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.get("kind", "key") is None


def test_a_folder_that_others_may_write_is_not_used(cache: StartCache) -> None:
    cache.put("kind", "key", b"content")
    cache.folder.chmod(0o777)
    assert "others may write to it" in (cache.problem() or "")
    assert cache.get("kind", "key") is None
    assert not cache.put("kind", "new", b"content")


def test_a_link_or_a_file_in_place_of_the_folder_is_not_used(cache: StartCache, tmp_path: Path) -> None:
    cache.put("kind", "key", b"content")
    link = StartCache(tmp_path / "link")
    link.folder.symlink_to(cache.folder)
    plain = StartCache(tmp_path / "file")
    plain.folder.touch()
    for odd in (link, plain, StartCache(plain.folder / "below")):
        assert odd.get("kind", "key") is None
        assert not odd.put("kind", "key", b"content")


def test_a_folder_that_cannot_be_written_is_no_error(ordinary_users_folder: Path) -> None:
    ordinary_users_folder.chmod(0o500)
    cache = StartCache(ordinary_users_folder / "cache")
    assert not cache.put("kind", "key", b"content")
    assert cache.get("kind", "key") is None
    ordinary_users_folder.chmod(0o700)


def test_a_full_disk_is_no_error_and_leaves_nothing(cache: StartCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shortcast.runtime.start_cache.os.replace", full)
    assert not cache.put("kind", "key", b"content")
    assert list(cache.folder.iterdir()) == []


def test_the_oldest_entries_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    cache = StartCache(tmp_path / "cache", max_bytes=350)
    for age in range(5):
        cache.put("kind", str(age), bytes(68))
        os.utime(cache._path("kind", str(age)), (1e9 + age, 1e9 + age))
    assert [cache.get("kind", str(age)) is not None for age in range(5)] == [False, False, True, True, True]
    assert not cache.put("kind", "too large", bytes(351))
    assert cache.entries()[0] == 3


def test_what_a_killed_process_left_aside_is_swept_up_later(cache: StartCache) -> None:
    cache.put("kind", "key", b"content")
    old, new = cache.folder / ".writing-1-old", cache.folder / ".writing-1-new"
    old.touch()
    new.touch()
    os.utime(old, (1e9, 1e9))
    cache.put("kind", "other", b"content")
    assert not old.exists()
    assert new.exists()


def test_processes_that_write_at_once_do_no_harm(cache: StartCache) -> None:
    program = (
        "import sys; from pathlib import Path; from shortcast.runtime.start_cache import StartCache\n"
        "cache = StartCache(Path(sys.argv[1]))\n"
        "for _ in range(60):\n"
        "    assert cache.get('kind', 'key') in (None, bytes(50_000))\n"
        "    assert cache.put('kind', 'key', bytes(50_000))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, str(cache.folder)]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    assert cache.entries() == (1, 50_032)
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"SHORTCAST_CACHE": "off"}, None),
        ({"SHORTCAST_CACHE": "OFF", "XDG_CACHE_HOME": "/xdg"}, None),
        ({"SHORTCAST_CACHE": "/somewhere"}, Path("/somewhere")),
        ({"SHORTCAST_CACHE": "~/mine"}, Path.home() / "mine"),
        pytest.param(
            {"XDG_CACHE_HOME": "/xdg"},
            Path("/xdg/shortcast"),
            marks=LINUX,
        ),
        pytest.param(
            {"XDG_CACHE_HOME": "x"},
            Path.home() / ".cache/shortcast",
            marks=LINUX,
        ),
        pytest.param({}, Path.home() / ".cache/shortcast", marks=LINUX),
    ],
)
def test_where_the_cache_lies(environment: dict[str, str], folder: Path | None) -> None:
    found = user_cache(environment)
    assert (found.folder if found else None) == folder


def test_a_files_key_changes_with_the_file_and_a_new_file_has_none(tmp_path: Path, weights: WhisperWeights) -> None:
    settled = weights.path / "model.bin"
    assert file_key(settled) == file_key(settled)
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"x")
    assert file_key(fresh) is None


@pytest.fixture(scope="module")
def weights() -> WhisperWeights:
    return resolve_whisper("tiny.en")


@pytest.fixture(scope="module")
def sound(weights: WhisperWeights) -> SoundContract:
    return replace(SoundContract(), whisper_sha256=weights.sha256())


def heard(encoder: SoundEncoder) -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    embedding = encoder.embed(samples, np.ones(samples.size, bool))
    assert embedding is not None
    return embedding


def test_the_encoder_alone_hears_what_the_whole_model_hears(weights: WhisperWeights, cache: StartCache, sound: SoundContract) -> None:
    """To the last bit, with the cache empty and full, and where the file is loaded whole because its layout is not known."""
    whole = SoundEncoder(weights, sound)
    import ctranslate2

    whole._model = ctranslate2.models.Whisper(str(weights.path), compute_type="float32", intra_threads=1)
    encoders = [SoundEncoder(weights, sound), SoundEncoder(weights, sound, cache=cache), SoundEncoder(weights, sound, cache=cache)]
    assert cache.entries()[0] == 2
    for encoder in encoders:
        np.testing.assert_array_equal(heard(encoder), heard(whole))


def test_ctranslate2_takes_the_encoder_alone(weights: WhisperWeights) -> None:
    """And not the whole file, to which loading would go back without a word."""
    import ctranslate2

    encoder = weights.read().encoder
    assert encoder is not None
    assert len(encoder) < (weights.path / "model.bin").stat().st_size / 4
    assert ctranslate2.models.Whisper("encoder", files={"model.bin": encoder, "vocabulary.txt": b""}).n_mels == 80


def test_a_ctranslate2_that_wants_all_of_it_gets_the_whole_file(
    weights: WhisperWeights, sound: SoundContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = heard(SoundEncoder(weights, sound))
    monkeypatch.setattr("shortcast.runtime.whisper._VOCABULARY_FILE", "not_a_vocabulary.txt")
    np.testing.assert_array_equal(heard(SoundEncoder(weights, sound)), expected)


@pytest.mark.parametrize("content", [b"", b"\x06\x00", b"\x05\x00\x00\x00", b"\x06\x00\x00\x00\x03\x00ab\x00" + bytes(40)])
def test_a_file_of_another_layout_is_hashed_and_has_no_encoder(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    found = read_whisper(tmp_path / "model.bin")
    assert (found.sha256, found.encoder) == (hashlib.sha256(content).hexdigest(), None)


def test_a_file_with_more_after_its_end_has_no_encoder(weights: WhisperWeights, tmp_path: Path) -> None:
    content = (weights.path / "model.bin").read_bytes()
    for other in (content + b"?", content[:-20]):
        (tmp_path / "model.bin").write_bytes(other)
        found = read_whisper(tmp_path / "model.bin")
        assert (found.sha256, found.encoder) == (hashlib.sha256(other).hexdigest(), None)


def test_weights_that_changed_are_hashed_again(weights: WhisperWeights, cache: StartCache, sound: SoundContract, tmp_path: Path) -> None:
    SoundEncoder(weights, sound, cache=cache)
    (tmp_path / "model.bin").write_bytes((weights.path / "model.bin").read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"is not the Whisper tiny\.en this model was trained with"):
        SoundEncoder(WhisperWeights(tmp_path, "test"), sound, cache=cache)


def feeds(engine_inputs: tuple) -> Tensors:  # type: ignore[type-arg]
    random = np.random.default_rng(0)
    shapes = {spec.name: [1 if isinstance(dim, str) else dim for dim in spec.shape] for spec in engine_inputs}
    return {
        spec.name: (random.random(shapes[spec.name]) * (255 if spec.dtype == "uint8" else 1)).astype(spec.dtype) for spec in engine_inputs
    }


@pytest.mark.parametrize("graph", ["visual.fp32", "fusion.fp32", "visual.fp16", "fusion.fp16", "visual.int8"])
def test_a_kept_graph_computes_the_same_bits(demo: Path, cache: StartCache, graph: str) -> None:
    path = demo / "onnx" / f"{graph}.onnx"
    outputs = []
    for kept in (None, cache, cache):
        with open_engine(path, threads=2, cache=kept) as engine:
            outputs.append(engine.run(feeds(engine.inputs)))
    assert cache.entries()[0] == 1
    for name, values in outputs[0].items():
        for other in outputs[1:]:
            np.testing.assert_array_equal(values, other[name])


def test_another_graph_another_runtime_and_another_processor_have_other_entries(
    demo: Path, cache: StartCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = demo / "onnx" / "fusion.fp32.onnx"
    open_engine(path, cache=cache).close()
    monkeypatch.setattr("shortcast.runtime.engines.onnxruntime.cpu_model", lambda: "another processor")
    open_engine(path, cache=cache).close()
    monkeypatch.setattr("onnxruntime.__version__", "0.0.1")
    open_engine(path, cache=cache).close()
    assert cache.entries()[0] == 3


def test_a_kept_graph_that_does_not_load_is_made_again(demo: Path, cache: StartCache) -> None:
    path = demo / "onnx" / "fusion.fp32.onnx"
    open_engine(path, cache=cache).close()
    made = len(entry(cache).read_bytes())
    entry(cache).write_bytes(hashlib.sha256(b"no graph").digest() + b"no graph")
    with open_engine(path, cache=cache) as engine:
        assert engine.run(feeds(engine.inputs))
    assert len(entry(cache).read_bytes()) == made


def test_scores_do_not_depend_on_the_cache(demo: Path, sample: Path, cache: StartCache) -> None:
    scores = []
    for kept in (None, cache, cache):
        with Scorer(Bundle.open(demo), threads=2, cache=kept) as scorer:
            scorer.preload_sound()
            last = scorer.score(sample)
            scores.append((last.z, last.interval, last.class_probabilities, last.chunk_weights))
    assert cache.entries()[0] == 4
    assert scores[0] == scores[1] == scores[2]
