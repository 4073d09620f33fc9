from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shortcast.errors import EngineError
from shortcast.export.calibration import EmbeddedChunks, calibration_from, carried_state, initial_state
from shortcast.runtime.chunks import Chunk
from shortcast.runtime.engines import Tensors, TensorSpec
from shortcast.runtime.engines.fake import FakeEngine
from shortcast.runtime.golden import load_golden
from shortcast.runtime.scorer import Scorer
from shortcast.runtime.whisper import SoundEncoder

STATE = (TensorSpec("h0", "float32", ("batch", 2)), TensorSpec("c0", "float32", ("batch", 2)))
INPUTS = (TensorSpec("frames", "uint8", ("batch", 2, 1, 1, 3)), TensorSpec("frame_mask", "float32", ("batch", 2)), *STATE)
OUTPUTS = (TensorSpec("embedding", "float32", ("batch", 4)), *(replace(spec, name=f"{spec.name}_out") for spec in STATE))


class Recording(FakeEngine):
    """Keeps what it was given and what it answered."""

    def __init__(self) -> None:
        super().__init__(INPUTS, OUTPUTS)
        self.fed: list[Tensors] = []
        self.said: list[Tensors] = []

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        self.fed.append(dict(feeds))
        self.said.append(super().run(feeds))
        return self.said[-1]


def chunk(index: int, *, epoch: int = 0, pictures: bool = True) -> Chunk:
    return Chunk(
        index=index,
        start_s=2.0 * index,
        end_s=2.0 * index + 2,
        frames=np.full((2, 1, 1, 3), index, np.uint8),
        frame_mask=np.array([pictures, False]),
        samples=np.zeros(8, np.float32),
        sample_mask=np.zeros(8, np.bool_),
        epoch=epoch,
        final=False,
        decode_s=0.0,
        lost_packets=0,
    )


def clip(*chunks: Chunk) -> EmbeddedChunks:
    audio = np.arange(3 * len(chunks), dtype=np.float32).reshape(len(chunks), 3)
    return EmbeddedChunks(chunks, audio, (np.arange(len(chunks)) % 2 == 0).astype(np.float32))


def test_the_state_is_carried_through_a_clip_and_reset_between_clips_and_epochs() -> None:
    engine = Recording()
    calibration = calibration_from([clip(chunk(0), chunk(1), chunk(2, epoch=1)), clip(chunk(3))], engine, None)
    assert len(calibration.visual) == engine.calls == 4
    starts = [bool((feeds["h0"] == 0).all() and (feeds["c0"] == 0).all()) for feeds in calibration.visual]
    assert starts == [True, False, True, True]
    assert np.array_equal(calibration.visual[1]["c0"], engine.said[0]["c0_out"])
    assert [int(feeds["frames"].max()) for feeds in calibration.visual] == [0, 1, 2, 3]


def test_a_chunk_without_pictures_never_reaches_the_engine_and_leaves_the_state() -> None:
    engine = Recording()
    calibration = calibration_from([clip(chunk(0), chunk(1, pictures=False), chunk(2))], engine, None)
    assert engine.calls == 2
    assert np.array_equal(calibration.visual[1]["h0"], engine.said[0]["h0_out"])
    last = calibration.fusion[-1]
    assert last["visual_mask"].tolist() == [[1, 0, 1]]
    assert last["audio_mask"].tolist() == [[1, 0, 1]]
    assert not last["visual"][0, 1].any()
    assert np.array_equal(last["visual"][0, 2], engine.said[1]["embedding"][0])


@pytest.mark.parametrize(("window", "shown"), [(None, [1, 2, 3, 4]), (2, [1, 2, 2, 2])])
def test_fusion_is_fed_after_every_chunk_through_the_window(window: int | None, shown: list[int]) -> None:
    calibration = calibration_from([clip(*(chunk(index) for index in range(4)))], Recording(), window)
    assert [feeds["chunk_mask"].shape[1] for feeds in calibration.fusion] == shown


def test_every_feed_is_one_the_scorer_gives(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo bundle's own golden chunks: what the scorer feeds its engines, chunk by chunk, is what calibration collects."""
    from shortcast.runtime.bundle import Bundle

    golden = load_golden(demo / "golden" / "golden.npz")
    sounds = iter(golden.audio)
    monkeypatch.setattr(SoundEncoder, "embed", lambda self, samples, mask: next(sounds))
    fed: dict[str, list[Tensors]] = {"visual": [], "fusion": []}
    with Scorer(Bundle.open(demo), threads=1) as scorer:
        for name in fed:
            engine = getattr(scorer, f"_{name}")
            run = engine.run

            def recorded(feeds: Tensors, name: str = name, run=run) -> Tensors:
                fed[name].append(feeds)
                return run(feeds)

            monkeypatch.setattr(engine, "run", recorded)
        stream = scorer.new_stream()
        for piece in golden.chunks:
            scorer.step(stream, piece)
        monkeypatch.undo()
        clips = [EmbeddedChunks(golden.chunks, golden.audio, golden.audio_mask)]
        calibration = calibration_from(clips, scorer._visual, Bundle.open(demo).manifest.window_chunks)
    for name, feeds in fed.items():
        collected = getattr(calibration, name)
        assert len(collected) == len(feeds) == len(golden.chunks)
        for expected, found in zip(feeds, collected, strict=True):
            assert set(expected) == set(found)
            assert all(np.array_equal(expected[key], found[key]) and expected[key].dtype == found[key].dtype for key in expected)


def test_embeddings_that_do_not_belong_to_the_chunks_are_refused() -> None:
    wrong = replace(clip(chunk(0), chunk(1)), audio=np.zeros((3, 3), np.float32))
    with pytest.raises(EngineError, match="a clip of 2 chunks: expected as many sound embeddings and mask entries, got 3 and 2"):
        calibration_from([wrong], Recording(), None)


def test_no_clips_give_nothing() -> None:
    calibration = calibration_from([], Recording(), None)
    assert (calibration.visual, calibration.fusion) == ((), ())


def test_a_state_begins_at_zero_and_goes_on_under_the_names_of_the_inputs() -> None:
    engine = Recording()
    state = initial_state(engine, 3)
    assert {name: values.shape for name, values in state.items()} == {"h0": (3, 2), "c0": (3, 2)}
    assert not any(values.any() for values in state.values())
    assert set(carried_state({"embedding": state["h0"], "h0_out": state["h0"]})) == {"h0"}
