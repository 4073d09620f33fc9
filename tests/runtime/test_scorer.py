"""The scorer on real clips: stream equals batch, missing modalities, and no torch in the process."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shortcast.errors import MediaError, WeightsError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.chunks import read_chunks
from shortcast.runtime.intervals import ConformalIntervals, IntervalMargin
from shortcast.runtime.media import ReadOptions
from shortcast.runtime.scorer import Scorer

if TYPE_CHECKING:
    from tests.conftest import Trained

REAL = [
    "real/nasa_13013.mp4",
    "real/big_buck_bunny_0_30.webm",
    "real/bigbuckbunny.mp4",
    "real/hdr10-av1.mp4",
    "real/fire2.mp4",
    "real/sample.avi",
    "real/carphone_pristine.mp4",
    "derived/vertical_jfk.mp4",
    "derived/vfr_gap_libri.mp4",
    "derived/vertical_german.mp4",
    "derived/jfk_faststart_truncated_third.mp4",
    "odd/sample_shorter_audio.mp4",
    "audio_only/bear.flac",
    "audio_only/bbb_6ch_8kHz_opus.ogg",
]
TOLERANCE_Z = 1e-4
"""Standardised units."""


@pytest.fixture(scope="module")
def scorer(trained: "Trained") -> Scorer:
    return Scorer(Bundle.open(trained.bundle))


@pytest.mark.parametrize("clip", REAL)
def test_the_score_after_every_chunk_is_the_whole_clips_forward_pass_in_pytorch(
    scorer: Scorer, trained: "Trained", shared_data: Path, clip: str
) -> None:
    import torch

    from shortcast.export.golden import embed_pictures, embed_sound
    from shortcast.models.checkpoint import load_checkpoint
    from shortcast.runtime.whisper import SoundEncoder, resolve_whisper

    streamed = list(scorer.stream(shared_data / "clips" / clip))
    checkpoint = load_checkpoint(trained.checkpoint)
    with read_chunks(shared_data / "clips" / clip, checkpoint.contract) as stream:
        chunks = list(stream)
    sound = SoundEncoder(resolve_whisper("tiny.en"), checkpoint.contract.sound)
    audio, audio_mask = embed_sound(chunks, sound, checkpoint.contract.sound.embedding_dim)
    visual, visual_mask, _ = embed_pictures(chunks, checkpoint.autoencoder.encoder)
    batch = [torch.from_numpy(array)[None] for array in (visual, audio, visual_mask, audio_mask, np.ones_like(audio_mask))]
    with torch.inference_mode():
        whole = checkpoint.fusion(*batch)
    assert len(streamed) == len(chunks)
    np.testing.assert_allclose([score.z for score in streamed], whole.score[0].numpy(), atol=TOLERANCE_Z)
    quantiles = whole.quantiles[0].numpy()[:, [0, -1]].tolist()
    ends = [
        checkpoint.intervals.apply(low, high, chunks=chunk.index + 1, final=chunk.final)
        for (low, high), chunk in zip(quantiles, chunks, strict=True)
    ]
    np.testing.assert_allclose([score.interval for score in streamed], checkpoint.target.restore(ends), rtol=1e-3, atol=1e-3)
    logits = torch.softmax(whole.class_logits[0], dim=-1).numpy()
    np.testing.assert_allclose([score.class_probabilities for score in streamed], logits, atol=1e-4)
    for score in streamed:
        np.testing.assert_allclose(score.chunk_weights, whole.chunk_weights[0, score.index, : score.index + 1].numpy(), atol=1e-4)


@pytest.mark.parametrize("strategy", ["pool", "sequential"])
def test_a_model_with_a_window_streams_as_it_is_evaluated_and_holds_no_more_than_its_window(
    trained: "Trained", sample: Path, tmp_path: Path, strategy: str
) -> None:
    import torch

    from shortcast.export.exporter import ExportOptions, export_bundle
    from shortcast.export.golden import embed_pictures, embed_sound
    from shortcast.models.checkpoint import load_checkpoint, save_checkpoint
    from shortcast.models.dual_transformer import DualTransformer
    from shortcast.runtime.whisper import SoundEncoder, resolve_whisper
    from shortcast.training.evaluation import predict
    from shortcast.training.labelled import EmbeddedClip

    checkpoint = load_checkpoint(trained.checkpoint)
    windowed = DualTransformer(replace(checkpoint.fusion.config, strategy=strategy, window_chunks=3)).eval()
    windowed.load_state_dict(checkpoint.fusion.state_dict())
    save_checkpoint(replace(checkpoint, fusion=windowed), tmp_path / "windowed")
    export_bundle(tmp_path / "windowed", tmp_path / "windowed.shortcast", ExportOptions(golden_clip=sample))
    with read_chunks(sample, checkpoint.contract) as stream:
        chunks = list(stream)
    audio, heard = embed_sound(chunks, SoundEncoder(resolve_whisper("tiny.en"), checkpoint.contract.sound), 384)
    visual, seen, _ = embed_pictures(chunks, checkpoint.autoencoder.encoder)
    clip = EmbeddedClip(visual, seen > 0, audio, heard > 0, np.array([chunk.end_s for chunk in chunks]))
    with torch.inference_mode():
        (batch,) = predict(windowed, [clip])
    streamed = list(Scorer(Bundle.open(tmp_path / "windowed.shortcast")).stream(sample))
    assert len(streamed) > 3
    np.testing.assert_allclose([score.z for score in streamed], batch.score, atol=TOLERANCE_Z)
    most = 1 if strategy == "pool" else 3
    assert [len(score.chunk_weights) for score in streamed] == [min(index + 1, most) for index in range(len(streamed))]


def test_a_score_is_whole(scorer: Scorer, sample: Path) -> None:
    scores = list(scorer.stream(sample))
    assert [score.index for score in scores] == list(range(len(scores)))
    assert [score.final for score in scores] == [False] * (len(scores) - 1) + [True]
    for score in scores:
        assert score.value == pytest.approx(float(scorer.bundle.manifest.target.restore(score.z)))
        assert score.interval[0] < score.interval[1]
        assert sum(score.class_probabilities) == pytest.approx(1)
        assert sum(score.chunk_weights) == pytest.approx(1, abs=1e-5)
        assert len(score.chunk_weights) == score.index + 1
        assert 1 <= score.predicted_class <= 4
        assert score.has_pictures
        assert score.notes == ()
    assert scorer.score(sample).z == scores[-1].z


def test_the_margin_of_the_prefix_moves_the_interval_and_nothing_else(scorer: Scorer, sample: Path) -> None:
    rows = (IntervalMargin(1, 0.5, 20), IntervalMargin(3, -0.05, 20), IntervalMargin(None, 2.0, 20))
    plain, moved = (
        Scorer(replace(scorer.bundle, manifest=replace(scorer.bundle.manifest, intervals=ConformalIntervals(0.9, margins))))
        for margins in ((), rows)
    )
    target = scorer.bundle.manifest.target
    before, after = (list(each.stream(sample, options=ReadOptions(use_sound=False))) for each in (plain, moved))
    expected = [0.5, 0.5, *[-0.05] * (len(before) - 3), 2.0]
    for one, other, margin in zip(before, after, expected, strict=True):
        low, high = target.standardise(other.interval) - target.standardise(one.interval)
        assert (low, high) == pytest.approx((-margin, margin), abs=1e-6)
        assert (one.z, one.class_probabilities) == (other.z, other.class_probabilities)


def test_json_lines_hold_the_documented_keys(scorer: Scorer, sample: Path) -> None:
    plain = json.loads(json.dumps(scorer.score(sample).to_json()))
    schema = (Path(__file__).parents[2] / "docs" / "score-schema.md").read_text()
    rows = [line.split("|")[1] for line in schema.splitlines() if line.startswith("| `")]
    documented = {name.strip().strip("`") for row in rows for name in row.split(",")}
    assert set(plain) == documented


def test_without_sound_or_pictures_the_other_is_scored_and_it_is_said(scorer: Scorer, sample: Path) -> None:
    both = scorer.score(sample)
    deaf = scorer.score(sample, options=ReadOptions(use_sound=False))
    blind = scorer.score(sample, options=ReadOptions(use_pictures=False))
    assert (deaf.has_pictures, deaf.has_sound) == (True, False)
    assert (blind.has_pictures, blind.has_sound) == (False, True)
    assert deaf.notes == ("sound left out on request",)
    assert blind.notes == ("pictures left out on request",)
    assert len({both.z, deaf.z, blind.z}) == 3


def test_a_missing_stream_is_said(scorer: Scorer, shared_data: Path) -> None:
    assert "no pictures: scored from sound alone" in scorer.score(shared_data / "clips" / "audio_only" / "bear.flac").notes
    assert "no sound: scored from pictures alone" in scorer.score(shared_data / "clips" / "derived" / "vertical_no_audio_30s.mp4").notes


def test_what_was_lost_is_said(scorer: Scorer, shared_data: Path) -> None:
    score = scorer.score(shared_data / "clips" / "derived" / "jfk_faststart_truncated_third.mp4")
    assert any(note.startswith("truncated: 3.") and "of the 11.6 s the container declares" in note for note in score.notes)


def test_a_clip_without_sound_needs_no_whisper_weights(trained: "Trained", sample: Path, tmp_path: Path) -> None:
    with Scorer(Bundle.open(trained.bundle), whisper=tmp_path) as scorer:
        assert scorer.score(sample, options=ReadOptions(use_sound=False)).final
        with pytest.raises(WeightsError, match="holds no"):
            scorer.score(sample)


def test_streams_of_one_scorer_do_not_mix(scorer: Scorer, sample: Path, trained: "Trained") -> None:
    other = next(trained.manifest.parent.rglob("*.mp4"))
    alone = [[score.z for score in scorer.stream(source)] for source in (sample, other)]
    first, second = scorer.stream(sample), scorer.stream(other)
    mixed: list[list[float]] = [[], []]
    for a, b in zip(first, second, strict=False):
        mixed[0].append(a.z)
        mixed[1].append(b.z)
    for together, apart in zip(mixed, alone, strict=True):
        assert together == apart[: len(together)]


def test_a_clip_with_nothing_in_it_is_an_error(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(MediaError, match="is empty"):
        scorer.score(tmp_path / "empty.mp4")


def test_the_transcript_of_real_speech(trained: "Trained", shared_data: Path) -> None:
    with Scorer(Bundle.open(trained.bundle), transcribe=True) as scorer:
        score = scorer.score(shared_data / "clips" / "derived" / "vertical_jfk.mp4")
        silent = scorer.score(shared_data / "clips" / "odd" / "silent-black-10s.mp4")
    assert score.transcript is not None
    words = " ".join(segment.text for segment in score.transcript).lower()
    assert "ask not what your country can do for you" in words.replace(",", "")
    assert all(0 <= segment.start_s < segment.end_s <= 12 for segment in score.transcript)
    assert silent.transcript == ()


def test_torch_stays_out_of_a_process_that_scores_even_where_it_is_installed(trained: "Trained", sample: Path) -> None:
    program = (
        "import sys; from shortcast import Bundle, Scorer\n"
        f"score = Scorer(Bundle.open({str(trained.bundle)!r}), transcribe=True).score({str(sample)!r})\n"
        "assert score.final and score.has_sound\n"
        "import importlib.util; assert importlib.util.find_spec('torch')\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=sample.parent)
