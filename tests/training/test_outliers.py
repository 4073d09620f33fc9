"""What outliers do to error figures: on three made rows, on heavy tails, and on the real labels that the claims are about."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.losses import LOSSES
from shortcast.training.outliers import influence_curve, outlier_study, study_file
from shortcast.training.tails import tail_of

DRAW = np.random.default_rng(0)
COUNTS = np.floor(DRAW.lognormal(8, 2.2, 2000))


def test_figures_of_a_column_done_by_hand() -> None:
    # Mean 3, deviation 3, so z is -1, -1, 0, 2 over the four known rows, and the median is -0.5.
    study = outlier_study(np.array([0.0, 0.0, np.nan, 3.0, 9.0]), column="likes", top=0.25)
    assert (study.rows, study.hidden, study.top_rows) == (4, 1, 1)
    deviation = np.sqrt(13.5)
    mean = study.of("none").of("mean")
    assert mean.of("mse").whole == pytest.approx(1)
    assert mean.of("mse").without_top == pytest.approx(18 / 13.5 / 3)
    assert mean.of("mse").top_share == pytest.approx(36 / 54)
    assert mean.of("mae").whole == pytest.approx(12 / 4 / deviation)
    median = study.of("none").of("median")
    assert median.of("mae").whole == pytest.approx((1.5 + 1.5 + 1.5 + 7.5) / 4 / deviation)
    assert median.of("mae").without_top == pytest.approx(1.5 / deviation)
    refitted = study.of("none").of("mean without the top")
    assert refitted.of("mse").whole == pytest.approx((1 + 1 + 4 + 64) / 4 / 13.5)


def test_a_transform_and_a_robust_loss_each_take_the_outliers_weight_away() -> None:
    study = outlier_study(COUNTS, column="views")
    raw, logs = (study.of(transform).of("mean") for transform in ("none", "log1p"))
    assert raw.of("mse").top_share > 0.7 > 0.2 > logs.of("mse").top_share
    assert raw.of("mse").top_share > raw.of("huber").top_share > raw.of("student-t").top_share
    assert raw.of("mse").without_top < 0.4 * raw.of("mse").whole
    assert logs.of("mse").without_top > 0.8 * logs.of("mse").whole
    assert abs(study.of("yeo-johnson").skew) < 0.2 < 5 < study.of("none").skew
    assert study.of("rank-gauss").max_z < 4


def test_the_top_share_is_the_one_that_an_audit_prints() -> None:
    study, tail = outlier_study(COUNTS, column="views"), tail_of("views", COUNTS)
    assert study.of("none").of("mean").of("mse").top_share == pytest.approx(tail.top_share)
    assert study.of("log1p").of("mean").of("mse").top_share == pytest.approx(tail.top_share_log1p)


def test_a_linear_predictor_needs_features_and_uses_them() -> None:
    followers = np.log(COUNTS + 1) + DRAW.normal(0, 0.5, len(COUNTS))
    followers[::7] = np.nan
    study = outlier_study(COUNTS, column="views", features={"followers": followers, "constant": np.ones(len(COUNTS))})
    logs = study.of("log1p")
    assert logs.of("linear").of("mse").whole < 0.5 < logs.of("mean").of("mse").whole
    alone = outlier_study(COUNTS, column="views", features={"constant": np.ones(len(COUNTS))})
    assert [figures.predictor for figures in alone.of("none").predictors] == [
        "mean",
        "median",
        "mean without the top",
        "median without the top",
    ]


def test_influence_curves_are_data_for_a_plot() -> None:
    curve = influence_curve("huber:2", reach=4, points=5)
    assert (curve.error, curve.value, curve.influence) == ((-4, -2, 0, 2, 4), (6, 2, 0, 2, 6), (-2, -2, 0, 2, 2))
    assert [curve.loss for curve in outlier_study(COUNTS, column="views").curves] == list(LOSSES)


def test_it_is_plain_json_and_says_which_transform_was_refused() -> None:
    study = outlier_study(COUNTS - 500, column="change", losses=("mse", "student-t:4"))
    plain = json.loads(json.dumps(study.to_json(), allow_nan=False))
    assert [space["transform"] for space in plain["spaces"]] == ["none", "yeo-johnson", "rank-gauss"]
    assert "at least 0" in plain["refused"]["log1p"]
    assert plain["spaces"][0]["predictors"][0]["losses"][1]["loss"] == "student-t:4"
    with pytest.raises(DataError, match="has no 'log1p'"):
        study.of("log1p")


@pytest.mark.parametrize(
    ("values", "top", "words"),
    [
        (COUNTS, 0.0, "between 0 and 1"),
        (COUNTS, 1.0, "between 0 and 1"),
        (np.array([3.0, np.nan]), 0.5, "leaves rows over"),
        (np.ones(9), 0.1, "constant"),
    ],
)
def test_what_cannot_be_studied_is_refused(values: np.ndarray, top: float, words: str) -> None:
    with pytest.raises(DataError, match=words):
        outlier_study(values, column="views", top=top)


def test_a_file_is_studied_with_its_own_features(tmp_path: Path) -> None:
    lines = [f"{int(count)},{length}" for count, length in zip(COUNTS[:300], np.log1p(COUNTS[:300]), strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["plays,seconds", *lines]))
    study = study_file(tmp_path / "labels.csv", target="views", columns={"views": "plays"}, top=0.05)
    assert (study.rows, study.top_rows) == (300, 15)
    assert study.of("log1p").of("linear").of("mse").whole == pytest.approx(0, abs=1e-9)
    with pytest.raises(DataError, match="no column of numbers 'likes'"):
        study_file(tmp_path / "labels.csv", target="likes")


@pytest.mark.parametrize(
    ("file", "column", "roles", "raw", "logs"),
    [
        ("tiktok_german_news_2023.csv", "likes", {"author": "outlet", "created_at": "created_hour"}, 0.881, 0.067),
        ("tiktok_german_news_2023.csv", "shares", {"author": "outlet", "created_at": "created_hour"}, 0.900, 0.084),
        ("youtube_trending_us_2017.csv", "views", {"author": "channel"}, 0.684, 0.136),
        ("superbowl_ads_youtube.csv", "views", {"views": "view_count"}, 0.97, 0.11),
    ],
)
def test_on_real_labels_one_percent_of_the_rows_is_most_of_the_squared_error(
    shared_data: Path, file: str, column: str, roles: dict[str, str], raw: float, logs: float
) -> None:
    study = study_file(shared_data / "labels" / file, target=column, columns=roles)
    for predictor in ("mean", "linear"):
        assert study.of("none").of(predictor).of("mse").top_share == pytest.approx(raw, abs=0.03)
        assert study.of("log1p").of(predictor).of("mse").top_share == pytest.approx(logs, abs=0.015)
    assert study.of("none").of("mean").of("mse").whole == pytest.approx(1)
    mean, median = (study.of("none").of(name) for name in ("mean", "median"))
    assert median.of("mse").whole > mean.of("mse").whole  # MSE and MAE disagree about which one is better
    assert median.of("mae").whole < 0.85 * mean.of("mae").whole
    assert all(mean.of(loss).top_share < mean.of("mse").top_share for loss in LOSSES if loss != "mse")
