"""The page is whole, closed in itself, and says what was measured; the folder is written whole."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.target import Target
from shortcast.training.bootstrap import Bootstrap, ConfidenceInterval
from shortcast.training.companions import Absent
from shortcast.training.dataset import FailedClip
from shortcast.training.evaluation import Prediction, Predictions, evaluate_predictions
from shortcast.training.evaluation_report import ClipFigures, EvaluationReport
from shortcast.training.labelled import LabelledClips
from shortcast.training.metrics import standardised_space
from shortcast.training.networks import LengthFigures, LossEpoch, NetworkFigures
from shortcast.training.outlier_errors import outlier_errors, outlier_sensitivity
from shortcast.training.overlap import Overlap
from shortcast.training.reconstruction import Reconstruction
from shortcast.training.report import page, write_report
from shortcast.training.studies import VIDEO, Predictor, calibration, coverage_figures, predictor_figures, prefix_figures
from shortcast.training.subsets import Subset, subset_figures

TARGET = Target("views", "log1p", 6.0, 2.0, (100.0, 400.0, 1600.0))
LEVELS = (0.05, 0.5, 0.95)
SECTIONS = (
    "about",
    "figures",
    "compared",
    "ablation",
    "subsets",
    "seconds",
    "predictions",
    "calibration",
    "classes",
    "outliers",
    "training",
    "pictures",
    "method",
)
CARD = {
    "autoencoder": {
        "history": [
            {"epoch": epoch, **{part: {"reconstruct": 0.1 / epoch, "predict": 0.2} for part in ("train", "validation")}} for epoch in (1, 2)
        ],
        "baselines": {"mean_frame": 0.3, "copy_last": 0.25},
    },
    "regressor": {"history": [{"epoch": 1, "train_loss": 0.8, "validation_loss": 0.7}]},
}


def a_prediction(score: float) -> Prediction:
    scores = np.array([0.0, score])
    return Prediction(scores, scores[:, None] + [-1.0, 0.0, 1.0], np.array([1, 2]), np.array([2.0, 4.0]))


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    z = np.linspace(-1.5, 2.0, 8)
    said = [a_prediction(value) for value in 0.6 * z]
    predictions = Predictions(said, said, said)
    bootstrap = Bootstrap([None] * 8, resamples=10)
    predictors = (
        Predictor("pictures and sound", "the model", 0.6 * z),
        Predictor("the training mean", "fitted", 0 * z),
        Predictor("<i>other</i>", "fitted", -z),
    )
    parts = (Subset("all", "everything", z > -9), Subset("sound", "without <sound>", z > 0))
    noise = np.random.default_rng(0).integers(0, 256, size=(2, 8, 4, 3), dtype=np.uint8)
    return EvaluationReport(
        checkpoint="model",
        checkpoint_sha256="c" * 64,
        manifest="manifest.jsonl",
        manifest_sha256="d" * 64,
        part="test",
        split="grouped by author",
        target="views",
        space=standardised_space(TARGET),
        authors=8,
        resamples=10,
        level=0.95,
        seed=0,
        trained_on="clips <b>of a test</b>",
        trained_split="grouped by author",
        overlap=Overlap("a test", 0, 0),
        failed=(FailedClip("gone", "no such file"),),
        figures=evaluate_predictions(predictions, LabelledClips([], z, TARGET.class_of(TARGET.restore(z))), TARGET, LEVELS),
        predictors=tuple(predictor_figures(predictors, z, TARGET, bootstrap)),
        absent=(Absent("small3d", "not trained"),),
        networks=(
            NetworkFigures("pictures and sound", "the model", "embeddings", 1234, None, None, ()),
            NetworkFigures(
                "small3d", VIDEO, "16 frames of 112x64 pixels", 292_209, 61.5, 2, (LossEpoch(1, 0.5, 0.6), LossEpoch(2, 0.4, 0.5))
            ),
        ),
        lengths=tuple(
            LengthFigures(name, strategy, 1234, 2.0, ConfidenceInterval(0.75, 0.7, 0.8, 10), ConfidenceInterval(0.5, 0.4, 0.6, 10))
            for name, strategy in (("pictures and sound", "sequential"), ("length strategy: pool", "pool"))
        ),
        subsets=tuple(subset_figures(parts, 0.6 * z, z, lambda kept: Bootstrap([None] * int(kept.sum()), resamples=10))),
        by_seconds=tuple(prefix_figures(said, z, bootstrap, chunk_s=2.0)),
        calibration=tuple(calibration(said, z, LEVELS, bootstrap)),
        coverage=tuple(coverage_figures(said, z, bootstrap, intervals="as predicted", nominal=0.9, chunk_s=2.0)),
        outliers=tuple(outlier_sensitivity(0.6 * z, z, TARGET)),
        outlier_errors=outlier_errors(predictors, z, TARGET, percents=(20.0,)),
        clips=tuple(ClipFigures(f"c{index}", 4.0, 9.0, 8.0, 1.0, 20.0, value, 0.6 * value, 1, 2) for index, value in enumerate(z)),
        reconstructions=(Reconstruction("c0", 0.0, 2.0, 0.1, noise, noise),),
        card=CARD,
    )


class Reader(HTMLParser):
    """Collects what a page asks for, and refuses tags that do not close in order."""

    VOID = ("meta", "img", "br", "path", "circle", "polyline", "polygon")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.sections: list[str | None] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "section":
            self.sections.append(dict(attrs)["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_has_every_section_and_asks_for_nothing(report: EvaluationReport) -> None:
    text = page(report)
    found = Reader(text)
    assert found.open == []
    assert tuple(found.sections) == SECTIONS
    assert found.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in found.links)
    assert not {"script", "link", "iframe"} & {*found.seen}
    assert "url(" not in text
    assert "@import" not in text
    assert found.seen.count("svg") == 17
    assert found.seen.count("img") == 2


def test_the_page_says_what_was_measured(report: EvaluationReport) -> None:
    text = page(report)
    for words in ("8 (test), by 8 authors", "grouped by author", "standardised log1p(views)", "0 of these clips were trained on", "gone"):
        assert words in text
    for words in ("small3d: not trained", "not scored", "without &lt;sound&gt;", "&lt;i&gt;other&lt;/i&gt;", "tukey"):
        assert words in text
    assert "clips &lt;b&gt;of a test&lt;/b&gt;" in text
    assert "too good" not in text


def test_the_page_says_what_was_trained_beside_the_model(report: EvaluationReport) -> None:
    text = page(report)
    for words in ("16 frames of 112x64 pixels", "292,209", "MSE after 2 s", "<td>pool</td>", "Huber loss, standardised units"):
        assert words in text
    alone = page(replace(report, networks=report.networks[:1], lengths=()))
    assert "Networks that were trained" not in alone
    assert "MSE after 2 s" not in alone


def test_overlap_is_a_warning_and_unknown_overlap_is_said(report: EvaluationReport) -> None:
    assert "the figures are too good" in page(replace(report, overlap=Overlap("a test", 3, 0)))
    assert "is unknown: not told" in page(replace(report, overlap=Overlap("unknown: not told", None, None)))


def test_a_card_that_training_did_not_write_has_no_curve(report: EvaluationReport) -> None:
    text = page(replace(report, card={"made": "by hand"}, reconstructions=()))
    assert "no loss curve" in text
    assert "None of the clips looked at has pictures" in text
    assert Reader(text).open == []


def test_the_folder_has_page_and_json_and_nothing_is_left_beside_it(report: EvaluationReport, tmp_path: Path) -> None:
    written = write_report(report, tmp_path / "new" / "report")
    assert written.read_text(encoding="utf-8") == page(report)
    assert json.loads((written.parent / "report.json").read_text())["format"] == 2
    assert [path.name for path in written.parent.parent.iterdir()] == ["report"]


def test_only_a_report_is_replaced_and_only_when_told(report: EvaluationReport, tmp_path: Path) -> None:
    written = write_report(report, tmp_path / "report")
    with pytest.raises(DataError, match="--force"):
        write_report(report, tmp_path / "report")
    written.write_text("old")
    write_report(report, tmp_path / "report", force=True)
    assert written.read_text() != "old"
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="holds no report"):
        write_report(report, tmp_path / "photos", force=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
