"""`make paper` in miniature: the same stages on a handful of clips, to the tables with every row, interval and ceiling."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from shortcast.benchmarks.paper_table import BEGIN, END, Interval, main, read_results, write_between
from shortcast.errors import DataError
from shortcast.models.autoencoder import DecoderConfig
from shortcast.models.convlstm import EncoderConfig
from shortcast.models.dual_transformer import FusionConfig
from shortcast.runtime.contract import Contract, PictureContract
from shortcast.training.clips import read_manifest, write_manifest
from shortcast.training.compute import Compute
from shortcast.training.evaluate import EvaluateOptions, evaluate_checkpoint
from shortcast.training.fit_autoencoder import AutoencoderOptions
from shortcast.training.fit_regressor import RegressorOptions
from shortcast.training.report import write_report
from shortcast.training.studies import FITTED, LENGTH, MASKED, ONE_MODALITY, VIDEO, WHOLE
from shortcast.training.success import ceiling
from shortcast.training.synth import synthesise
from shortcast.training.train import train
from shortcast.training.train_options import TrainOptions
from shortcast.training.video_comparison import plan_videos

ROOT = Path(__file__).parents[2]
NETWORKS = ("small3d", "r3d_18", "swin3d_t")
KINDS = {
    "pictures and sound": WHOLE,
    "pictures alone": MASKED,
    "sound alone": MASKED,
    "the training mean": FITTED,
    "the training median": FITTED,
    "author mean": FITTED,
    "ridge on duration": FITTED,
    "ridge on pooled pictures": FITTED,
    "ridge on pooled sound": FITTED,
    "ridge on pooled pictures and sound": FITTED,
    "trained on pictures alone": ONE_MODALITY,
    "trained on sound alone": ONE_MODALITY,
    "length strategy: pad": LENGTH,
    "length strategy: pool": LENGTH,
    "length strategy: sequential, 4 chunks": LENGTH,
    **dict.fromkeys(NETWORKS, VIDEO),
}


OPTIONS = TrainOptions(
    seed=7,
    contract=Contract(picture=PictureContract(fps=Fraction(2), height=32, width=16)),
    encoder=EncoderConfig(
        frames_per_chunk=4, height=32, width=16, stem_channels=(4, 4, 4), hidden_channels=(4, 4), pool_grid=(2, 1), embedding_dim=8
    ),
    decoder=DecoderConfig(hidden_channels=4, head_channels=4, coarse_windows=2, coarse_hidden=8),
    fusion=FusionConfig(width=8, heads=2, layers=1, feedforward=8),
    autoencoder=AutoencoderOptions(epochs=1, chunks_per_epoch=8, batch=2, validation_chunks=4),
    regressor=RegressorOptions(epochs=1),
    videos=plan_videos(NETWORKS, sizes=["2x32x32", "small3d=4x32x32"], epochs=["1"], compute=Compute()),
    ablations=True,
    jobs=1,
    threads=1,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made clips by twelve authors, of whom three are held out."""
    folder = tmp_path_factory.mktemp("clips")
    rows = read_manifest(synthesise(folder / "made", clips=24, seed=7, jobs=1))
    parts = ("train",) * 14 + ("val",) * 4 + ("test",) * 6
    dealt = [replace(row, author=f"author {place // 2}", split=part) for place, (row, part) in enumerate(zip(rows, parts, strict=True))]
    return write_manifest(folder / "manifest.jsonl", dealt)


@pytest.fixture(scope="module")
def report(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage of `make paper`, each as short as it can be."""
    folder = tmp_path_factory.mktemp("paper")
    train(manifest, folder / "model", options=OPTIONS)
    looked_at = EvaluateOptions(resamples=20, threads=1, jobs=1, outliers=(20.0,))
    write_report(evaluate_checkpoint(folder / "model", manifest, options=looked_at), folder / "report")
    return folder / "report"


def cells(document: str) -> dict[str, list[str]]:
    """Rows of the tables by their first cell."""
    split = ([cell.strip() for cell in line.strip("|").split("|")] for line in document.splitlines() if line.startswith("| "))
    found: dict[str, list[str]] = {}
    for first, *rest in split:
        found.setdefault(first, rest)
    return found


def test_every_predictor_has_its_row_kind_and_intervals_beside_the_ceiling(report: Path, manifest: Path, tmp_path: Path) -> None:
    document, numbers = tmp_path / "results.md", tmp_path / "paper.json"
    shutil.copy(ROOT / "docs" / "results.md", document)
    for _ in range(2):  # the second time over what the first has written
        main([str(report), str(manifest), "--document", str(document), "--json", str(numbers)])
    text = document.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    rows = cells(text)
    for predictor, kind in KINDS.items():
        assert rows[predictor][0] == kind
        assert rows[predictor][1].count("[") == rows[predictor][2].count("[") == 1
        assert rows[predictor][4].count("[") == (predictor != "pictures and sound")
    told = json.loads((report / "report.json").read_text())
    ids = {clip["id"] for clip in told["clips"]}
    best = ceiling([row for row in read_manifest(manifest) if row.id in ids])
    assert rows["ceiling, pictures and sound"][2:4] == [f"{best.r2:.3f}", f"{best.spearman:.3f}"]
    assert f"{len(ids)} test clips" in text
    assert "MSE after 2 s" in text
    assert rows["pool"][0] == "length strategy: pool"

    plain = json.loads(numbers.read_text())
    assert {row["predictor"]: row["kind"] for row in plain["rows"]} == KINDS
    assert plain["gap"]["r2"] == pytest.approx(best.r2 - plain["rows"][0]["metrics"]["r2"]["estimate"])
    assert {"ablations", "video networks", "autoencoder", "regressor"} <= set(plain["seconds"])
    assert {"torch", "shortcast"} <= set(plain["versions"])
    assert [network["predictor"] for network in plain["networks"]][-3:] == list(NETWORKS)
    assert all(network["parameters"] > 0 and network["epochs"] > 0 for network in plain["networks"])
    assert plain["cpu"]
    assert plain["cpus"] > 0


def test_clips_that_are_not_those_of_the_report_are_refused(report: Path, manifest: Path, tmp_path: Path) -> None:
    few = write_manifest(tmp_path / "few.jsonl", read_manifest(manifest)[:1])
    with pytest.raises(DataError, match="give the manifest of the evaluation"):
        read_results(report, few)
    with pytest.raises(DataError, match="shortcast evaluate"):
        read_results(tmp_path, few)


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"{BEGIN} and no end")
    with pytest.raises(DataError, match="expected the lines"):
        write_between(document, "table")
    assert document.read_text() == f"{BEGIN} and no end"


@pytest.mark.parametrize(
    ("interval", "holds", "shown"),
    [
        (Interval(-0.1, -0.2, 0.0), True, "-0.100 [-0.200, 0.000]"),
        (Interval(-0.1, -0.2, -0.01), False, "-0.100 [-0.200, -0.010]"),
        (Interval(0.5, None, None), False, "0.500"),
        (Interval(None, None, None), False, "-"),
    ],
)
def test_an_interval_that_holds_zero_is_known_as_such(interval: Interval, holds: bool, shown: str) -> None:
    assert (interval.holds_zero, str(interval)) == (holds, shown)
